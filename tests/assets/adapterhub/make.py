"""How the files beside this one were made: what adapter-hub/adapters says about adapters it trained, and about ours.

adapters 1.3.0 needs transformers 4.57, so it lives in an environment of its own; three commands, in this order:

    oracle-env/bin/pip install adapters==1.3.0 transformers==4.57.6 torch==2.13.0
    oracle-env/bin/python tests/assets/adapterhub/make.py theirs     models, their adapters, logits
    python tests/assets/adapterhub/make.py ours                      the same adapters, written by this package
    oracle-env/bin/python tests/assets/adapterhub/make.py judge      the logits of what this package wrote

`theirs/CASE` are folders as the library writes them (one as the older pickle), `ours/CASE` as we do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
SIZES = {
    "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 16,
}  # fmt: skip
FAMILIES = {
    "bert": SIZES,
    "roberta": {**SIZES, "type_vocab_size": 1, "pad_token_id": 0},
    "distilbert": {"vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 16},
    "albert": {**SIZES, "embedding_size": 8},
    "electra": {**SIZES, "embedding_size": 8},
    "xlm-roberta": {**SIZES, "type_vocab_size": 1, "pad_token_id": 0},
    "deberta-v2": {**SIZES, "relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"],
                   "share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0},
}
CASES = {
    "bert-seq_bn": "seq_bn[reduction_factor=4]",
    "bert-double_seq_bn": "double_seq_bn[reduction_factor=4, ln_before=True, ln_after=True]",
    "bert-residuals": "seq_bn[reduction_factor=4, residual_before_ln=False, ln_after=True, adapter_residual_before_ln=True]",
    "bert-par_bn": "par_bn[reduction_factor=4]",
    "bert-lora": "lora[r=2, alpha=6, intermediate_lora=True, output_lora=True]",
    "roberta-seq_bn": "seq_bn[reduction_factor=8, non_linearity='gelu']",
    "distilbert-double_seq_bn": "double_seq_bn[reduction_factor=4]",
    "distilbert-lora": "lora[r=2]",
    "albert-seq_bn": "seq_bn[reduction_factor=4]",
    "electra-double_seq_bn": "double_seq_bn[reduction_factor=4]",
    "xlm-roberta-par_bn": "par_bn[reduction_factor=4]",
    "deberta-v2-double_seq_bn": "double_seq_bn[reduction_factor=4]",
    "deberta-v2-par_bn": "par_bn[reduction_factor=4, mh_adapter=True]",
    "deberta-v2-lora": "lora[r=2, output_lora=True]",
}
OLD_FILES = "bert-double_seq_bn"
"""The case that is kept as a pickle."""
IDS = torch.tensor([[2, 7, 11, 5, 29, 3], [2, 8, 1, 19, 6, 3]])


def theirs() -> None:
    import adapters
    from transformers import AutoConfig, AutoModelForSequenceClassification

    logits = {}
    for family, sizes in FAMILIES.items():
        torch.manual_seed(0)
        net = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, num_labels=3, **sizes)).eval()
        shake(net, 0.2)
        net.save_pretrained(HERE / "models" / family)
        adapters.init(net)
        logits[f"bare.{family}"] = net(input_ids=IDS).logits
        for case, settings in CASES.items():
            if family_of(case) != family:
                continue
            net.add_adapter(case, config=settings)
            net.set_active_adapters(case)
            shake(net, 0.3, only=case)
            logits[f"theirs.{case}"] = net(input_ids=IDS).logits
            folder = HERE / "theirs" / case
            folder.mkdir(parents=True, exist_ok=True)
            net.save_adapter(str(folder), case, with_head=True, use_safetensors=case != OLD_FILES)
            net.delete_adapter(case)
    save_file(logits, HERE / "logits.safetensors")


def family_of(case: str) -> str:
    return case.rpartition("-")[0]


def shake(net: torch.nn.Module, size: float, only: str = "") -> None:
    """No parameter stays at a zero or one that would hide something."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if only in name:
                parameter.add_(torch.randn_like(parameter) * size)


def ours() -> None:
    from transformers import AutoModelForSequenceClassification

    from understudy.adapters import extract, put
    from understudy.adapters.files import read_adapter, write_adapter

    for case in CASES:
        net = AutoModelForSequenceClassification.from_pretrained(HERE / "models" / family_of(case)).eval()
        put(net, read_adapter(HERE / "theirs" / case, net))
        folder = write_adapter(HERE / "ours" / case, extract(net, head=True), net, layout="adapterhub", name=case)
        (folder / "manifest.json").unlink()  # checksums, which say nothing here


def judge() -> None:
    import adapters
    from transformers import AutoModelForSequenceClassification

    logits = load_file(HERE / "logits.safetensors")
    for case in CASES:
        net = AutoModelForSequenceClassification.from_pretrained(HERE / "models" / family_of(case)).eval()
        adapters.init(net)
        net.load_adapter(str(HERE / "ours" / case), set_active=True, use_safetensors=True)
        logits[f"ours.{case}"] = net(input_ids=IDS).logits
    save_file({key: tensor.detach() for key, tensor in logits.items()}, HERE / "logits.safetensors")
    differences = {case: float((logits[f"ours.{case}"] - logits[f"theirs.{case}"]).abs().max()) for case in CASES}
    print(json.dumps(differences, indent=1))


if __name__ == "__main__":
    with torch.no_grad():
        {"theirs": theirs, "ours": ours, "judge": judge}[sys.argv[1]]()
