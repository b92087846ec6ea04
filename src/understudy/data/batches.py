"""Which examples make a batch. Pure functions: the same seed and epoch give the same batches in every process.

`lengths` are sub-words per example, (N,). A batch is an array of example numbers, int64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.base.seeds import permutation

_POOL = 50  # batches sorted by length together: enough that lengths are alike, few enough that order stays random


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
