"""How sure a score is, and how sure a difference between models is.

All models of a run are resampled with the *same* draws of test rows (a paired bootstrap, Koehn 2004): what is hard for
one is mostly hard for the other, so the interval of their difference is much narrower than two separate intervals
suggest. Everything said about a run - intervals, differences, `gap_recovered`, `retained` - is arithmetic on one array
of resampled scores per model and metric, drawn once by `resample`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.base.errors import DataError
from understudy.base.seeds import numpy_rng
from understudy.data.types import Task
from understudy.evaluate.metrics import statistics
from understudy.evaluate.predictions import Predictions
from understudy.kinds import lower_is_better, sign_of

LEVEL = 95  # per cent; the one level used everywhere, so that all intervals of a report mean the same
_CELLS_AT_ONCE = 1 << 22  # weights held in memory at a time: 32 MB


@dataclass(frozen=True)
class Resampled:
    """One model's metric on the rows as they are, and on `samples.size` resamples of them."""

    value: float
    samples: np.ndarray

    def __sub__(self, other: Resampled) -> Resampled:
        return Resampled(self.value - other.value, self.samples - other.samples)

    @property
    def standard_error(self) -> float:
        return float(self.samples.std(ddof=1)) if self.samples.size > 1 else 0.0

    def interval(self) -> dict[str, Any]:
        """{"value", "low", "high"}: the value and its 95 % percentile interval (None without resamples)."""
        return {"value": self.value, **ends(self.samples)}


def ends(samples: np.ndarray) -> dict[str, float | None]:
    """{"low", "high"}: the 95 % percentile interval of draws; None where there are none."""
    if samples.size < 2:
        return {"low": None, "high": None}
    low, high = np.percentile(samples, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}


def resample(
    task: Task, predictions: Mapping[str, Predictions], *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Resampled]]:
    """Scores of every model on the same resampled test rows: model -> metric -> Resampled.

    Rows are drawn with replacement; where they have groups (translations of one sentence), whole groups are drawn.

    Args:
        predictions: model name -> its predictions on the same rows in the same order.
        resamples: how many; 0 gives the values alone.
        seed: the draws depend on it, on the task's name and on nothing else.

    Raises:
        DataError: the models saw different rows.
    """
    first_name, first = next(iter(predictions.items()))
    for name, other in predictions.items():
        if list(other.ids) != list(first.ids):
            raise DataError(
                f"{task.name}: '{first_name}' and '{name}' were evaluated on different rows, so they cannot be "
                "compared; evaluate both on the same test set."
            )
    measures = {name: statistics(task, one, task.metrics) for name, one in predictions.items()}
    values: dict[str, dict[str, list[np.ndarray]]] = {
        name: {metric: [] for metric in by_metric} for name, by_metric in measures.items()
    }
    for weights in _draws(first, resamples=resamples, seed=seed, name=task.name):
        for name, by_metric in measures.items():
            for metric, measure in by_metric.items():
                values[name][metric].append(measure(weights))
    return {
        name: {
            metric: Resampled(float(parts[0][0]), np.concatenate(parts[1:]) if len(parts) > 1 else np.empty(0))
            for metric, parts in by_metric.items()
        }
        for name, by_metric in values.items()
    }


def _draws(predictions: Predictions, *, resamples: int, seed: int, name: str) -> Iterator[np.ndarray]:
    """Yield (R, N) weights: first the rows as they are (1, N), then the resamples in blocks that fit in memory."""
    num_rows = len(predictions)
    yield np.ones((1, num_rows))
    if predictions.groups is None:
        group_of_row = np.arange(num_rows)
    else:
        _, group_of_row = np.unique(np.asarray(predictions.groups), return_inverse=True)
    num_groups = int(group_of_row.max()) + 1
    rng = numpy_rng(seed, "bootstrap", name)
    block = max(1, _CELLS_AT_ONCE // num_rows)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        # One bincount for the whole block: each resample counts within a stretch of its own.
        drawn = rng.integers(0, num_groups, size=(size, num_groups)) + num_groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        yield times[:, group_of_row].astype(np.float64)


def gap_recovered(student: Resampled, baseline: Resampled, teacher: Resampled, *, metric: str) -> dict[str, Any]:
    """How much of the distance from plain fine-tuning to the teacher distillation covered: (s - b) / (t - b).

    Returns {"value", "low", "high", "reason"}. The value is None, and `reason` says why, when the teacher is not better
    than the baseline by more than the standard error of that difference: dividing by noise can give any number.
    When the teacher's lead is more than its standard error but could still be nothing (more than 2.5 % of the resamples
    have none), the ratio has no bounded 95 % interval (Fieller 1954): the value stands alone, and `reason` says so.
    """
    sign = sign_of(metric)
    lead, gain = teacher - baseline, student - baseline
    if sign * lead.value <= lead.standard_error:
        reason = (
            f"the teacher's lead over plain fine-tuning ({sign * lead.value:.4f}) is not larger than its standard "
            f"error ({lead.standard_error:.4f}), so there is no gap to recover"
        )
        return {"value": None, "low": None, "high": None, "reason": reason}
    value = gain.value / lead.value
    positive = sign * lead.samples > 0
    if lead.samples.size and positive.mean() < 1 - (100 - LEVEL) / 200:
        reason = "the teacher's lead over plain fine-tuning may be nothing, so the ratio has no bounded interval"
        return {"value": value, "low": None, "high": None, "reason": reason}
    return {"value": value, **ends(gain.samples[positive] / lead.samples[positive]), "reason": None}


def retained(student: Resampled, teacher: Resampled, *, metric: str) -> dict[str, Any]:
    """The share of the teacher's score that the student keeps, s / t: {"value", "low", "high", "reason"}.

    None with a reason for metrics where lower is better, and for a teacher at or below zero: no share exists there.
    """
    reason = None
    if lower_is_better(metric):
        reason = "lower is better, so there is no share to keep"
    elif teacher.value <= 0:
        reason = "the teacher's own score is not above zero"
    if reason:
        return {"value": None, "low": None, "high": None, "reason": reason}
    positive = teacher.samples > 0
    ratio = student.samples[positive] / teacher.samples[positive]
    return {"value": student.value / teacher.value, **ends(ratio), "reason": None}


# --- over seeds ----------------------------------------------------------------------------------------------------


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation and 95 % t-interval of one score over repeated runs.

    >>> summary = over_seeds([0.80, 0.82, 0.84])
    >>> round(summary["mean"], 3), round(summary["deviation"], 3), round(summary["low"], 3), round(summary["high"], 3)
    (0.82, 0.02, 0.77, 0.87)
    """
    from scipy import stats

    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2:
        return {"n": int(array.size), "mean": mean, "deviation": None, "low": None, "high": None}
    deviation = float(array.std(ddof=1))
    half = float(stats.t.ppf((100 + LEVEL) / 200, array.size - 1)) * deviation / array.size**0.5
    return {"n": int(array.size), "mean": mean, "deviation": deviation, "low": mean - half, "high": mean + half}
