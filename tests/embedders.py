"""Folders of embedding models in the toy world, as sentence-transformers of any version leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import toys
from safetensors.torch import save_file

DENSE = {"activation_function": "torch.nn.modules.activation.Tanh", "bias": True}


def save(folder: Path, *, modules: list[Any] | None = None, prompts: dict[str, str] | None = None, layers: int = 2, seed: int = 0,
         length: int = 32, **settings: Any) -> Path:  # fmt: skip
    """A toy BERT with modules: ways of pooling as a list, a width for a Dense, or "normalize"."""
    net = toys.bert(layers=layers, seed=seed, head="BertModel")
    with torch.no_grad():
        for layer in net.encoder.layer:  # as drawn, layers hardly change what passes through them
            for parameter in layer.parameters():
                parameter.mul_(6 if parameter.ndim == 2 else 1)
    net.save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    width = toys.config().hidden_size
    for number, module in enumerate(modules or [["mean"], "normalize"], 1):
        name = "Normalize" if module == "normalize" else "Dense" if isinstance(module, int) else "Pooling"
        path = f"{number}_{name}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"})
        if name == "Pooling":
            content = {"word_embedding_dimension": width, **settings}
            content |= {f"pooling_mode_{way}": way in module for way in WAYS.values()} | {
                f"pooling_mode_{WAYS[way]}": True for way in module
            }
            write(folder / path / "config.json", content)
            width *= len(module)
        elif name == "Dense":
            write(folder / path / "config.json", {"in_features": width, "out_features": module, **DENSE})
            draw = torch.Generator().manual_seed(number)
            weight, bias = torch.randn(module, width, generator=draw) / 6, torch.randn(module, generator=draw)
            save_file({"linear.weight": weight, "linear.bias": bias}, folder / path / "model.safetensors")
            width = module
    write(folder / "modules.json", listed)
    write(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    about: dict[str, Any] = {"__version__": {"sentence_transformers": "2.7.0"}}
    if prompts is not None:
        about |= {"prompts": prompts, "default_prompt_name": None}
    write(folder / "config_sentence_transformers.json", about)
    return folder


WAYS = {
    "cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens", "lasttoken": "lasttoken",
}  # fmt: skip


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def change(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    write(path, {key: value for key, value in content.items() if value is not None})
