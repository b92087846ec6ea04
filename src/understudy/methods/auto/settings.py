"""The settings of `method: {name: auto}`: what the student may cost."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from understudy.recipe.method import MethodSettings
from understudy.recipe.types import Count, Positive, PositiveCount


class Auto(MethodSettings):
    """Let the comparisons decide: the student, what it learns and on which schedule, for what it may cost. Without a limit:
    half of the teacher's operations."""

    name: Literal["auto"] = Field(default="auto", description="this method")
    max_latency_ms: Positive | None = Field(
        default=None, description="the student's median milliseconds at most, as evaluate.latency measures them here"
    )
    max_parameters: PositiveCount | None = Field(
        default=None, description="the student's parameters at most, embeddings included"
    )
    max_flops: PositiveCount | None = Field(
        default=None, description="its operations at most, for one row of evaluate.latency.length tokens, two per multiply-add"
    )
    faster: Annotated[float, Field(strict=True, gt=1)] | None = Field(
        default=None, description="so many times as fast as the teacher at least, as evaluate.latency measures both here"
    )
    max_mb: Positive | None = Field(default=None, description="megabytes of its weights at most, as they are saved (fp32)")
    search: Count = Field(
        default=0,
        description="spend so many short distillations, in whole rounds of 8, on looking for the architecture (kdnas); 0 = none",
    )

    @model_validator(mode="after")
    def _search_of_two(self) -> Self:
        if self.search == 1:
            raise ValueError("`search: 1` leaves nothing to choose from; give 8 or more, or 0 for none.")
        if self.search and (self.faster or self.max_mb):
            raise ValueError("`search` takes `max_latency_ms`, `max_flops` or `max_parameters`, not `faster` or `max_mb`.")
        return self
