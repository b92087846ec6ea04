"""Randomly initialised models of every family, three layers deep, and a word tokenizer: what the tests run on."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

WORDS = [
    "my",
    "printer",
    "is",
    "on",
    "fire",
    "please",
    "help",
    "the",
    "laptop",
    "will",
    "not",
    "start",
    "again",
    "today",
    "thanks",
    "a",
    "lot",
    "broken",
    "screen",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    # The padding index is not 1, as in no released RoBERTa: the position offset must come from the configuration.
    "roberta": _BERT | {"type_vocab_size": 1, "pad_token_id": 0},
    "xlm-roberta": _BERT | {"type_vocab_size": 1, "pad_token_id": 0},
    "electra": _BERT | {"embedding_size": 16},
    "distilbert": {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 40,
    },
    "albert": _BERT
    | {"embedding_size": 16, "num_hidden_groups": 1, "classifier_dropout_prob": 0.1},
    "deberta-v2": _BERT
    | {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "conv_kernel_size": 3,
        "legacy": False,
    },
    "modernbert": _BERT
    | {
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "reference_compile": False,
    },
}
FAMILIES = sorted(CONFIGS)

_HEADS = {
    "classification": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
    "text": AutoModelForMaskedLM,
    "backbone": AutoModel,
}


def tiny_config(family: str, **changes: Any) -> Any:
    ids = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    ids |= {"cls_token_id": 2, "sep_token_id": 3} if family == "modernbert" else {}
    return AutoConfig.for_model(family, **{**ids, **CONFIGS[family], **changes})


def tiny_net(
    family: str, head: str = "classification", *, seed: int = 0, **changes: Any
) -> Any:
    """A model in eval mode. Every parameter is random, biases and norms too, so that nothing hides in a zero or one."""
    torch.manual_seed(seed)
    net = _HEADS[head].from_config(tiny_config(family, **changes)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


STRUCTURES = ("stock", "cut", "shared")
KEPT_HEADS = [[2, 0], [], [3, 1, 0]]
KEPT_NEURONS = [[5, 40, 7], list(range(48)), []]


def tiny_structured(
    family: str, structure: str, head: str = "classification", *, seed: int = 0, **changes: Any
) -> Any:
    """A network of three layers: stock, cut unevenly (a layer without heads, one without neurons), or two layers of
    which the first is used again with queries and keys exchanged (ALBERT's one layer: three times)."""
    from understudy.models.restructure import cut, physical_layers, reuse

    if structure == "shared":
        changes["n_layers" if family == "distilbert" else "num_hidden_layers"] = 2
    net = tiny_net(family, head, seed=seed, **changes)
    if structure == "cut":
        number = len(physical_layers(net))
        cut(net, heads=KEPT_HEADS[:number], neurons=KEPT_NEURONS[:number])
    elif structure == "shared":
        reuse(net, ((0, False), (0 if family == "albert" else 1, False), (0, True)))
    return net


def tiny_tokenizer(*, lowercase: bool = True) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=40,
    )


def tiny_ids(rows: int = 2, length: int = 7, *, seed: int = 0) -> torch.Tensor:
    """Token ids (rows, length), no padding among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        len(SPECIAL), len(SPECIAL) + len(WORDS), (rows, length), generator=generator
    )
