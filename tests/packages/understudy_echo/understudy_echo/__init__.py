"""Echo: the student repeats its teacher's answers, first faintly (softened), then aloud.

A method for understudy in a package of its own. Nothing here is heavy: torch is imported by `distil`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from understudy.base.errors import RecipeError
from understudy.recipe.method import Facts, Method, MethodSettings, Stage, student_stage
from understudy.recipe.types import Positive, PositiveCount


class Echo(MethodSettings):
    """The teacher's answers alone, in two trainings: softened ones, then as they are."""

    name: Literal["echo"] = Field(default="echo", description="this method")
    faint_epochs: PositiveCount = Field(default=1, description="passes over the rows in the first training")
    temperature: Positive = Field(default=4.0, description="how faint the first answers are")


class EchoMethod(Method):
    Settings = Echo
    summary = "repeat the teacher's answers, first softened, then as they are; labels are not looked at"
    needs = "a teacher with a trained head, and a task of classes"

    def check(self, recipe: Any, data: Any, teacher: Any, student: Any) -> str:
        if data is not None and data.task.kind != "classification":
            raise RecipeError(f"echo repeats answers of classes; {data.task.name} has none.")
        return f"echo answers with {student.layers} of {teacher.layers} layers."

    def stages(self, recipe: Any, facts: Facts) -> list[Stage]:
        student = student_stage(recipe, facts)
        return [Stage("faint", "method.faint_epochs", recipe.method.faint_epochs, 1.0, student.share), student]

    def distil(self, settings: Echo, lab: Any) -> Any:
        from understudy_echo.distil import distil

        return distil(settings, lab)

    def section(self, kept: Any) -> Any:
        from understudy_echo.page import section

        return section(kept)


METHOD = EchoMethod()
