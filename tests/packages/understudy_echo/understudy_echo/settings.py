"""The section `method: {name: echo}` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy.recipe.method import MethodSettings
from understudy.recipe.types import Positive, PositiveCount


class Echo(MethodSettings):
    """The teacher's answers alone, in two trainings: softened ones, then as they are."""

    name: Literal["echo"] = Field(default="echo", description="this method")
    faint_epochs: PositiveCount = Field(default=1, description="passes over the rows in the first training")
    temperature: Positive = Field(default=4.0, description="how faint the first answers are")
