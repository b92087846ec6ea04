"""Numbers that change while training: a constant, or a ramp from `start` to `end`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class RampLike(Protocol):
    """Anything with the four fields of a ramp; the recipe's `Schedule` is one."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def shape(self) -> str: ...
    @property
    def until(self) -> float: ...


@dataclass(frozen=True)
class Ramp:
    """From `start` to `end` over the first `until` (a fraction) of training, constant afterwards."""

    start: float
    end: float
    shape: str = "linear"
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in ("linear", "cosine"):
            raise ValueError(f"The shape of a ramp is 'linear' or 'cosine', not {self.shape!r}.")
        if not 0 < self.until <= 1:
            raise ValueError(f"A ramp ends at a fraction `until` in (0, 1] of training, not {self.until}.")


Setting = float | RampLike


def value_at(setting: Setting, progress: float) -> float:
    """The value when `progress`, a fraction in [0, 1] of the optimiser steps, is behind us.

    >>> value_at(0.5, 0.9), value_at(Ramp(1.0, 3.0), 0.25), value_at(Ramp(1.0, 3.0, until=0.5), 0.75)
    (0.5, 1.5, 3.0)
    """
    if isinstance(setting, (int, float)):
        return float(setting)
    done = min(max(progress, 0.0) / setting.until, 1.0)
    if setting.shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return setting.start + (setting.end - setting.start) * done


def extremes(setting: Setting) -> tuple[float, float]:
    """The lowest and highest value it can take (a ramp is monotonous)."""
    if isinstance(setting, (int, float)):
        return float(setting), float(setting)
    return min(setting.start, setting.end), max(setting.start, setting.end)


def scaled(setting: Setting, factor: float) -> Setting:
    """The same course, `factor` times as high."""
    if isinstance(setting, (int, float)):
        return float(setting) * factor
    return Ramp(setting.start * factor, setting.end * factor, setting.shape, setting.until)
