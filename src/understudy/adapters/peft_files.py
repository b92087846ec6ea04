"""peft's folders: `adapter_config.json` and `adapter_model.safetensors`, names of modules as they are in the model.

    base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight      (r, in)
    base_model.model.bert.encoder.layer.0.attention.self.key.ia3_l                (out, 1), or (1, in) on feed-forward maps
    base_model.model.classifier.weight                                            the head, listed in modules_to_save
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor

from understudy import kinds
from understudy.adapters.inject import Adapter, Address, linear_maps, places
from understudy.base.errors import DataError, RecipeError
from understudy.models.anatomy import Net, anatomy
from understudy.recipe.adapter import ADAPTERS, BottleneckAdapter, Ia3Adapter, LoraAdapter

PREFIX = "base_model.model."
_TENSOR = re.compile(r"(?P<path>.+)\.(?P<what>lora_A\.weight|lora_B\.weight|ia3_l)")
_NOT_KNOWN = {
    "use_dora": False, "fan_in_fan_out": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}, "lora_bias": False,
    "layer_replication": None, "target_parameters": None, "trainable_token_indices": None, "use_qalora": False,
    "alora_invocation_tokens": None, "kasa_config": None, "velora_config": None, "monteclora_config": None,
}  # fmt: skip
"""Settings of peft that change what is computed, and their values where they do not."""


def paths(net: Net) -> dict[str, tuple[int, str]]:
    """Name of a Linear -> (layer, role). Of a layer that is applied several times the first application counts."""
    names = {id(module): name for name, module in net.named_modules()}
    found: dict[str, tuple[int, str]] = {}
    for number, layer in enumerate(anatomy(net).layers(net)):
        for role, linear in linear_maps(net, layer).items():
            found.setdefault(names[id(linear)], (number, role))
    return found


def found_as(path: str, known: Collection[str], base: str) -> str | None:
    """The name of a module in this model, which may be a bare backbone or have a head, as the saved one may."""
    return next((name for name in (path, f"{base}.{path}", path.removeprefix(f"{base}.")) if name in known), None)


def parse(config: dict[str, Any], tensors: dict[str, Tensor], net: Net, where: str) -> Adapter:
    """An adapter from the content of a peft folder."""
    kind = str(config["peft_type"]).rpartition(".")[2]
    if kind not in ("LORA", "IA3"):
        raise RecipeError(f"{where}: adapters of peft's type {kind} are not supported; LORA and IA3 are.")
    for key, harmless in _NOT_KNOWN.items():
        value = config.get(key, harmless)
        if value != harmless and not (value in (None, False, {}) and harmless in (None, False, {})):
            raise RecipeError(f"{where}: {key}: {value!r} in its adapter_config.json is not known here.")
    known, base = paths(net), net.base_model_prefix
    own = dict(net.named_parameters())
    found: dict[Address, Tensor] = {}
    head: dict[str, Tensor] = {}
    on_input: dict[str, bool] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(PREFIX)
        match = _TENSOR.fullmatch(bare)
        if match is None:
            if bare not in own and bare.partition(".")[0] in (config.get("modules_to_save") or ()):
                continue  # a head, and the model is a bare backbone or has another task
            if bare not in own:
                raise DataError(f"{where}: {name} has no place in a {anatomy(net).family} model.")
            head[bare] = tensor
            continue
        path = found_as(match["path"], known, base)
        if path is None:
            raise DataError(
                f"{where}: {name} belongs to {match['path']}, which is not a linear map inside a layer of a "
                f"{anatomy(net).family} model; only those are supported."
            )
        layer, role = known[path]
        if match["what"] == "ia3_l":
            on_input[role] = tensor.shape[0] == 1
            found[layer, role, "l"] = tensor.flatten()
        else:
            found[layer, role, match["what"][5]] = tensor
    roles = tuple(dict.fromkeys(role for _, role, _ in found))
    layers = shared_layers(found, roles, len(anatomy(net).layers(net)), where)
    if kind == "LORA":
        settings = {
            "kind": "lora", "r": config["r"], "alpha": float(config["lora_alpha"]), "targets": roles, "layers": layers,
            "dropout": float(config.get("lora_dropout") or 0.0), "rslora": bool(config.get("use_rslora")),
        }  # fmt: skip
    else:
        settings = {
            "kind": "ia3", "targets": [role for role in roles if not on_input[role]], "layers": layers,
            "feedforward": [role for role in roles if on_input[role]],
        }  # fmt: skip
    return Adapter(ADAPTERS[settings["kind"]].model_validate(settings), found, head)


def shared_layers(
    found: Iterable[Address], roles: tuple[str, ...], depth: int, where: str
) -> tuple[int, ...] | None:
    """The layers an adapter stands in, None for all of them; each must have all roles."""
    by_layer: dict[int, set[str]] = {}
    for layer, role, _ in found:
        by_layer.setdefault(layer, set()).add(role)
    if not by_layer:
        raise DataError(f"{where} holds no tensors of an adapter.")
    uneven = [layer for layer, there in by_layer.items() if there != set(roles)]
    if uneven:
        raise RecipeError(
            f"{where}: layer {uneven[0]} has different linear maps adapted than the other layers, which is not supported."
        )
    layers = tuple(sorted(by_layer))
    return None if layers == tuple(range(depth)) else layers


def render(adapter: Adapter, net: Net, *, base: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """adapter_config.json and the tensors of a peft folder."""
    config = adapter.config
    if isinstance(config, BottleneckAdapter):
        raise RecipeError("peft has no bottleneck adapters; use the adapterhub layout.")
    names = {(layer, role): path for path, (layer, role) in paths(net).items()}
    tensors: dict[str, Tensor] = {}
    for (layer, role, what), tensor in adapter.tensors.items():
        key = f"{PREFIX}{names[layer, role]}."
        if what == "l":
            onto_input = isinstance(config, Ia3Adapter) and role in config.feedforward
            tensors[key + "ia3_l"] = tensor[None] if onto_input else tensor[:, None]
        else:
            tensors[key + f"lora_{what}.weight"] = tensor
    tensors |= {PREFIX + name: tensor for name, tensor in adapter.head.items()}
    # Without the backbone's name: peft then finds them in a bare backbone too.
    base_name = f"{net.base_model_prefix}."
    adapted = {names[place.layer, place.name].removeprefix(base_name): place.name for place in places(net, config)}
    heads = [one for one in kinds.every() if one.named and type(net).__name__.endswith(one.ending)]
    about: dict[str, Any] = {
        "base_model_name_or_path": base,
        "inference_mode": True,
        "modules_to_save": sorted({name.partition(".")[0] for name in adapter.head}) or None,
        "peft_type": "LORA" if isinstance(config, LoraAdapter) else "IA3",
        "target_modules": sorted(adapted),
        "task_type": heads[0].peft_type if heads else None,
    }
    if isinstance(config, LoraAdapter):
        alpha = int(config.alpha) if config.alpha == int(config.alpha) else config.alpha
        about |= {
            "bias": "none", "fan_in_fan_out": False, "lora_alpha": alpha, "lora_dropout": config.dropout, "r": config.r,
            "use_rslora": config.rslora,
        }  # fmt: skip
    else:
        scaled = sorted(path for path, role in adapted.items() if role in config.feedforward)
        about |= {"fan_in_fan_out": False, "feedforward_modules": scaled}
    return about, tensors
