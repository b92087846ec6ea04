"""Arithmetic of metrics over resamples: weights W (R, N), one line per resample, give (R,) values.

A resample of N rows drawn with replacement is N counts that sum to N; the plain score is the resample in which every row
counts once. Counting metrics need only W @ counts, which makes a thousand resamples one matrix product; rank correlation
re-ranks from the same weights. Undefined values (0/0, the correlation of a constant) are 0: a model that always says the
same has shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""(R, N) weights -> (R,) values of one metric."""


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom with 0/0 = 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def f1(hit: np.ndarray, said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    return ratio(2 * hit, said + gold)


def precision(hit: np.ndarray, said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    return ratio(hit, said)


def recall(hit: np.ndarray, said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    return ratio(hit, gold)


def counter(gold: np.ndarray, said: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """0/1 of shape (N, C) twice -> weights -> (hits, predicted, gold), each (R, C)."""
    hits = gold * said
    return lambda weights: (weights @ hits, weights @ said, weights @ gold)


def unit(values: np.ndarray) -> np.ndarray:
    """Centred and scaled to at most 1, which changes no correlation and saves it from cancellation and overflow."""
    scale = np.abs(values).max()
    values = values / (scale or 1.0)
    centred = values - values.mean() if np.ptp(values) > 0 else np.zeros_like(values)
    return centred / (np.abs(centred).max() or 1.0)


def correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation; x and y are (N,) or (R, N). 0 where either side is constant within the resample."""
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    var_x, var_y = ((weights * d * d).sum(axis=1) for d in (dx, dy))
    # A constant leaves only rounding noise, about 1e-16 of its size per row: that is not variance.
    floor_x, floor_y = (1e-24 * (weights * v * v).sum(axis=1) for v in (x, y))
    alive = (var_x > floor_x) & (var_y > floor_y)
    value = ratio((weights * dx * dy).sum(axis=1), np.where(alive, np.sqrt(var_x) * np.sqrt(var_y), 0))
    return np.clip(value, -1, 1)


def ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Values (N,) -> weights (R, N) -> mid-ranks (R, N) within each resample: ties share the mean of their places."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))

    def ranks(weights: np.ndarray) -> np.ndarray:
        size = np.add.reduceat(weights[:, order], starts, axis=1)
        return (np.cumsum(size, axis=1) - (size - 1) / 2)[:, group]

    return ranks


def mean_of(values: np.ndarray) -> Statistic:
    """The mean of one number per row (N,)."""
    return lambda weights: ratio(weights @ values, weights.sum(axis=1))
