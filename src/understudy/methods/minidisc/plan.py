"""MiniDisc's schedule: which sparsities are tried as assistants, what that costs, and what cannot work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.base.errors import RecipeError
from understudy.data.types import TaskData
from understudy.kinds import lower_is_better
from understudy.methods.minidisc.settings import MiniDisc
from understudy.recipe.method import Facts, Stage, student_stage
from understudy.recipe.settings import Recipe, StudentSettings
from understudy.recipe.staged import GRID

CAPACITY_GAP = 2.5
"""How many times larger than its student a teacher should be (Zhang et al., ACL 2025, arXiv 2311.07052)."""


def target_sparsity(cfg: MiniDisc, student: StudentSettings, metric: str) -> float | None:
    """The student's sparsity, if the method can work with these settings; None where a budget decides on it.

    Raises:
        RecipeError: no pruned student, no candidate larger than it, or a metric where less is better.
    """
    if not student.prunes or student.num_layers is not None or not isinstance(student.keep, str):
        raise RecipeError(
            "MiniDisc's student is its teacher with fewer heads and neurons: give student.sparsity alone, as in "
            "`student: {sparsity: 0.9}`. For fewer layers there is `method: maxidisc`."
        )
    if student.share not in ("auto", "none"):
        raise RecipeError("MiniDisc's student has the layers of its teacher; student.share does not go with it.")
    target = student.sparsity
    if cfg.selector != "tradeoff" or cfg.iterations == 1 or target is None:
        return target
    if lower_is_better(metric):
        raise RecipeError(
            f"method.selector: tradeoff adds the selecting metric to the sparsity, and '{metric}' is better when it is lower; "
            "set method.selector to capacity-gap or, where the task has one, task.select to a score."
        )
    outside = [] if cfg.candidates == "auto" or cfg.parity else [s for s in cfg.candidates if s >= target]
    if outside:
        raise RecipeError(
            f"method.candidates: {outside} are not below the student's sparsity {target:g}. Leave them out; "
            "method.include_target lets the student itself be chosen."
        )
    if not candidates(cfg, 0.0, target):
        raise RecipeError(
            f"No assistant fits between method.min_assistant_sparsity {cfg.min_assistant_sparsity:g} and the student's "
            f"{target:g}: lower the first, give method.candidates, or set method.selector to none."
        )
    return target


def candidates(cfg: MiniDisc, at: float, target: float) -> list[float]:
    """The sparsities that are trained together below a teacher of sparsity `at`, rising.

    Deviates: as released (parity) they include the student's and those beyond it, and the teacher's own.
    """
    grid = [s for s in GRID if s >= cfg.min_assistant_sparsity] if cfg.candidates == "auto" else list(cfg.candidates)
    if cfg.parity:
        return sorted({s for s in grid if s >= at} | {target})
    between = [s for s in grid if at < s < target]
    return [*between, target] if cfg.include_target else between


def assistants(cfg: MiniDisc, number: int, at: float, target: float) -> list[float]:
    """Among which sparsities the assistant of iteration `number` is chosen; none where there is to be none."""
    if cfg.selector == "tradeoff":
        return candidates(cfg, at, target)
    scale = (1 - target) * CAPACITY_GAP ** (cfg.iterations - number)
    return [round(1 - scale, 10)] if cfg.selector == "capacity-gap" and scale < 1 - at else []


def scales(cfg: MiniDisc, among: Sequence[float]) -> list[float]:
    """What takes part in a step, as shares of the teacher; of those that are drawn, the mean."""
    scales = [1 - s for s in among]
    if cfg.sandwich == "all" or len(scales) <= 3:
        return scales
    return [scales[0], sum(scales[1:-1]) / len(scales[1:-1]), scales[-1]]


def require(cfg: MiniDisc, recipe: Recipe, data: TaskData | None, teacher: Any, student: Any) -> None:
    """The schedule."""
    if data is not None:
        target_sparsity(cfg, recipe.student, data.task.select)


def arm(own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
    """A pruned student, and assistants that are larger."""
    student, sparsity = base.pruned_student()
    # The published least sparsity of an assistant suits students of a tenth: for larger ones half their own.
    room = {} if "min_assistant_sparsity" in own or sparsity > 0.5 else {"min_assistant_sparsity": sparsity / 2}
    return {**student, "method": {**own, **room}}, []


def stages(cfg: MiniDisc, recipe: Recipe, facts: Facts) -> list[Stage]:
    """Candidates that are trained together in each step, then the student. Which one is chosen is not known beforehand: where
    there are several iterations, the middle one."""
    student = student_stage(recipe, facts)
    target = recipe.student.sparsity
    target = round(1 - student.share, 4) if target is None else target
    found, at = [], 0.0
    for number in range(1, cfg.iterations):
        among = assistants(cfg, number, at, target)
        if not among:
            break
        name = "candidates" if cfg.selector == "tradeoff" else "assistant"
        share = sum(scales(cfg, among)) if cfg.selector == "tradeoff" else 1 - among[0]
        found.append(Stage(f"{name}-{number}", "train.epochs", student.wanted, 1.0, share))
        at = among[len(among) // 2]
    if cfg.parity and cfg.selector == "tradeoff":  # as released, others are trained along with the student
        share = sum(scales(cfg, candidates(cfg, at, target)))
        return [*found, Stage("student", "train.epochs", student.wanted, 1.0, share)]
    return [*found, student]
