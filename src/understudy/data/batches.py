"""Which examples make a batch. Pure functions: the same seed and step give the same batch in every process.

`lengths` are sub-words per example, (N,). A batch is an array of example numbers, int64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from understudy.base.errors import RecipeError
from understudy.base.seeds import permutation

if TYPE_CHECKING:
    from understudy.recipe.settings import TrainSettings

_POOL = 50  # batches sorted by length together: enough that lengths are alike, few enough that order stays random


class Order:
    """Which examples each optimiser step of a training takes.

    With `train.batch_tokens` = B the epochs, each in an order of its own, follow each other as one stream of tokens, and step k
    takes the examples that begin in its tokens from k B to (k + 1) B. So a place in the stream is found by arithmetic, with
    nothing to skip, and a batch may hold the end of one epoch and the beginning of the next.

    Args:
        lengths: tokens of each example, (N,).
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, settings: TrainSettings, seed: int) -> None:
        self.lengths, self.settings, self.seed = np.asarray(lengths), settings, seed
        self._epochs: dict[int, list[np.ndarray]] = {}
        self._streams: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.total = int(self.lengths.sum())
        if settings.batch_tokens is None:
            self.steps_per_epoch = math.ceil(len(self.lengths) / settings.batch_size)
            self.planned = self.steps_per_epoch * settings.epochs
            self.course = self.steps_per_epoch * (settings.planned_epochs or settings.epochs)
            return
        if settings.batch_tokens < self.lengths.max():
            raise RecipeError(
                f"train.batch_tokens is {settings.batch_tokens}, but a row has {int(self.lengths.max())} tokens: give at "
                "least as many."
            )
        self.steps_per_epoch = math.ceil(self.total / settings.batch_tokens)
        self.planned = math.ceil((settings.tokens or settings.epochs * self.total) / settings.batch_tokens)
        epochs = settings.planned_epochs
        self.course = self.planned if epochs is None else math.ceil(epochs * self.total / settings.batch_tokens)

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """(epoch in which the step begins, its examples)."""
        if self.settings.batch_tokens is None:
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch not in self._epochs:
                settings = self.settings
                made = training_batches(
                    self.lengths, batch_size=settings.batch_size, seed=self.seed, epoch=epoch, grouping=settings.grouping,
                    shuffle=settings.shuffle,
                )  # fmt: skip
                self._epochs = {epoch: made}
            return epoch, self._epochs[epoch][position]
        start, end = step * self.settings.batch_tokens, (step + 1) * self.settings.batch_tokens
        parts = []
        for epoch in range(start // self.total, (end - 1) // self.total + 1):
            order, begins = self._stream(epoch)
            first, last = np.searchsorted(begins, [start - epoch * self.total, end - epoch * self.total])
            parts.append(order[first:last])
        return start // self.total, np.concatenate(parts)

    def _stream(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's order, and where each example of it begins in the epoch's tokens."""
        if epoch not in self._streams:
            number = len(self.lengths)
            order = permutation(number, self.seed, "order", epoch) if self.settings.shuffle else np.arange(number)
            lengths = self.lengths[order]
            recent = {key: value for key, value in self._streams.items() if key == epoch - 1}
            self._streams = recent | {epoch: (order, np.cumsum(lengths) - lengths)}
        return self._streams[epoch]


def training_batches(
    lengths: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    grouping: str = "none",
    shuffle: bool = True,
) -> list[np.ndarray]:
    """One epoch: every example once, `batch_size` examples per optimiser step, the last batch perhaps smaller.

    Without `shuffle` the examples come as they stand, in every epoch alike.

    grouping "length" puts examples of like length into a batch: the shuffled examples are sorted within pools of 50
    batches, and the batches shuffled again.
    """
    lengths = np.asarray(lengths)
    if not shuffle:
        return _cut(np.arange(len(lengths)), batch_size)
    order = permutation(len(lengths), seed, "order", epoch)
    if grouping == "none":
        return _cut(order, batch_size)
    batches: list[np.ndarray] = []
    for pool in _cut(order, batch_size * _POOL):
        batches += _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    return [batches[i] for i in permutation(len(batches), seed, "batches", epoch)]


def micro_batches(
    indices: Sequence[int] | np.ndarray, lengths: Sequence[int] | np.ndarray, *, max_tokens: int
) -> list[np.ndarray]:
    """A batch cut so that no part needs more than `max_tokens` when padded (rows times the longest row).

    Rows are sorted by length, longest first, so that parts are alike inside and the largest comes first. A row that is
    longer than the budget makes a part of its own.
    """
    indices, lengths = np.asarray(indices, dtype=np.int64), np.asarray(lengths)
    order = indices[np.argsort(-lengths[indices], kind="stable")]
    parts: list[np.ndarray] = []
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, int(lengths[order[start]])))
        parts.append(order[start : start + rows])
        start += rows
    return parts


def evaluation_batches(lengths: Sequence[int] | np.ndarray, *, max_tokens: int) -> list[np.ndarray]:
    """All examples, longest first, within the budget: for forward passes whose order does not matter."""
    return micro_batches(np.arange(len(lengths)), lengths, max_tokens=max_tokens)


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
