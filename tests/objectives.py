"""Objectives as a recipe's sections `method` and `objective` make them, for two models of given sizes."""

from __future__ import annotations

from typing import Any

from understudy.kinds import kind as kind_named
from understudy.objective import Objective
from understudy.objective.pair import Pair, Side
from understudy.objective.vocabulary import build
from understudy.recipe.method import methods
from understudy.recipe.objective import ObjectiveSettings, objective_section, with_objective


def settings_of(method: dict[str, Any], objective: dict[str, Any] | None = None, *, kind: str = "classification") -> Any:
    """The section `objective` of a recipe with this `method`, complete."""
    how = methods()[method["name"]]
    data = {"method": method, "objective": objective}
    complete = with_objective(data, how.objective(method, kind), how.objective_keys)
    how.Settings.model_validate(complete["method"])
    found = objective_section().model_validate(complete["objective"])
    assert isinstance(found, ObjectiveSettings)
    return found


def objective_of(
    method: dict[str, Any], objective: dict[str, Any] | None = None, *, kind: str = "classification", num_labels: int = 1,
    student_width: int, teacher_width: int, student_layers: int, teacher_layers: int, teacher_head: Any = None, seed: int = 0,
    same_tokens: bool = True, heads: tuple[int, int] = (1, 1), variances: Any = None,
) -> Objective:  # fmt: skip
    """The objective that the recipe's sections make for two models."""
    student = Side(student_width, student_layers, lambda: [(heads[0], student_width)] * student_layers)
    last = None if teacher_head is None else lambda: teacher_head
    teacher = Side(teacher_width, teacher_layers, lambda: [(heads[1], teacher_width)] * teacher_layers, head=last)
    pair = Pair(
        kind_named(kind), student, teacher, num_labels, seed=seed, same_tokens=same_tokens, variances=variances
    )
    return build(settings_of(method, objective, kind=kind).terms(), pair)[0]
