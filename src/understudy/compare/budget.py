"""The same budget for every arm: what each method trains on the student's side, and how many epochs of it the budget buys.

A method is a list of stages. One epoch of a stage costs, in epochs of the recipe's own student:

    steps     how many optimiser steps it takes
    flops     the same, each step times the share of the teacher's network that it trains (a forward and a backward pass of
              all networks that are trained together; lab/stages.py counts in the same way)

The teacher's own training is in nobody's budget: it happens once, for all. Pure arithmetic; nothing here looks at a disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.base.errors import RecipeError
from understudy.lab.stages import scale_of, target_of
from understudy.methods.kdnas.settings import KDNAS
from understudy.methods.maxidisc import distil as maxidisc
from understudy.methods.maxidisc.settings import MaxiDisc
from understudy.methods.minidisc import distil as minidisc
from understudy.methods.minidisc.settings import MiniDisc
from understudy.methods.peakd.settings import PeaKD
from understudy.recipe.settings import Recipe

BACKWARD_ONLY_INPUTS = 2 / 3
"""What a frozen network costs of a trained one: forward 1, backward to the inputs 1, none of the 1 for the weights."""


@dataclass(frozen=True)
class Facts:
    """What stages depend on beside the recipe.

    share   operations of the student's forward pass, in those of the teacher's
    found   the same for a student that is still to be found: the mean over the space that is searched
    layers  of the teacher
    rows    to learn from
    """

    share: float
    layers: int
    rows: int
    found: float = 1.0


@dataclass(frozen=True)
class Stage:
    """Something that is trained.

    name     of it, and (up to what follows a dash) of its step in the run
    setting  the key that says for how many epochs
    wanted   epochs, where there is no budget
    passes   optimiser steps of one of these epochs, in those of an epoch of the recipe
    share    of the teacher's network that a step trains
    fits     how many trainings are meant
    """

    name: str
    setting: str
    wanted: float
    passes: float
    share: float
    fits: int = 1

    def cost(self, kind: str) -> float:
        """Of one epoch of all its trainings."""
        return self.fits * self.passes * (self.share if kind == "flops" else 1.0)


def stages_of(recipe: Recipe, facts: Facts) -> list[Stage]:
    """What a run of a recipe trains on the student's side, in order; the student itself last."""
    method, epochs = recipe.method, recipe.train.epochs
    student = Stage("student", "train.epochs", epochs, 1.0, facts.share * trained_part(recipe))
    if isinstance(method, PeaKD) and method.ptp is not None:
        return [Stage("ptp", "method.ptp.epochs", method.ptp.epochs, 1.0, student.share), student]
    if isinstance(method, MiniDisc):
        return _minidisc(method, recipe, student)
    if isinstance(method, MaxiDisc):
        ways = maxidisc.ways(method, target_of(recipe.student), facts.layers)
        seeds = method.seeds or (recipe.seed,)
        steps = {
            maxidisc.step_name(way[:number], seed, recipe.seed): facts.share if way[number - 1] is None else
            scale_of(way[number - 1], facts.layers)
            for way in ways for seed in seeds for number in range(1, len(way) + 1)
        }  # fmt: skip
        return [Stage(name, "train.epochs", epochs, 1.0, share) for name, share in steps.items()]
    if isinstance(method, KDNAS):
        return _kdnas(method, recipe, facts)
    return [student]


def trained_part(recipe: Recipe) -> float:
    """The part of a training step's cost that is left where most weights are frozen."""
    return {"all": 1.0, "adapter": BACKWARD_ONLY_INPUTS, "head": 1 / 3}[recipe.train.trains(recipe.how)]


def _minidisc(method: MiniDisc, recipe: Recipe, student: Stage) -> list[Stage]:
    """Candidates that are trained together in each step, then the student. Which one is chosen nobody knows before: where
    there are several iterations, the middle one."""
    target = recipe.student.sparsity
    target = round(1 - student.share, 4) if target is None else target
    found, at = [], 0.0
    for number in range(1, method.iterations):
        among = minidisc.assistants(method, number, at, target)
        if not among:
            break
        name = "candidates" if method.selector == "tradeoff" else "assistant"
        share = sum(minidisc.scales(method, among)) if method.selector == "tradeoff" else 1 - among[0]
        found.append(Stage(f"{name}-{number}", "train.epochs", student.wanted, 1.0, share))
        at = among[len(among) // 2]
    if method.parity and method.selector == "tradeoff":  # as released, others are trained along with the student
        share = sum(minidisc.scales(method, minidisc.candidates(method, at, target)))
        return [*found, Stage("student", "train.epochs", student.wanted, 1.0, share)]
    return [*found, student]


def _kdnas(method: KDNAS, recipe: Recipe, facts: Facts) -> list[Stage]:
    """As many short trainings as candidates, then the full ones, on which as much is spent."""
    mini = method.mini_kd
    rows = max(1, math.ceil(facts.rows * mini.proxy))
    passes = math.ceil(rows / mini.batch_size) / math.ceil(facts.rows / recipe.train.batch_size)
    search = Stage("search", "method.mini_kd.epochs", mini.epochs, passes, facts.found, method.trials)
    return [search, Stage("student", "train.epochs", mini.epochs * passes * method.trials / method.top_k, 1.0, facts.found,
                          method.top_k)]  # fmt: skip


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
