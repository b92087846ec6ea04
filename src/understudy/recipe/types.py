"""The small types recipes are made of: strict numbers, weights that may follow a schedule, layer maps.

Numbers and booleans are strict, so that `epochs: true` or `lr: "5e-5"` is an error instead of a guess. Infinity and
NaN are refused everywhere.
"""

from __future__ import annotations

from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from understudy.mapping import OLD_WORDS, understood

KINDS = ("classification", "regression", "multilabel", "tokens", "text", "lm", "sft", "chat", "embedding", "ranking", "spans")
"""The kinds of tasks that come with the package: `kinds/<name>.py`."""
if TYPE_CHECKING:
    KindName = str
else:  # those of other packages too: names alone, nothing is imported
    KindName = Literal[(*KINDS, *sorted(metadata.entry_points(group="understudy.kinds").names))]

Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
PositiveCount = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    """Label names and column names are text; YAML reads `0` as a number, which is never meant here."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int), Field(min_length=1)]
Names = Annotated[
    tuple[Name, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str | int]), Field(min_length=1)
]


class Settings(BaseModel):
    """A frozen section of a recipe that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Schedule(Settings):
    """A value that moves from `start` to `end` during training and then stays there."""

    start: NonNegative = Field(description="value at the first step")
    end: NonNegative = Field(description="value from the share `until` of the training on")
    shape: Literal["linear", "cosine"] = Field(default="linear", description="the way from start to end")
    until: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="share of the optimiser steps after which `end` is reached"
    )


class PositiveSchedule(Schedule):
    """A schedule for values that must stay above zero (temperatures)."""

    start: Positive = Field(description="value at the first step")
    end: Positive = Field(description="value from the share `until` of the training on")


Weight = NonNegative | Schedule
Temperature = Positive | PositiveSchedule
LayerList = Annotated[tuple[Count, ...], Field(min_length=1)]
LayerRule = Literal["first", "last", "group_first", "group_last", "spread"]
LayerPairs = Annotated[tuple[tuple[Count, Count], ...], Field(min_length=1)]


def _read(kind: Any, place: str) -> Any:
    """A type that also takes the old words that a place understands."""
    old = Literal[tuple(OLD_WORDS[place])]  # type: ignore[valid-type]
    return Annotated[kind, BeforeValidator(partial(understood, place=place), json_schema_input_type=kind | old)]


if TYPE_CHECKING:
    KeptLayers = str | tuple[int, ...]
    LayerMapping = str | tuple[int, ...] | tuple[tuple[int, int], ...]
    PatientMapping = LayerMapping
else:
    KeptLayers = _read(LayerRule | Literal["best"] | LayerList, "student")
    LayerMapping = _read(LayerRule | Literal["even", "sixths"] | LayerList | LayerPairs, "objective")
    PatientMapping = _read(LayerRule | Literal["multiples", "top"] | LayerList | LayerPairs, "patient")
ShareKind = Literal[
    "sps", "sps_no_shuffle", "cyclic", "cyclic_no_shuffle", "top", "top_no_shuffle", "mirrored", "mirrored_no_shuffle"
]
LayerUses = Annotated[tuple[tuple[Count, Flag], ...], Field(min_length=1)]
