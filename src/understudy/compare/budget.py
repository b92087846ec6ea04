"""The same budget for every arm: how many epochs of what a method trains on the student's side it buys.

A method is a list of stages (`Method.stages`). One epoch of a stage costs, in epochs of the recipe's own student:

    steps     how many optimiser steps it takes
    flops     the same, each step times the share of the teacher's network that it trains (a forward and a backward pass of
              all networks that are trained together; lab/stages.py counts in the same way)

The teacher's own training is charged to no arm: it happens once, for all. Pure arithmetic; nothing here looks at a disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from understudy.base.errors import RecipeError
from understudy.recipe.method import Stage


def allot(stages: Sequence[Stage], kind: str, total: float) -> dict[str, int]:
    """The epochs of each setting that together cost at most `total`; whole ones, the remainder goes to the student.

    Raises:
        RecipeError: not even one epoch of each can be paid.

    >>> two = [Stage("ptp", "method.ptp.epochs", 2, 1.0, 1.0), Stage("student", "train.epochs", 10, 1.0, 1.0)]
    >>> allot(two, "steps", 10.0)
    {'method.ptp.epochs': 2, 'train.epochs': 8}
    """
    price: dict[str, float] = {}
    wanted: dict[str, float] = {}
    for stage in stages:
        price[stage.setting] = price.get(stage.setting, 0.0) + stage.cost(kind)
        wanted[stage.setting] = stage.wanted
    least = sum(price.values())
    if least > total * (1 + 1e-9):
        raise RecipeError(
            f"one epoch of each of its {sum(stage.fits for stage in stages)} trainings costs {least:.3g}, and {total:.3g} are "
            f"there to be spent. Give train.epochs {math.ceil(least / total - 1e-9)} times its value, or leave this arm out."
        )
    scale = total / sum(price[key] * wanted[key] for key in price)
    *before, last = price
    epochs = {key: max(1, round(scale * wanted[key])) for key in before}

    def affordable() -> int:
        return math.floor((total - sum(price[key] * epochs[key] for key in before)) / price[last] + 1e-9)

    while affordable() < 1:
        largest = max(before, key=lambda key: epochs[key])
        epochs[largest] -= 1
    return {**epochs, last: affordable()}


def planned(stages: Sequence[Stage], epochs: dict[str, int], kind: str) -> float:
    """What is spent with so many epochs, in the units of the budget."""
    return sum(stage.cost(kind) * epochs[stage.setting] for stage in stages)
