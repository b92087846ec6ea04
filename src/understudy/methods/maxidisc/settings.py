"""The settings of `method: {name: maxidisc}`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from understudy.recipe.staged import Staged, Stages
from understudy.recipe.types import Count, Flag


class MaxiDisc(Staged):
    """Distillation in stages, each student being the teacher of the next (MaxiDisc): one given path, or every assistant
    tried and the best path kept."""

    name: Literal["maxidisc"] = Field(default="maxidisc", description="this method")
    path: Stages | None = Field(
        default=None,
        description="go this way and try no other: stages such as 80S (sparsity) or 6L (layers), the student last, as in "
        "`[6L, 4L]` or `80,90S`; `[]` = straight from the teacher (conventional distillation)",
    )  # fmt: skip
    assistants: Literal["auto"] | Annotated[Stages, Field(min_length=1)] = Field(
        default="auto",
        description="try a way through each of these; auto = 50S, 60S, 70S, 80S, 85S and 90S as far as they are larger than a "
        "pruned student, or every number of layers between teacher and student",
    )  # fmt: skip
    direct: Flag = Field(default=True, description="try the way without an assistant as well")
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="try every way with each of these seeds; the best mean chooses the way, the best score its student; "
        "null = the recipe's seed",
    )

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.path is not None and self.assistants != "auto":
            raise ValueError("`path` is one way, `assistants` are many: give one of them.")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds: {list(self.seeds)}` names a seed twice.")
        return self
