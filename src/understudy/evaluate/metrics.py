"""What a model scored. One definition per metric, used for the value and for every bootstrap resample alike: a function of
weights W (R, N), one line per resample (`kinds.arithmetic`). Which metrics there are, and what they are, is each kind's own.

Definitions are scikit-learn's, scipy's and seqeval's (strict IOB2); the tests hold them together to 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean
from understudy.data.types import Task
from understudy.evaluate.predictions import Predictions, require_scorable
from understudy.kinds import every, lower_is_better
from understudy.kinds.arithmetic import Statistic

DISPLAY = {
    "accuracy": "accuracy", "f1": "F1", "micro_f1": "micro F1", "macro_f1": "macro F1", "precision": "precision",
    "recall": "recall", "mcc": "Matthews correlation", "pearson": "Pearson correlation",
    "spearman": "Spearman correlation", "mse": "mean squared error", "mae": "mean absolute error", "loss": "loss",
    "perplexity": "perplexity", "bpb": "bits per byte", "compression": "compression", "kl": "KL divergence from the teacher",
    "agreement": "agreement with the teacher's first choice",
} | {name: shown for kind in every() for name, shown in kind.shown.items()}  # fmt: skip


def limits(metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric has.

    >>> limits("f1"), limits("pearson"), limits("mae")
    ((0.0, 1.0), (-1.0, 1.0), (0.0, inf))
    """
    if metric in ("mcc", "pearson", "spearman"):
        return -1.0, 1.0
    return (float(metric == "perplexity"), float("inf")) if lower_is_better(metric) else (0.0, 1.0)


def compute(task: Task, predictions: Predictions) -> dict[str, float]:
    """The value of each of the task's metrics on these rows."""
    measures = statistics(task, predictions, task.metrics)
    everything_once = np.ones((1, len(predictions)))
    return {name: float(measure(everything_once)[0]) for name, measure in measures.items()}


def statistics(task: Task, predictions: Predictions, metrics: Sequence[str]) -> dict[str, Statistic]:
    """The named metrics of these predictions, as functions of resampling weights; those that the rows have.

    Raises:
        RecipeError: a metric that this kind of task does not have.
        DataError: no rows, or arrays of different lengths.
        DivergedError: predictions that are not finite numbers.
    """
    require_scorable(task, predictions)
    available = task.kind.statistics(task.labels, predictions.scores, predictions.gold)
    metrics = [name for name in metrics if name in available or name not in task.kind.metrics]  # the others these rows have not
    for name in metrics:
        if name not in available:
            raise RecipeError(
                f"Metric '{name}' does not exist for {task.kind} tasks; choose from {', '.join(available)}."
                + did_you_mean(name, available)
            )
    return {name: available[name] for name in metrics}
