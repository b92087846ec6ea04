"""Adapters in a model: put in, switched, frozen around, taken out, merged away. Several may be in one model by name; one is
active at a time.

Bottlenecks are children (`adapters.NAME`) of the modules whose output they change, and act through forward hooks. LoRA and
(IA)^3 are peft's layers in the place of linear maps (linear.py). Both work in every forward that calls the modules, and
copies of the model are complete.

Addresses are the same for all families: (layer, place, tensor), with layers from 0; places are `attention` and `ffn` for
bottlenecks, and the roles `query`, `key`, `value`, `qkv`, `out`, `up`, `down` for LoRA and (IA)^3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from understudy.adapters import linear
from understudy.adapters.bottleneck import Bottleneck, Caught
from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.models.anatomy import Net, anatomy
from understudy.models.compact import become, become_stock
from understudy.models.structure import Structure, structure_of
from understudy.recipe.adapter import ADAPTERS, AdapterSettings, BottleneckAdapter, Ia3Adapter

CONFIG = "understudy_adapters"
"""The key of a model's configuration that says which adapters are in it; it travels with the model."""
NAME = "task"
"""The name of an adapter that was given none."""
Address = tuple[int, str, str]


@dataclass(frozen=True)
class Place:
    """Where a part stands: `host` is the module whose output it changes."""

    layer: int
    name: str
    host: Any
    block: Any = None  # bottlenecks: whose output the block adds to the residual sum
    entry: Any = None  # bottlenecks: whose first input is the block's entry


@dataclass
class Adapter:
    """An adapter outside of any model: its settings, its tensors by address, and a head where one came with it."""

    config: AdapterSettings
    tensors: dict[Address, Tensor]
    head: dict[str, Tensor] = field(default_factory=dict)
    """Parameters outside the backbone, under the names they have in the model."""


def places(net: Net, config: AdapterSettings) -> list[Place]:
    """Where the parts of such an adapter stand in this model. A layer that is applied several times has them once.

    Raises:
        RecipeError: a linear map this family does not have, or a layer that does not exist.
    """
    found, taken = [], set()
    for place in _all_places(net, config):
        if id(place.host) not in taken:
            taken.add(id(place.host))
            found.append(place)
    return found


def _all_places(net: Net, config: AdapterSettings) -> Iterator[Place]:
    row = anatomy(net)
    layers = row.layers(net)
    if isinstance(config, BottleneckAdapter):
        for number, layer in enumerate(layers):
            if number in config.leave_out:
                continue
            for side, name, wanted in ((0, "attention", config.mh_adapter), (1, "ffn", config.output_adapter)):
                if not wanted:
                    continue
                norm, written = row.norms(layer)[side], row.written(layer)[side]
                projections = row.qkv(layer)
                # DeBERTa sends relative positions through query and key; its values see the content alone.
                reads = (projections[0] if row.packs else projections[-1], row.up(layer))[side]
                if row.pre_norm:
                    yield Place(number, name, written, entry=norm)
                else:
                    yield Place(number, name, norm, block=written, entry=reads)
        return
    wanted = range(len(layers)) if config.layers is None else config.layers
    if max(wanted) >= len(layers):
        raise RecipeError(f"adapter.layers names layer {max(wanted)}; layers are counted from 0 to {len(layers) - 1}.")
    for number in wanted:
        maps = linear_maps(net, layers[number])
        scaled = config.feedforward if isinstance(config, Ia3Adapter) else ()
        for role in dict.fromkeys((*config.targets, *scaled)):
            if role not in maps:
                raise RecipeError(
                    f"adapter.targets: {row.family} has no linear map '{role}'; it has {', '.join(maps)}."
                )
            yield Place(number, role, maps[role])


def linear_maps(net: Net, layer: Any) -> dict[str, Any]:
    """Role -> the Linear of a layer."""
    row = anatomy(net)
    projections = row.qkv(layer)
    names = ("query", "key", "value") if len(projections) == 3 else ("qkv",)
    maps: dict[str, Any] = dict(zip(names, projections, strict=True))
    return maps | {"out": row.out(layer), "up": row.up(layer), "down": row.down(layer)}


def inject(net: Net, config: AdapterSettings, *, name: str = NAME, seed: int = 0) -> None:
    """Put a fresh adapter into a model, in place, and make it the active one.

    Raises:
        RecipeError: the name is taken, or the family has no such place.
    """
    if name in installed(net):
        raise RecipeError(f"The model already has an adapter '{name}'; remove it, or give another name.")
    chosen = places(net, config)
    if structure_of(net) is None:
        become(net, Structure())  # so that it is saved and loaded with its adapters, and no stock class loses them
    _build(net, chosen, config, name, seed)
    _note(net, {**installed(net), name: config})
    activate(net, name)


def restore(net: Net) -> None:
    """Put in the adapters that a network's configuration names, with arbitrary weights: the real ones are loaded next."""
    acting = active(net)
    for name, config in installed(net).items():
        _build(net, places(net, config), config, name, 0)
    activate(net, acting)


def _build(net: Net, chosen: list[Place], config: AdapterSettings, name: str, seed: int) -> None:
    if not isinstance(config, BottleneckAdapter):
        linear.wrap(net, [(place.name, place.host) for place in chosen], config, name, seed)
        return
    row = anatomy(net)
    for number, place in enumerate(chosen):
        with seeds.torch_seed(seed, "adapter", name, number):
            part = Bottleneck(config, row.width(net), pre_norm=row.pre_norm)
        # On the device and in the type of what it stands beside; a host without parameters is on the model's.
        reference = next(place.host.parameters(), None)
        reference = next(net.parameters()) if reference is None else reference
        part.to(device=reference.device, dtype=reference.dtype).train(place.host.training)
        if not hasattr(place.host, "adapters"):
            place.host.adapters = nn.ModuleDict()
        place.host.adapters[name] = part


def installed(net: Net) -> dict[str, AdapterSettings]:
    """The adapters in a model, by name."""
    noted = getattr(net.config, CONFIG, None) or {}
    return {name: ADAPTERS[settings["kind"]].model_validate(settings) for name, settings in noted.get("installed", {}).items()}


def active(net: Net) -> str | None:
    """The name of the active adapter."""
    return (getattr(net.config, CONFIG, None) or {}).get("active")


def _note(net: Net, configs: dict[str, AdapterSettings], acting: str | None = None) -> None:
    if configs:
        noted = {name: config.model_dump(mode="json") for name, config in configs.items()}
        setattr(net.config, CONFIG, {"active": acting, "installed": noted})
    elif hasattr(net.config, CONFIG):
        delattr(net.config, CONFIG)


def parts(net: Net, name: str) -> list[tuple[Place, dict[str, nn.Parameter]]]:
    """The places of one adapter, and its parameters there."""
    configs = installed(net)
    if name not in configs:
        there = ", ".join(configs) or "none"
        raise RecipeError(f"The model has no adapter '{name}'; there are: {there}.")
    if isinstance(configs[name], BottleneckAdapter):
        return [(place, dict(place.host.adapters[name].named_parameters())) for place in places(net, configs[name])]
    return [(place, linear.parameters(place.host, name)) for place in places(net, configs[name])]


def activate(net: Net, name: str | None) -> None:
    """Make the adapter of this name the only active one; None: the bare model."""
    chosen = [] if name is None else parts(net, name)
    for module in net.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            # Found by whose methods they are: a copy of the model has hooks too, and no handles to remove them by.
            ours = [key for key, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), (Bottleneck, Caught))]
            for key in ours:
                del hooks[key]
    linear.activate(net, name)
    for place, _ in chosen:
        if place.entry is not None:
            part = place.host.adapters[name]
            if place.block is not None:
                place.block.register_forward_hook(part.block.on_output)
            place.entry.register_forward_pre_hook(part.entry.on_input)
            place.host.register_forward_hook(part.on_output)
    _note(net, installed(net), name)


@contextmanager
def resting(*nets: Net) -> Iterator[None]:
    """Inside this context no adapter of these models is active."""
    acting = [(net, active(net)) for net in nets]
    for net in nets:
        activate(net, None)
    try:
        yield
    finally:
        for net, name in acting:
            activate(net, name)


def remove(net: Net, name: str, *, into_weights: bool = False) -> None:
    """Take an adapter out; the base is as it was before, or with `into_weights` computes what both did."""
    chosen = parts(net, name)
    acting = active(net)
    activate(net, None)
    if isinstance(installed(net)[name], BottleneckAdapter):
        for place, _ in chosen:
            del place.host.adapters[name]
            if not place.host.adapters:
                del place.host.adapters
    else:
        linear.unwrap(net, name, merge=into_weights)
    rest = {other: config for other, config in installed(net).items() if other != name}
    _note(net, rest)
    if acting in rest:
        activate(net, acting)
    elif not rest and structure_of(net) == Structure():
        become_stock(net)


def freeze(net: Net, *, adapter: str | None) -> None:
    """Leave to training the task's head, and the parts of `adapter`; None: the head alone."""
    inside = {id(parameter) for parameter in anatomy(net).backbone(net).parameters()}
    for parameter in net.parameters():
        parameter.requires_grad_(id(parameter) not in inside)
    for _, tensors in parts(net, adapter) if adapter is not None else ():
        for parameter in tensors.values():
            parameter.requires_grad_(True)


def extract(net: Net, name: str = NAME, *, head: bool = False) -> Adapter:
    """A copy of an adapter, and of the head where asked for."""
    tensors = {
        (place.layer, place.name, key): _flat(key, tensor.detach()).cpu().clone()
        for place, tensors in parts(net, name)
        for key, tensor in tensors.items()
    }
    return Adapter(installed(net)[name], tensors, head_of(net) if head else {})


def head_of(net: Net) -> dict[str, Tensor]:
    """The parameters outside the backbone that are not tied to it, by name."""
    inside = {id(parameter) for parameter in anatomy(net).backbone(net).parameters()}
    return {
        name: parameter.detach().cpu().clone() for name, parameter in net.named_parameters() if id(parameter) not in inside
    }


def put(net: Net, adapter: Adapter, *, name: str = NAME, head: bool = True) -> list[str]:
    """Put an existing adapter into a model, strictly: nothing missing, nothing left over. Returns what went where, one
    sentence each.

    Raises:
        RecipeError: tensors that are missing, left over or of the wrong shape, all named; the model is then unchanged.
    """
    inject(net, adapter.config, name=name)
    wanted = {(place.layer, place.name, key): _flat(key, tensor.detach()) for place, tensors in parts(net, name)
              for key, tensor in tensors.items()}  # fmt: skip
    own = dict(net.named_parameters())
    heads = {key: own.get(key) for key in adapter.head} if head else {}
    wrong = [f"{_shown(key)} is missing" for key in wanted if key not in adapter.tensors]
    wrong += [f"{_shown(key)} has no place in this model" for key in adapter.tensors if key not in wanted]
    wrong += [f"{key} of the head has no place in this model" for key, parameter in heads.items() if parameter is None]
    for label, tensor, target in (
        *((_shown(key), adapter.tensors[key], wanted[key]) for key in wanted if key in adapter.tensors),
        *((key, adapter.head[key], parameter) for key, parameter in heads.items() if parameter is not None),
    ):
        if tuple(tensor.shape) != tuple(target.shape):
            wrong.append(f"{label} is {_shape(tensor)}, the model wants {_shape(target)}")
    if wrong:
        remove(net, name)
        more = f" (and {len(wrong) - 4} more)" if len(wrong) > 4 else ""
        raise RecipeError(
            f"The adapter does not fit the model: {'; '.join(wrong[:4])}{more}. It was made for another model, or with other "
            "settings; `understudy transfer` rewrites an adapter for another model."
        )
    with torch.no_grad():
        for key, target in wanted.items():
            target.copy_(adapter.tensors[key])
        for key, parameter in heads.items():
            assert parameter is not None
            parameter.copy_(adapter.head[key])
    said = [f"{len(wanted)} tensors of the adapter were put into {len(parts(net, name))} places."]
    if heads:
        said.append(f"The head was replaced by the one that came with the adapter: {', '.join(heads)}.")
    elif adapter.head:
        said.append("The head that came with the adapter was left out, as asked.")
    return said


def _flat(key: str, tensor: Tensor) -> Tensor:
    """As it is outside of a model: the factors of (IA)^3 are (n,), whichever side they stand on. A view."""
    return tensor.view(-1) if key == "l" else tensor


def _shown(address: Address) -> str:
    return f"layer {address[0]}, {address[1]}, {address[2]}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def merge(net: Net, name: str = NAME) -> None:
    """Add LoRA or (IA)^3 to the weights beside them and take the adapter out: a stock model that computes the same.

    Raises:
        RecipeError: a bottleneck, which no weight of the model can take in.
    """
    if not mergeable(installed(net)[name]):
        raise RecipeError("A bottleneck adapter cannot be merged into the model's weights; only lora and ia3 can.")
    remove(net, name, into_weights=True)


def mergeable(config: AdapterSettings) -> bool:
    """Whether the adapted model can be written as a stock model of the same shape."""
    return not isinstance(config, BottleneckAdapter)
