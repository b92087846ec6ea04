"""What a search may find, what it costs, and how much of one a budget pays for."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from understudy.base.errors import RecipeError
from understudy.kinds import kind
from understudy.methods.kdnas.reward import trained
from understudy.methods.kdnas.settings import KDNAS
from understudy.methods.kdnas.space import Costs, Space, shape_of, space_below
from understudy.models.model import Model
from understudy.recipe.method import Facts, Stage
from understudy.recipe.settings import Recipe


def space_of(cfg: KDNAS, recipe: Recipe, teacher: Any) -> tuple[Space, Costs]:
    """What may be found below a teacher (`check.Sizes`), and what that costs; raises RecipeError where nothing is left."""
    bare = Model(teacher.net, None, (), kind("text"), "", None)
    return space_below(bare, cfg.space, length=recipe.evaluate.latency.length)


def require(cfg: KDNAS, recipe: Recipe, data: Any, teacher: Any, student: Any) -> str:
    """There is something to be found."""
    return f"the method finds the student: {space_of(cfg, recipe, teacher)[0].describe()}"


def settle(
    cfg: KDNAS, recipe: Recipe, folder: Path | None, *, look: bool = False, task: Any = None
) -> tuple[Recipe, list[str]]:
    """The recipe itself; refused before processes wait for each other: workers share a search through its study."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "A search does not run under torchrun: start the run once, and `understudy search worker DIR` for each further "
            "device."
        )
    return recipe, []


def expected_share(cfg: KDNAS, recipe: Recipe, teacher: Any) -> float:
    """The mean, over all architectures that may be found, of their operations in those of the teacher; 1 where there is
    none (`check` says so)."""
    try:
        space, costs = space_of(cfg, recipe, teacher)
    except RecipeError:
        return 1.0
    whole = costs.flops(shape_of(teacher.net.config.to_dict()))
    return fmean(costs.flops(space[point]) for point in range(len(space))) / whole


def stages(cfg: KDNAS, recipe: Recipe, facts: Facts) -> list[Stage]:
    """As many short trainings as candidates, then the full ones, on which as much is spent."""
    mini = cfg.mini_kd
    passes = _steps(cfg, facts.rows) / math.ceil(facts.rows / recipe.train.batch_size)
    search = Stage("search", "method.mini_kd.epochs", mini.epochs, passes, facts.found, cfg.trials)
    full = mini.epochs * passes * cfg.trials / cfg.top_k
    return [search, Stage("student", "train.epochs", full, 1.0, facts.found, cfg.top_k)]


def _steps(cfg: KDNAS, rows: int) -> int:
    """Optimiser steps of an epoch of mini-KD."""
    return math.ceil(max(1, math.ceil(rows * cfg.mini_kd.proxy)) / cfg.mini_kd.batch_size)


def arm(own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
    """A search for a student with no more parameters and operations than the others'."""
    space = base.limited(dict(own.get("space") or {}))
    mini = {"batch_size": base.recipe.train.batch_size, **dict(own.get("mini_kd") or {})}
    return {**base.searched_student(), "method": {**own, "space": space, "mini_kd": mini}}, []


def affordable(
    cfg: KDNAS, own: Mapping[str, Any], recipe: Recipe, facts: Facts, budget: str, total: float
) -> tuple[dict[str, Any], list[str]]:
    """A search that half of the budget pays for: two epochs for each candidate where that leaves eight, else one."""
    if budget == "seconds":
        raise RecipeError("a search for architectures has no clock; compare it on the budget steps or flops.")
    search = stages(cfg, recipe, facts)[0]
    one = search.cost(budget) / search.fits
    half = total / 2
    tried = next((n for n in (int(half / (2 * one) + 1e-9), int(half / one + 1e-9)) if n >= 8), int(half / one + 1e-9))
    tried = min(cfg.trials, tried)
    if tried < 2:
        raise RecipeError(
            f"half of the budget pays for {half / one:.1f} candidates, and a search needs two; raise train.epochs, or leave "
            "this arm out."
        )
    each = min(cfg.candidates, tried)
    episodes = max(1, tried // cfg.candidates)
    note = f"{episodes * each} candidates instead of {cfg.trials}: the search spends about half of the budget."
    changes = {"method.episodes": episodes, "method.candidates": each}
    return changes, [note] if episodes * each < cfg.trials else []


def spent(cfg: KDNAS, stage: Stage, kept: Mapping[str, Any], rows: int) -> tuple[int, float] | None:
    """Of the search: the records of its candidates are gone, but each that was trained took the same number of steps."""
    if stage.name != "search":
        return None
    return len(trained(kept["search"]["rows"])) * _steps(cfg, rows) * cfg.mini_kd.epochs, kept["search"]["seconds"]


def student_step(cfg: KDNAS, recipe: Recipe, kept: Mapping[str, Any]) -> str:
    """The full KD that came out best."""
    return kept["full-kd"]["rows"][kept["full-kd"]["chosen"]]["step"]
