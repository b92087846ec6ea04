"""The settings of `method: {name: minidisc}`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from understudy.recipe.staged import Staged
from understudy.recipe.types import Flag, NonNegative, PositiveCount

_Sparsity = Annotated[float, Field(strict=True, gt=0, lt=1)]


def _in_percent(value: Any) -> Any:
    """The original writes "50" or 50 for a sparsity of 0.5."""
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        value = float(value)
    return round(value / 100, 10) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 else value


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"{list(values)} must be strictly increasing.")
    return values


class MiniDisc(Staged):
    """Prune, train all candidates for the assistant as sub-networks of one model, choose one by score and size, and let it
    teach the student (MiniDisc; Zhang et al., EACL 2024)."""

    name: Literal["minidisc"] = Field(default="minidisc", description="this method")
    selector: Literal["tradeoff", "capacity-gap", "none"] = Field(
        default="tradeoff",
        description="how the assistant is found: tradeoff = highest score + lam · sparsity; capacity-gap = 2.5 times as large "
        "as the student, without trials; none = no assistant",
    )  # fmt: skip
    lam: NonNegative = Field(
        default=0.2, description="what a sparsity of 1 is worth, in units of the selecting metric (λ)"
    )
    iterations: PositiveCount = Field(default=2, description="fits: the assistants, one after the other, and the student")
    min_assistant_sparsity: Annotated[float, BeforeValidator(_in_percent), Field(strict=True, ge=0, lt=1)] = Field(
        default=0.5, description="the lowest sparsity of an assistant (the original's trunc_sparsity)"
    )
    candidates: Literal["auto"] | Annotated[tuple[_Sparsity, ...], Field(min_length=1), AfterValidator(_rising)] = Field(
        default="auto",
        description="sparsities to try, strictly between teacher and student; auto = .1, .2, …, .8, .85, .9, .95 from "
        "min_assistant_sparsity on",
    )
    sandwich: Literal["all", "sampled"] = Field(
        default="all",
        description="what takes part in a step: all candidates; or the largest, the smallest and one of the others, drawn by the "
        "seed",
    )  # fmt: skip
    include_target: Flag = Field(
        default=False,
        description="let the student's own sparsity be a candidate; if it is chosen, the student is done and has no assistant",
    )
