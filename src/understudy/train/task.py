"""What a fit is given, what changes while it runs, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from understudy.cache import Teacher
from understudy.data.encode import Encoded
from understudy.models.model import Model
from understudy.objective import Objective
from understudy.recipe.settings import TrainSettings


class Views(Protocol):
    """Several sub-networks of one model, trained together.

    A view is a part of the model that works by itself, such as the first heads and neurons of every layer. Views share their
    weights, so one optimiser step adds up the gradients of all of them (MiniDisc; slimmable networks).
    """

    @property
    def all(self) -> Sequence[str]:
        """Their names; each is scored at every evaluation."""
        ...

    @property
    def watched(self) -> Sequence[str]:
        """Those whose scores patience waits for."""
        ...

    def names(self, step: int) -> Sequence[str]:
        """Those that take part in an optimiser step: a function of the step alone, and the same in all processes."""
        ...

    def use(self, name: str) -> AbstractContextManager[Any]:
        """Inside this context the model *is* that sub-network, with the shared weights."""
        ...

    def small(self, name: str) -> nn.Module:
        """A network of that size and no larger, with copies of the present weights: what is kept of the best."""
        ...


@dataclass
class Fit:
    """What to train on what, and how; `folder` is where its checkpoints and metrics live.

    Attributes:
        model: the student. Trained in place; holds its best weights at the end.
        data: the training rows in the student's tokens; several maskings of the same rows take turns, one per epoch.
        teachers: for each of `data`, who says what the teacher thinks; None without a teacher.
        score: selection metrics of the current weights, by name. Must not touch randomness.
        select: the metric that chooses the best weights.
        views: train these sub-networks of the model together. Each is scored by `score` and keeps the best of its own
            weights, in `folder/best`; the model itself is left with its last weights.
        keep_end: leave a checkpoint of the end, from which more epochs could go on.
    """

    folder: Path
    name: str
    model: Model
    data: Sequence[Encoded]
    objective: Objective
    settings: TrainSettings
    seed: int
    teachers: Sequence[Teacher] | None = None
    score: Callable[[], dict[str, float]] | None = None
    select: str = "loss"
    trackers: Sequence[Any] = ()
    views: Views | None = None
    keep_end: bool = False


@dataclass
class State:
    """What changes while training, apart from tensors. Saved with every checkpoint."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    since_best: int = 0
    max_tokens: int = 0
    skipped_steps: int = 0
    metrics_bytes: int = 0
    seconds: float = 0.0
    best_metrics: dict[str, float] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """How a fit went. `steps` were taken of `planned`; seconds include those before an interruption.

    `views`: name -> {"best_step", "best_value", "best_metrics", "values": [[step, value of the selecting metric], …]}.
    """

    steps: int
    planned: int
    seconds: float
    best_step: int | None
    best_metrics: dict[str, float]
    skipped_steps: int
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
