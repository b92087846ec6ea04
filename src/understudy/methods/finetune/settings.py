"""The settings of `method: {name: finetune}`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy.recipe.method import MethodSettings


class FineTune(MethodSettings):
    """No distillation: the student learns from the labels alone. What every distilled student is compared with."""

    name: Literal["finetune"] = Field(default="finetune", description="this method")
