"""AdapterHub's folders: `adapter_config.json` and `adapter.safetensors` (older: the pickle `pytorch_adapter.bin`).

    bert.encoder.layer.0.output.adapters.NAME.adapter_down.0.weight               (M, D); index 1 behind a norm of its own
    bert.encoder.layer.0.attention.output.adapters.NAME.adapter_up.weight         (D, M)
    distilbert.transformer.layer.0.attention.q_lin.loras.NAME.lora_A              (r, in)

A head lies beside them: `head_config.json` and `model_head.safetensors`, under the names it has in the model.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from understudy.adapters.inject import Adapter, Address
from understudy.adapters.peft_files import found_as, paths, shared_layers
from understudy.base.errors import DataError, RecipeError
from understudy.models.anatomy import Net, anatomy
from understudy.models.compact import stock_class_of
from understudy.recipe.adapter import BottleneckAdapter, Ia3Adapter, LoraAdapter, written_out

_HOLDERS = {
    "distilbert": {"attention": "attention_adapters", "ffn": "output_adapters"},
    "albert": {"attention": "attention.attention_adapters", "ffn": "output_adapters"},
    "modernbert": {"attention": "attn", "ffn": "mlp"},  # that library has none: the same layout, under names of ours
}
_BERT = {"attention": "attention.output", "ffn": "output"}
_TENSOR = re.compile(
    r"(?P<path>.+)\.(?P<kind>adapters|loras)\.(?P<name>[^.]+)\."
    r"(?P<what>adapter_down\.[01]|adapter_up|adapter_norm_before|adapter_norm_after|lora_A|lora_B)(?P<tensor>\.weight|\.bias)?"
)
_PLAIN: dict[str, Any] = {
    "phm_layer": False, "inv_adapter": None, "use_gating": False, "cross_adapter": False, "stochastic_depth": 0.0,
    "use_dora": False, "vera_d": None, "vera_b": None,
}  # fmt: skip
"""Settings of AdapterHub that ask for something else than a plain bottleneck or LoRA, and their harmless values."""
_OLD_NAMES = {"gelu": "gelu_new", "gelu_orig": "gelu"}
_ROLES = {"q": "query", "k": "key", "v": "value"}


def _holders(net: Net) -> dict[str, tuple[int, str]]:
    """Name of what holds AdapterHub's bottlenecks -> (layer, side)."""
    row = anatomy(net)
    names = {id(module): name for name, module in net.named_modules()}
    found: dict[str, tuple[int, str]] = {}
    for number, layer in enumerate(row.layers(net)):
        for side, path in _HOLDERS.get(row.family, _BERT).items():
            found.setdefault(f"{names[id(layer)]}.{path}", (number, side))
    return found


def parse(config: dict[str, Any], tensors: dict[str, Tensor], head: dict[str, Tensor], net: Net, where: str) -> Adapter:
    """An adapter from the content of an AdapterHub folder. A head that is not the model's own kind is left out."""
    known = {**_holders(net), **paths(net)}
    base = net.base_model_prefix
    inner = config.get("config")
    norm_first = isinstance(inner, dict) and bool(inner.get("ln_before"))
    found: dict[Address, Tensor] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        path = found_as(match["path"], known, base) if match else None
        if match is None or path is None:
            raise DataError(f"{where}: {name} has no place in a {anatomy(net).family} model, or is not supported.")
        what, part = match["what"], match["tensor"] or ""
        if what.startswith("adapter_down"):
            if norm_first and what.endswith("0"):
                continue  # the norm, which is there under its own name too
            what = "down"
        key = what[-1] if what.startswith("lora_") else f"{what.removeprefix('adapter_')}{part}"
        found[(*known[path], key)] = tensor
    settings = _settings(config, found, len(anatomy(net).layers(net)), where)
    own = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    return Adapter(settings, found, head if set(head) <= set(own) else {})


def _settings(config: dict[str, Any], found: dict[Address, Tensor], depth: int, where: str) -> Any:
    inner = config.get("config", config)
    if isinstance(inner, str):
        inner = written_out(inner)
    wrong = {key: inner[key] for key, harmless in _PLAIN.items() if inner.get(key, harmless) != harmless}
    architecture = inner.get("architecture")
    if wrong or architecture not in (None, "lora") or inner.get("composition_mode", "add") != "add":
        what = ", ".join(f"{key}: {value}" for key, value in wrong.items()) or f"architecture: {architecture}"
        raise RecipeError(
            f"{where}: this kind of adapter ({what}) is not supported; plain bottlenecks and LoRA are. Hypercomplex "
            "(compacter) layers, prefixes and invertible parts have no counterpart in another model."
        )
    if architecture == "lora":
        roles = tuple(dict.fromkeys(role for _, role, _ in found))
        layers = shared_layers(found, roles, depth, where)
        ours = {"r": inner["r"], "alpha": float(inner["alpha"]), "dropout": float(inner.get("dropout") or 0.0)}
        return LoraAdapter.model_validate({**ours, "targets": roles, "layers": layers})
    ours = {key: inner[key] for key in BottleneckAdapter.model_fields if key in inner and key != "kind"}
    if "version" not in config:  # before versions were noted, gelu meant its approximation
        name = str(ours.get("non_linearity"))
        ours["non_linearity"] = _OLD_NAMES.get(name, name)
    for key in ("reduction_factor", "scaling", "dropout"):
        if isinstance(ours.get(key), int):
            ours[key] = float(ours[key])
    try:
        return BottleneckAdapter.model_validate(ours)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(
            f"{where}: {'.'.join(map(str, first['loc'])) or 'its settings'} in adapter_config.json is not supported: "
            f"{first['msg']}."
        ) from None


def render(adapter: Adapter, net: Net, *, name: str, base: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """adapter_config.json and the tensors of an AdapterHub folder."""
    config = adapter.config
    if isinstance(config, Ia3Adapter):
        raise RecipeError("(IA)^3 can only be written in the peft layout.")
    holders = {address: path for path, address in _holders(net).items()}
    if isinstance(config, LoraAdapter):
        inner = _lora(config, len(anatomy(net).layers(net)))
        linears = {address: path for path, address in paths(net).items()}
        tensors = {
            f"{linears[layer, role]}.loras.{name}.lora_{what}": tensor for (layer, role, what), tensor in adapter.tensors.items()
        }
    else:
        inner = {key: value for key, value in config.model_dump(mode="json").items() if key != "kind"} | _PLAIN
        inner = {key: value for key, value in inner.items() if key not in ("use_dora", "vera_d", "vera_b")}
        tensors = {}
        for (layer, side, what), tensor in adapter.tensors.items():
            part, _, kind = what.rpartition(".")
            start = f"{holders[layer, side]}.adapters.{name}."
            if part == "down":
                part = f"down.{int(config.ln_before)}"
            elif part == "norm_before":  # AdapterHub keeps it as the first part of adapter_down as well
                tensors[f"{start}adapter_down.0.{kind}"] = tensor.clone()
            tensors[f"{start}adapter_{part}.{kind}"] = tensor
    return {"config": inner, "name": name, **_about(net, base)}, tensors


def _lora(config: LoraAdapter, depth: int) -> dict[str, Any]:
    unknown = set(config.targets) - {*_ROLES.values(), "up", "down"}
    if unknown or config.rslora:
        what = f"on {', '.join(sorted(unknown))}" if unknown else "with rslora"
        raise RecipeError(f"AdapterHub has no LoRA {what}; use the peft layout.")
    matrices = [letter for letter, role in _ROLES.items() if role in config.targets]
    layers = range(depth) if config.layers is None else config.layers
    return {
        "architecture": "lora", "alpha": config.alpha, "attn_matrices": matrices, "composition_mode": "add",
        "dropout": config.dropout, "init_weights": "lora", "intermediate_lora": "up" in config.targets,
        "leave_out": [layer for layer in range(depth) if layer not in layers], "output_lora": "down" in config.targets,
        "r": config.r, "selfattn_lora": bool(matrices), "use_gating": False,
    }  # fmt: skip


def _about(net: Net, base: str) -> dict[str, Any]:
    return {
        "hidden_size": anatomy(net).width(net), "model_class": stock_class_of(type(net)).__name__, "model_name": base,
        "model_type": anatomy(net).family, "version": "understudy",
    }  # fmt: skip


def head_config(net: Net) -> dict[str, Any]:
    """head_config.json for the model's own head."""
    labels = {str(name): int(number) for name, number in (net.config.label2id or {}).items()}
    about = {"config": None, "label2id": labels, "name": None, "num_labels": net.config.num_labels}
    return {**about, **_about(net, "")}
