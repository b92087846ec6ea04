"""Adapters of single linear maps: LoRA (Hu et al. 2022) and (IA)^3 (Liu et al. 2022). They are peft's layers, standing in
the place of the Linears; here is only what connects them with our addresses. peft is imported when there is one (seconds).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.models.anatomy import Net
from understudy.recipe.adapter import LoraAdapter


def wrap(net: Net, hosts: list[tuple[str, Any]], config: Any, name: str, seed: int) -> None:
    """Put peft's layers in the place of linear maps, wherever a shared layer uses the same map again.

    Args:
        hosts: (role, Linear, or peft's layer where an adapter of this kind is there already).
        seed: with the number of the place it decides the first weights.
    """
    from peft import IA3Config, LoraConfig, inject_adapter_in_model

    names = {id(module): path for path, module in net.named_modules()}
    paths = [names[id(host)] for _, host in hosts]
    if isinstance(config, LoraAdapter):
        made: Any = LoraConfig(
            r=config.r, lora_alpha=config.alpha, lora_dropout=config.dropout, use_rslora=config.rslora, target_modules=paths  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
    else:
        scaled = [path for path, (role, _) in zip(paths, hosts, strict=True) if role in config.feedforward]
        made = IA3Config(target_modules=paths, feedforward_modules=scaled)
    if any(type(layer).__module__.split(".")[2] != made.peft_type.value.lower() for layer in layers(net)):
        raise RecipeError("lora and ia3 cannot be combined in one model; merge or remove the one that is there.")
    trained = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    with seeds.torch_seed(seed, "adapter", name):
        inject_adapter_in_model(made, net, name)
    for parameter, before in trained:  # peft freezes all but its own, and chooses for itself what acts
        parameter.requires_grad_(before)
    layer_of = {id(layer.base_layer): layer for layer in layers(net)}
    _replace(net, layer_of)
    for number, (_, host) in enumerate(hosts):
        layer = layer_of.get(id(host), host)
        if isinstance(config, LoraAdapter):
            with seeds.torch_seed(seed, "adapter", name, number):
                layer.reset_lora_parameters(name, True)
        layer.train(layer.base_layer.training)


def layers(net: Net) -> Iterator[Any]:
    """peft's layers in a model, each once."""
    if hasattr(net, "peft_config"):
        from peft.tuners.tuners_utils import BaseTunerLayer

        yield from [module for module in net.modules() if isinstance(module, BaseTunerLayer)]


def parameters(layer: Any, name: str) -> dict[str, nn.Parameter]:
    """Of one adapter in one of peft's layers: A (r, in) and B (out, r), or l (out, 1), on a feed-forward map (1, in)."""
    if hasattr(layer, "ia3_l"):
        return {"l": layer.ia3_l[name]}
    return {"A": layer.lora_A[name].weight, "B": layer.lora_B[name].weight}


def activate(net: Net, name: str | None) -> None:
    """Let the adapter of this name act, and no other of peft's."""
    for layer in layers(net):
        there = name is not None and any(name in getattr(layer, table) for table in layer.adapter_layer_names)
        layer.enable_adapters(there)
        if there:
            layer.set_adapter(name)


def unwrap(net: Net, name: str, *, merge: bool = False) -> None:
    """Take an adapter out, or add it to the weights beside it. Linears without any are themselves again."""
    bare = {}
    for layer in layers(net):
        if not any(name in getattr(layer, table) for table in layer.adapter_layer_names):
            continue
        if merge:
            layer.merge(adapter_names=[name])
            layer.merged_adapters.clear()  # for good
        layer.delete_adapter(name)
        if not any(len(getattr(layer, table)) for table in layer.adapter_layer_names):
            bare[id(layer)] = layer.base_layer
    _replace(net, bare)
    del net.peft_config[name]
    if not net.peft_config:
        del net.peft_config


def _replace(net: Net, instead: dict[int, Any]) -> None:
    """Put other modules in the place of some, by id, wherever those are used."""
    for module in list(net.modules()):
        for child, old in list(module.named_children()):
            new = instead.get(id(old))
            if new is not None and new is not module:
                setattr(module, child, new)
