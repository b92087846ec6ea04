"""What it trains, and what it cannot do."""

from __future__ import annotations

from typing import Any

from understudy.base.errors import RecipeError
from understudy.recipe.method import Facts, Stage, student_stage
from understudy.recipe.settings import Recipe
from understudy_echo.settings import Echo


def require(settings: Echo, recipe: Recipe, data: Any, teacher: Any, student: Any) -> str:
    if data is not None and data.task.kind.distribution != "softmax":
        raise RecipeError(f"echo repeats answers of classes; {data.task.name} has none.")
    return f"echo answers with {student.layers} of {teacher.layers} layers."


def stages(settings: Echo, recipe: Recipe, facts: Facts) -> list[Stage]:
    student = student_stage(recipe, facts)
    return [Stage("faint", "method.faint_epochs", settings.faint_epochs, 1.0, student.share), student]
