"""The settings of `method: {name: finetune}`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from understudy.recipe.types import Settings


class FineTune(Settings):
    """No distillation: the student learns from the labels alone. What every distilled student is compared with."""

    summary: ClassVar[str] = "learn from the labels alone, without distillation: what every student is measured against"
    needs: ClassVar[str] = "labels; a teacher only if the student is made of its layers"
    needs_teacher: ClassVar[bool] = False

    name: Literal["finetune"] = Field(default="finetune", description="this method")
