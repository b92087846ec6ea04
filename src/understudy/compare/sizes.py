"""What students cost before anything is trained: counted on networks without weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import fmean
from typing import Any

from understudy.check import Seen, Sizes, space_of
from understudy.recipe.settings import Recipe


def share_of(student: Sizes, teacher: Sizes, *, length: int) -> float:
    """The operations of a student's forward pass over a row of `length` tokens, in those of its teacher's."""
    ours, theirs = flops_of(student, length=length), flops_of(teacher, length=length)
    return ours / theirs if ours and theirs else student.parameters / teacher.parameters


def flops_of(sizes: Sizes, *, length: int) -> int | None:
    """The operations of a forward pass over a row; None for an architecture that computes with the values of its inputs,
    which are not there."""
    from understudy.methods.kdnas.costs import count

    try:
        return count(sizes.net, length)[1]
    except (RuntimeError, NotImplementedError):
        return None


def nearest_sparsity(parameters: int, sizes_at: Callable[[float], int]) -> float:
    """The sparsity, in whole hundredths, whose student has the number of parameters that is nearest.

    Args:
        sizes_at: sparsity -> parameters; never more for a larger sparsity.

    >>> nearest_sparsity(700, lambda s: round(1000 - 500 * s))
    0.6
    """
    low, high = 1, 99
    while low < high:  # the first hundredth with at most as many
        middle = (low + high) // 2
        low, high = (low, middle) if sizes_at(middle / 100) <= parameters else (middle + 1, high)
    options = [low / 100] if low == 1 else [(low - 1) / 100, low / 100]
    return min(options, key=lambda s: (abs(sizes_at(s) - parameters), -s))


def pruned_parameters(recipe: Recipe, config: Any) -> Callable[[float], int]:
    """Sparsity -> parameters of the recipe's teacher cut to it, all heads and neurons counting alike."""
    import torch
    from transformers import AutoModel

    from understudy.evaluate.measure import num_parameters
    from understudy.models.structure import cut, num_units
    from understudy.students.allocation import Scores, allocate

    def parameters(sparsity: float) -> int:
        with torch.device("meta"):
            net = AutoModel.from_config(copy.deepcopy(config))  # cutting changes it
        kept = allocate(Scores.alike(*num_units(net)), sparsity, multiple=recipe.student.prune.multiple)
        cut(net, heads=kept.heads, neurons=kept.neurons)
        return num_parameters(net)

    return parameters


def mean_share(recipe: Recipe, seen: Seen) -> float:
    """The mean, over all architectures that a search may find, of their operations in those of the teacher; 1 where there
    is none (`check` says so)."""
    from understudy.base.errors import RecipeError
    from understudy.methods.kdnas.space import shape_of

    assert seen.teacher is not None
    try:
        space, costs = space_of(recipe, seen.teacher)
    except RecipeError:
        return 1.0
    whole = costs.flops(shape_of(seen.teacher.net.config.to_dict()))
    return fmean(costs.flops(space[point]) for point in range(len(space))) / whole
