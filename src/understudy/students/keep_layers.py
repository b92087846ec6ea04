"""A student from some of its teacher's layers: the same architecture, fewer layers, the teacher's weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb
from typing import Any

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.mapping import chosen
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.structure import structure_of


def chosen_layers(keep: str | Sequence[int], num_layers: int | None, num_teacher: int) -> tuple[int, ...]:
    """The teacher layers to keep, counted from 0, in rising order.

    By a rule of `mapping.py` (first, last, group_first, group_last, spread) and their number, or as a list says, with which
    `num_layers` may be left out.

    >>> chosen_layers("group_first", 4, 6), chosen_layers([0, 2, 4], None, 6)
    ((0, 1, 3, 4), (0, 2, 4))
    """
    if not isinstance(keep, str):
        layers = tuple(keep)
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= num_teacher:
            raise RecipeError(
                f"student.keep: {list(layers)} must name layers of the teacher once each, in rising order, between 0 "
                f"and {num_teacher - 1}."
            )
        if num_layers not in (None, len(layers)):
            raise RecipeError(
                f"student.keep names {len(layers)} layers but student.num_layers is {num_layers}; drop one."
            )
        return layers
    if num_layers is None:
        raise RecipeError(f"student.keep: '{keep}' needs student.num_layers, how many layers to keep.")
    if not 1 <= num_layers <= num_teacher:
        raise RecipeError(
            f"student.num_layers is {num_layers}, but the teacher has {num_teacher}; choose 1 to {num_teacher}."
        )
    try:
        return chosen(keep, num_layers, num_teacher)
    except RecipeError as error:
        raise RecipeError(f"student.keep: {error}") from None


def search_cuts(
    score: Callable[[tuple[int, ...]], float], number: int, of: int, *, most: int
) -> dict[tuple[int, ...], float]:
    """Cuts that keep `number` of `of` layers, with their scores: all where they are at most `most`; else those a beam ends with.

    The beam takes one layer away at a time and goes on with the best cuts, as many as `most` scores in all allow (at least one).

    >>> sorted(search_cuts(lambda layers: -sum(layers), 2, 3, most=9).items())
    [((0, 1), -1), ((0, 2), -2), ((1, 2), -3)]
    """
    if comb(of, number) <= most:
        return {layers: score(layers) for layers in combinations(range(of), number)}
    width = max(1, most // sum(range(number + 1, of + 1)))
    found: dict[tuple[int, ...], float] = {tuple(range(of)): 0.0}
    while len(next(iter(found))) > number:
        best = sorted(found, key=lambda layers: (-found[layers], layers))[:width]
        fewer = {layers[:i] + layers[i + 1 :] for layers in best for i in range(len(layers))}
        found = {layers: score(layers) for layers in sorted(fewer)}
    return found


def keep_layers(model: Model, keep: str | Sequence[int] = "group_first", *, num_layers: int | None = None) -> Model:
    """A new, smaller model whose layers, embeddings and head are copies of the given one's.

    The given model is not changed and shares no memory with the new one. All weights are copied; nothing is random.

    Args:
        model: any family but ALBERT, whose layers are one and the same.
        keep: see `chosen_layers`.
        num_layers: how many layers to keep; not needed for a list.

    Raises:
        RecipeError: layers that do not exist, or a model whose layers are shared.
    """
    row = anatomy(model.net)
    if row.family == "albert":
        raise RecipeError(
            "ALBERT applies one shared layer several times, so keeping some of its layers makes it no smaller; give "
            "student.model (a smaller checkpoint) or student.config (a fresh architecture) instead."
        )
    structure = structure_of(model.net)
    if structure is not None and structure.schedule is not None:
        raise RecipeError(
            f"'{model.source}' uses its layers several times, so some of them cannot be taken out; `unroll` it first, or "
            "give student.model (a smaller checkpoint)."
        )
    layers = chosen_layers(keep, num_layers, row.num_layers(model.net))
    config = copy.deepcopy(model.net.config)
    if structure is not None:  # pruned layers stay as they are
        heads, neurons = (
            None if units is None else tuple(units[i] for i in layers) for units in (structure.heads, structure.neurons)
        )
        config.understudy = dataclasses.replace(structure, heads=heads, neurons=neurons).to_json()
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):  # ModernBERT: each layer keeps its own reach, local or global
        config.layer_types = [config.layer_types[i] for i in layers]
    with seeds.torch_seed(0, "keep_layers"):  # drawing initial weights must not move the caller's generator
        net = type(model.net)(config)
    net.to(dtype=model.net.dtype)
    lost = _copy_weights(model.net, net, layers)
    notes = [f"student: made of layers {', '.join(map(str, layers))} of '{model.source}'."]
    if lost:
        notes.append(f"student: {', '.join(lost)} has no place in a first layer of this family and was left out.")
    return Model(
        net=net.eval(),
        tokenizer=copy.deepcopy(model.tokenizer),
        labels=model.labels,
        kind=model.kind,
        source=f"{model.source}, layers {', '.join(map(str, layers))}",
        revision=model.revision,
        notes=(*model.notes, *notes),
        fresh_head=model.fresh_head,
    )


def _copy_weights(source: Any, target: Any, layers: Sequence[int]) -> list[str]:
    """Copy every weight of `target` from `source`, layer j from layer `layers[j]`; returns weights without a place.

    Those are the norms before the attention of a ModernBERT layer that becomes the first: the embeddings are normed
    already, and the stock first layer has none.
    """
    row = anatomy(source)
    stack = row.stack(row.backbone(source))
    prefix = next(name for name, module in source.named_modules() if module is stack) + "."
    place = {old: new for new, old in enumerate(layers)}
    state = {}
    for name, tensor in source.state_dict().items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            if int(number) not in place:
                continue
            name = f"{prefix}{place[int(number)]}.{rest}"
        state[name] = tensor
    missing, unexpected = target.load_state_dict(state, strict=False)
    if missing or any("norm" not in name for name in unexpected):
        raise AssertionError(f"weights without a counterpart: {missing}, {unexpected}")
    return list(unexpected)
