"""The module itself: dimensions by the maps, layers by the plan."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from understudy.adapters.inject import Adapter, Address
from understudy.adapters.transfer.collect import Link
from understudy.adapters.transfer.plan import Plan
from understudy.base.errors import RecipeError
from understudy.recipe.adapter import LoraAdapter


def rewrite(adapter: Adapter, plan: Plan, maps: Mapping[Link, np.ndarray]) -> Adapter:
    """The adapter for the student; its head is left to the caller.

    Args:
        maps: for every link the teacher dimension of each student dimension; a link without one keeps its numbers.

    Raises:
        RecipeError: tensors a source layer should have and has not.
    """
    parts = sorted({(place, tensor) for _, place, tensor in adapter.tensors})
    found: dict[Address, Tensor] = {}
    for layer, sources in enumerate(plan.sources):
        moved = {
            (place, tensor): [_moved(adapter, plan, maps, layer, source, place, tensor) for source in sources]
            for place, tensor in parts
        }
        if plan.settings.layer_map == "avg" and plan.settings.average == "released":
            # Deviates from its formula as the released code does: the last layer of a group is never added.
            averaged = {key: sum(group[1:-1], group[0]) / len(group) for key, group in moved.items()}
        elif len(sources) > 1 and isinstance(plan.module, LoraAdapter):
            averaged = _mean_lora(moved, plan.module)
        else:
            averaged = {key: torch.stack(group).mean(0) for key, group in moved.items()}
        found |= {(layer, place, tensor): value.contiguous() for (place, tensor), value in averaged.items()}
    return Adapter(plan.module, found)


def _moved(
    adapter: Adapter, plan: Plan, maps: Mapping[Link, np.ndarray], layer: int, source: int, place: str, tensor: str
) -> Tensor:
    """One teacher tensor in the student's dimensions."""
    value = adapter.tensors.get((source, place, tensor))
    if value is None:
        raise RecipeError(f"The adapter has no {tensor} for layer {source}, {place}; it is incomplete, or for another model.")
    rule = plan.rule(place, tensor)
    chosen = maps.get((layer, source, place, rule[1])) if rule is not None else None
    if rule is None or chosen is None:
        return value
    return value.index_select(rule[0], torch.from_numpy(np.ascontiguousarray(chosen)))


def _mean_lora(moved: dict[tuple[str, str], list[Tensor]], module: LoraAdapter) -> dict[tuple[str, str], Tensor]:
    """The best rank-r approximation of the mean of B A (the mean of B times the mean of A is something else)."""
    found = {}
    for place in sorted({place for place, _ in moved}):
        change = torch.stack([b @ a for b, a in zip(moved[place, "B"], moved[place, "A"], strict=True)]).double().mean(0)
        u, s, v = torch.linalg.svd(change, full_matrices=False)
        root = s[: module.r].sqrt()
        a, b = root[:, None] * v[: module.r], u[:, : module.r] * root
        short = module.r - len(root)  # a rank above the matrix's own
        if short > 0:
            a, b = torch.cat([a, a.new_zeros(short, a.shape[1])]), torch.cat([b, b.new_zeros(len(b), short)], dim=1)
        dtype = moved[place, "A"][0].dtype
        found[place, "A"], found[place, "B"] = a.to(dtype), b.to(dtype)
    return found
