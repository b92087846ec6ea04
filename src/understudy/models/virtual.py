"""Layers that are used more than once: the later uses share the modules of the first, so that each tensor exists once.

A later use is a container of its own around the same sub-modules. Gradients sum over the uses, hooks tell them apart, and
the stock forward just goes through the list. With query and key exchanged the scores before the mask are the transpose of
what the first use would compute (Pea-KD's "shuffle"; it costs nothing and has no parameters). Rotary positions turn with
it; DeBERTa's relative positions exchange their projections too, but count distances from the query as before.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from understudy.base.errors import RecipeError
from understudy.models.anatomy import Anatomy, Layer, Net, anatomy
from understudy.models.structure import Structure


class VirtualLayers(nn.ModuleList):
    """The uses in their order. On disk and in `state_dict` a tensor has one name, that of its first use."""

    def repeats(self) -> dict[str, str]:
        """Names of tensors that were named before -> that first name."""
        first: dict[int, str] = {}
        found = {}
        tensors = chain(self.named_parameters(remove_duplicate=False), self.named_buffers(remove_duplicate=False))
        for name, tensor in tensors:
            if first.setdefault(id(tensor), name) != name:
                found[name] = first[id(tensor)]
        return found

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As always, each tensor once."""
        content = super().state_dict(*args, **kwargs)
        for name in self.repeats():
            content.pop(kwargs.get("prefix", "") + name, None)
        return content

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, first in self.repeats().items():
            if prefix + first in state_dict:
                state_dict.setdefault(prefix + name, state_dict[prefix + first])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Exchanged(nn.Module):
    """A fused projection (ModernBERT's Wqkv) whose queries are its keys and whose keys are its queries."""

    INNER = "inner"
    """Between the module's name and that of its tensors."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    @property
    def out_features(self) -> int:
        return self.inner.out_features

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., 3·H·d): k, q, v."""
        q, k, v = self.inner(hidden).chunk(3, dim=-1)
        return torch.cat([k, q, v], dim=-1)


def repeat(net: Net, structure: Structure) -> None:
    """Replace the stack of physical layers by the schedule's virtual ones."""
    stack, parent, name = stack_of(net)
    physical = list(stack)
    if len(physical) != structure.num_physical:
        raise RecipeError(f"The schedule is for {structure.num_physical} layers, but the network has {len(physical)}.")
    seen: set[int] = set()
    uses = []
    for layer, exchanged in structure.schedule or ():
        again = layer in seen
        seen.add(layer)
        uses.append(
            use_again(net, physical[layer], exchanged, own_norms=structure.own_norms) if again else physical[layer]
        )
    setattr(parent, name, VirtualLayers(uses))


def stack_of(net: Net) -> tuple[nn.ModuleList, nn.Module, str]:
    """The list of layers as it is stored, the module that holds it, and its name there."""
    backbone = anatomy(net).backbone(net)
    stack = anatomy(net).stack(backbone)
    for module in backbone.modules():
        for name, child in module.named_children():
            if child is stack:
                return stack, module, name
    raise AssertionError("a family's stack is one of its modules")


def use_again(net: Net, stored: Any, exchanged: bool, *, own_norms: bool = False) -> Any:
    """Another use of an entry of the stack.

    ModernBERT's first layer has no norm before its attention, the embeddings being normed already; where it is used again
    nothing else norms its input, so each later use gets a copy of the embeddings' norm.
    """
    row = anatomy(net)
    layers = list(stored.albert_layers) if row.family == "albert" else [stored]
    instead: dict[int, nn.Module] = {}
    for layer in layers:
        if exchanged:
            instead |= _exchange(row, layer)
        for norm in row.norms(layer):
            if isinstance(norm, nn.Identity):
                instead[id(norm)] = copy.deepcopy(row.embeddings(net).norm)  # type: ignore[arg-type]
            elif own_norms:
                instead[id(norm)] = copy.deepcopy(norm)
    return rebuilt(stored, instead)


def _exchange(row: Anatomy, layer: Layer) -> dict[int, nn.Module]:
    """Module id -> the module in its place when query and key change roles."""
    projections = row.qkv(layer)
    if len(projections) == 1:
        return {id(projections[0]): Exchanged(projections[0])}
    query, key, _ = projections
    if query.out_features != key.out_features:
        raise RecipeError(
            f"Query and key cannot be exchanged: there are {query.out_features} query outputs and {key.out_features} key "
            "outputs (grouped heads). Choose a kind of sharing without exchange, such as sps_no_shuffle."
        )
    instead: dict[int, nn.Module] = {id(query): key, id(key): query}
    attention = row.attention(layer)
    if getattr(attention, "relative_attention", False):
        kinds = set(attention.pos_att_type)
        if kinds and not {"c2p", "p2c"} <= kinds:
            raise RecipeError(
                f"Query and key cannot be exchanged: relative positions go with one of them only ({', '.join(kinds)}). "
                "Choose a kind of sharing without exchange, such as sps_no_shuffle."
            )
    if positions := row.split_by_head(layer):
        of_keys, of_queries = positions
        instead |= {id(of_keys): of_queries, id(of_queries): of_keys}
    return instead


def rebuilt(module: nn.Module, instead: dict[int, nn.Module]) -> nn.Module:
    """New containers around the same parts, but for those that something stands in for.

    All containers are new: a recorder of transformers hooks each one it meets, and one that stood in two places would be
    recorded twice.
    """
    if id(module) in instead:
        return instead[id(module)]
    if not module._modules:
        return module
    clone = shallow(module)
    clone._modules = {
        name: None if child is None else rebuilt(child, instead) for name, child in module._modules.items()
    }
    return clone


def shallow(module: Any) -> Any:
    """Another container around the same parts. It has no hooks; parameters of its own it shares."""
    clone = module.__class__.__new__(module.__class__)
    clone.__dict__ = dict(module.__dict__)
    blank = nn.Module()
    for name in vars(blank):
        if "hook" in name:
            clone.__dict__[name] = getattr(blank, name)
    return clone
