"""Which of many arms is better, when each was trained with a few seeds and all answered the same rows.

Two things are left to chance: which rows the test set has, and what a seed does to a training. A difference between two arms
is believed only if it is larger than both explain, and larger than the best of many comparisons would be by luck:

    rows    bootstrap: rows are drawn with replacement (groups of rows as a whole), the same for all arms and seeds
    seeds   Student's t: on top of each draw of rows, a draw of how far the mean over the K seeds is off, s/√K · t.
            Drawing K = 3 seeds with replacement instead gives intervals 2.7 times too narrow, and more than one false
            discovery in six where one in twenty was promised (tests/unit/evaluate/test_significance.py shows both).
            Three seeds hardly know their own deviation, so for differences it is learnt from all pairs of arms together,
            as in an analysis of variance: (A - 1)(K - 1) degrees of freedom. A pair that deviates more keeps its own.
    many    Holm (1979): step-down, valid whatever depends on what

Seeds are paired: two arms with the same seed saw the rows in the same order, so the deviation is that of their difference.
With one seed nothing is known about other seeds, and the interval is about these weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from understudy.base.seeds import numpy_rng
from understudy.data.types import Task
from understudy.evaluate.bootstrap import LEVEL, Resampled, ends, over_seeds, resample
from understudy.evaluate.predictions import Predictions
from understudy.kinds import lower_is_better

RESAMPLES = 5000
"""Enough that the smallest p-value survives Holm's correction for a hundred comparisons."""


@dataclass(frozen=True)
class Score:
    """One arm's metric on one test set: for each seed, on the rows as they are and on resamples of them.

    values   (K,): by seed
    samples  (K, R): the same draws of rows for all seeds and all arms
    """

    seeds: tuple[int, ...]
    values: np.ndarray
    samples: np.ndarray

    def at(self, seeds: Sequence[int]) -> Score:
        """Only these seeds, in this order."""
        places = [self.seeds.index(seed) for seed in seeds]
        return Score(tuple(seeds), self.values[places], self.samples[places])

    def __sub__(self, other: Score) -> Score:
        shared = [seed for seed in self.seeds if seed in other.seeds]
        one, two = self.at(shared), other.at(shared)
        return Score(one.seeds, one.values - two.values, one.samples - two.samples)

    @property
    def variance(self) -> float:
        """Between seeds, on the rows as they are; 0 where there is one."""
        return float(self.values.var(ddof=1)) if len(self.seeds) > 1 else 0.0

    def draws(self, seed: int, *names: object, variance: float | None = None, freedom: int | None = None) -> np.ndarray:
        """(R,) draws of the mean over seeds: rows by bootstrap, seeds by Student's t.

        `variance` between seeds and the degrees of freedom it is known with: this score's own by default.
        """
        means, number = self.samples.mean(axis=0), len(self.seeds)
        if number < 2:
            return means
        error = ((self.variance if variance is None else variance) / number) ** 0.5
        drawn = numpy_rng(seed, "seeds", *names).standard_t(freedom or number - 1, size=means.size)
        return means + error * drawn


def scores(
    task: Task, predictions: Mapping[str, Mapping[int, Predictions]], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Score]]:
    """Every arm's score: arm -> metric -> Score.

    Args:
        predictions: arm -> seed -> what it predicted, all on the same rows in the same order.

    Raises:
        DataError: the arms did not all see the same rows.
    """
    flat = {f"{arm}/{number}": made for arm, by_seed in predictions.items() for number, made in by_seed.items()}
    found = resample(task, flat, resamples=resamples, seed=seed)

    def of(arm: str, metric: str) -> Score:
        seeds = tuple(predictions[arm])
        each: list[Resampled] = [found[f"{arm}/{number}"][metric] for number in seeds]
        return Score(seeds, np.array([one.value for one in each]), np.stack([one.samples for one in each]))

    return {arm: {metric: of(arm, metric) for metric in task.metrics} for arm in predictions}


def summary(score: Score, *, seed: int = 0, limits: tuple[float, float] = (-np.inf, np.inf)) -> dict[str, Any]:
    """{"n", "mean", "deviation", "low", "high"}: over seeds, with the interval over rows and seeds.

    Args:
        limits: the least and the greatest value there is; the t-interval over few seeds ignores them, and clipping
            removes only values that cannot occur.
    """
    return over_seeds(score.values.tolist()) | ends(score.draws(seed, "one").clip(*limits))


def compared(by_arm: Mapping[str, Score], metric: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """Every pair of arms on one metric: {"one", "other", "difference", "low", "high", "p", "p_holm", "verdict"}.

    `difference` is one - other over the seeds that both have. `verdict` is what may be said of `one` at a family-wise level
    of 5 %: "better", "worse" or "tie". Pairs without a common seed are left out.
    """
    pairs = {pair: by_arm[pair[0]] - by_arm[pair[1]] for pair in combinations(by_arm, 2)}
    pairs = {pair: difference for pair, difference in pairs.items() if difference.seeds}
    repeated = [difference for difference in pairs.values() if len(difference.seeds) > 1]
    common = float(np.mean([difference.variance for difference in repeated])) if repeated else 0.0
    freedom = (len(by_arm) - 1) * (min((len(difference.seeds) for difference in repeated), default=2) - 1)
    rows = []
    for (one, other), difference in pairs.items():
        draws = difference.draws(seed, one, other, variance=max(common, difference.variance), freedom=freedom)
        mean = float(difference.values.mean())
        rows.append({"one": one, "other": other, "difference": mean, **ends(draws), "p": p_value(draws)})
    corrected = holm([row["p"] for row in rows])
    for row, p in zip(rows, corrected, strict=True):
        better = (row["difference"] > 0) != (lower_is_better(metric))
        verdict = "tie" if p > 1 - LEVEL / 100 or row["difference"] == 0 else "better" if better else "worse"
        row |= {"p_holm": p, "verdict": verdict}
    return rows


def pair(made: Mapping[str, Any], one: str, other: str, test: str | None = None, metric: str | None = None) -> Any:
    """The row of a comparison's `comparisons` about two arms, as seen from the first; None where there is none.

    Args:
        made: a comparison (docs/comparison.md).
        test, metric: the headline's by default.
    """
    where = (test or made["headline"]["test"], metric or made["headline"]["metric"])
    for row in made["comparisons"]:
        if (row["test"], row["metric"]) == where and {row["one"], row["other"]} == {one, other}:
            if row["one"] == one:
                return row
            low, high = (None if row[key] is None else -row[key] for key in ("high", "low"))
            turned = {"better": "worse", "worse": "better", "tie": "tie"}[row["verdict"]]
            return {**row, "one": one, "other": other, "difference": -row["difference"], "low": low, "high": high,
                    "verdict": turned}  # fmt: skip
    return None


def p_value(draws: np.ndarray) -> float:
    """Two-sided: twice the share of draws on the far side of zero, and never zero, since more draws might find one.

    >>> p_value(np.array([1.0, 2.0, 3.0, -1.0]))
    0.8
    """
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (draws.size + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values: the smallest times m, the next times m - 1, …, never less than the one before.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    found, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = largest
    return found


def front(quality: Sequence[float], *costs: Sequence[float]) -> list[int]:
    """The numbers of the points that no other point dominates, best quality first.

    A point dominates another when it is at least as good in everything (more quality, less of each cost) and better in
    something. Equal points do not dominate each other.

    >>> front([0.9, 0.8, 0.7, 0.85], [10.0, 5.0, 6.0, 10.0])
    [0, 1]
    """
    rows = [(-q, *c) for q, *c in zip(quality, *costs, strict=True)]

    def dominated(one: tuple[float, ...]) -> bool:
        return any(all(a <= b for a, b in zip(other, one, strict=True)) and other != one for other in rows)

    kept = [number for number, row in enumerate(rows) if not dominated(row)]
    return sorted(kept, key=lambda number: rows[number])
