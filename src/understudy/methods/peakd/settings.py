"""The settings of `method: {name: peakd}`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from understudy.recipe.method import MethodSettings
from understudy.recipe.types import Count, Flag, Positive, PositiveCount, Settings, Share


class PTP(Settings):
    """Pre-training with the teacher's predictions: before the task, the student learns which rows the teacher gets
    right or wrong, and how surely. `off` leaves the stage out."""

    epochs: PositiveCount = Field(default=2, description="passes over the training rows")
    planned_epochs: PositiveCount | None = Field(
        default=None, description="epochs the learning rate is planned for; null = `epochs`, 6 under parity"
    )
    lr: Positive | None = Field(default=None, description="highest learning rate; null = train.lr")
    folds: Annotated[int, Field(strict=True, ge=2)] | None = Field(
        default=None, description="judge each row by a teacher that was fine-tuned without it, one for each of so many parts of "
        "the rows; null = by the teacher itself, which is hardly ever wrong on rows it has learnt"
    )  # fmt: skip
    class_weights: Flag = Field(
        default=False, description="weigh rows so that all four classes count alike, however few rows they have"
    )
    few: Count = Field(default=20, description="warn when a class has fewer rows than this")


def _switch(value: Any) -> Any:
    """`ptp: on` and `ptp: off` in words or as true and false."""
    if value is True or value == "on":
        return {}
    return None if value is False or value == "off" else value


class PeaKD(MethodSettings):
    """Labels, soft labels and first-token states of the layers below (Patient KD), for a student whose layers are used
    twice with queries and keys exchanged (`student.share`), after pre-training with the teacher's predictions."""

    name: Literal["peakd"] = Field(default="peakd", description="this method")
    parity: Flag = Field(
        default=False, description="reproduce the numbers of the released code: its reductions and thresholds, and BertAdam, "
        "clipping and order of rows where `train` does not say otherwise"
    )  # fmt: skip
    ptp: Annotated[PTP | None, BeforeValidator(_switch)] = Field(
        default=PTP(), description="pre-training with the teacher's predictions; off = leave it out"
    )
    thresholds: Literal["median", "quantile", "published"] | tuple[Share, Share] | None = Field(
        default=None, description="above which confidence the teacher is sure, where it is right and where it is wrong: the "
        "median of each, `quantile` of each, the published pair of the task, or two numbers; null = median, published "
        "under parity"
    )  # fmt: skip
    quantile: Annotated[float, Field(strict=True, gt=0, lt=1)] = Field(
        default=0.5, description="which quantile of the confidences, for thresholds: quantile"
    )

    @model_validator(mode="after")
    def _quantile_is_used(self) -> Self:
        if self.quantile != 0.5 and self.thresholds != "quantile":
            raise ValueError("`quantile` is for `thresholds: quantile`; add that, or remove it.")
        return self
