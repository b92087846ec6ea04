"""What a model scored. One definition per metric, used for the value and for every bootstrap resample alike.

A resample of N rows drawn with replacement is a vector of N counts that sums to N. So each metric is written as a
function of *weights* W of shape (R, N), one line per resample, and returns (R,) values; the plain score is the resample
in which every row counts once. Counting metrics need only W @ counts, which makes a thousand resamples one matrix
product; rank correlation re-ranks, with ties sharing their mean rank, from the same weights.

Definitions are scikit-learn's, scipy's and seqeval's (strict IOB2); the tests hold them together to 1e-12. Undefined
values (0/0, the correlation of a constant) are 0: a model that always says the same has shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean
from understudy.data.types import LOWER_IS_BETTER, Task
from understudy.evaluate.predictions import Predictions, check, entities, predicted, tag_names

Statistic = Callable[[np.ndarray], np.ndarray]
"""(R, N) weights -> (R,) values of one metric."""

DISPLAY = {
    "accuracy": "accuracy", "f1": "F1", "micro_f1": "micro F1", "macro_f1": "macro F1", "precision": "precision",
    "recall": "recall", "mcc": "Matthews correlation", "pearson": "Pearson correlation",
    "spearman": "Spearman correlation", "mse": "mean squared error", "mae": "mean absolute error", "loss": "loss",
    "perplexity": "perplexity",
}  # fmt: skip


def limits(metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric has.

    >>> limits("f1"), limits("pearson"), limits("mae")
    ((0.0, 1.0), (-1.0, 1.0), (0.0, inf))
    """
    if metric in ("mcc", "pearson", "spearman"):
        return -1.0, 1.0
    return (float(metric == "perplexity"), float("inf")) if metric in LOWER_IS_BETTER else (0.0, 1.0)


def compute(task: Task, predictions: Predictions) -> dict[str, float]:
    """The value of each of the task's metrics on these rows."""
    measures = statistics(task, predictions, task.metrics)
    everything_once = np.ones((1, len(predictions)))
    return {name: float(measure(everything_once)[0]) for name, measure in measures.items()}


def statistics(task: Task, predictions: Predictions, metrics: Sequence[str]) -> dict[str, Statistic]:
    """The named metrics of these predictions, as functions of resampling weights.

    Raises:
        RecipeError: a metric that this kind of task does not have.
        DataError: no rows, or arrays of different lengths.
        DivergedError: predictions that are not finite numbers.
    """
    build = _BUILDERS[task.kind]
    check(task, predictions)
    available = build(task, predictions)
    for name in metrics:
        if name not in available:
            raise RecipeError(
                f"Metric '{name}' does not exist for {task.kind} tasks; choose from {', '.join(available)}."
                + did_you_mean(name, available)
            )
    return {name: available[name] for name in metrics}


def positive_label(labels: Sequence[str]) -> int:
    """The class that binary F1, precision and recall are about: the label named '1', else the second one."""
    return labels.index("1") if "1" in labels else 1


# --- one builder per kind of task: everything that can be asked of it ----------------------------------------------


def _classification(task: Task, predictions: Predictions) -> dict[str, Statistic]:
    gold, said = np.asarray(predictions.gold), predicted(task, predictions)
    num_labels = len(task.labels)
    rows = np.arange(len(gold))
    is_gold, is_said = np.zeros((2, len(gold), num_labels))
    is_gold[rows, gold] = is_said[rows, said] = 1
    counts = _counter(is_gold, is_said)
    correct = (gold == said).astype(np.float64)
    binary = num_labels == 2
    one = positive_label(task.labels) if binary else None

    def average(score: Callable[..., np.ndarray]) -> Statistic:
        def value(weights: np.ndarray) -> np.ndarray:
            hit, said_n, gold_n = counts(weights)
            per_class = score(hit, said_n, gold_n)
            if one is not None:
                return per_class[:, one]
            return _ratio(per_class.sum(axis=1), ((said_n + gold_n) > 0).sum(axis=1))

        return value

    def accuracy(weights: np.ndarray) -> np.ndarray:
        return _ratio(weights @ correct, weights.sum(axis=1))

    def macro_f1(weights: np.ndarray) -> np.ndarray:
        # As scikit-learn: the mean over classes that occur in truth or predictions; an absent class is no failure.
        hit, said_n, gold_n = counts(weights)
        return _ratio(_f1(hit, said_n, gold_n).sum(axis=1), ((said_n + gold_n) > 0).sum(axis=1))

    def mcc(weights: np.ndarray) -> np.ndarray:
        """R_K for any number of classes (Gorodkin 2004), Matthews' coefficient for two."""
        hit, said_n, gold_n = counts(weights)
        total = weights.sum(axis=1)
        covariance = hit.sum(axis=1) * total - (said_n * gold_n).sum(axis=1)
        spread = np.sqrt(total**2 - (said_n**2).sum(axis=1)) * np.sqrt(total**2 - (gold_n**2).sum(axis=1))
        return _ratio(covariance, spread)

    losses = -_log_softmax(np.asarray(predictions.scores, dtype=np.float64))[rows, gold]

    def loss(weights: np.ndarray) -> np.ndarray:
        return _ratio(weights @ losses, weights.sum(axis=1))

    return {
        "accuracy": accuracy, "f1": average(_f1), "precision": average(_precision), "recall": average(_recall),
        "macro_f1": macro_f1, "micro_f1": accuracy, "mcc": mcc, "loss": loss,
    }  # fmt: skip


def _multilabel(task: Task, predictions: Predictions) -> dict[str, Statistic]:
    gold = np.asarray(predictions.gold, dtype=np.float64)
    said = predicted(task, predictions).astype(np.float64)
    counts = _counter(gold, said)
    exact = (gold == said).all(axis=1).astype(np.float64)

    scores = np.asarray(predictions.scores, dtype=np.float64)
    losses = (np.logaddexp(0.0, scores) - gold * scores).mean(axis=1)

    def micro(score: Callable[..., np.ndarray]) -> Statistic:
        return lambda weights: score(*(part.sum(axis=1) for part in counts(weights)))

    return {
        "micro_f1": micro(_f1), "macro_f1": lambda weights: _f1(*counts(weights)).mean(axis=1), "f1": micro(_f1),
        "precision": micro(_precision), "recall": micro(_recall),
        "accuracy": lambda weights: _ratio(weights @ exact, weights.sum(axis=1)),
        "loss": lambda weights: _ratio(weights @ losses, weights.sum(axis=1)),
    }  # fmt: skip


def _tokens(task: Task, predictions: Predictions) -> dict[str, Statistic]:
    gold_tags = tag_names(task, predictions.gold)
    said_tags = tag_names(task, predictions.scores)
    spans = [(entities(gold), entities(said)) for gold, said in zip(gold_tags, said_tags, strict=True)]
    per_row = np.array([(len(gold & said), len(said), len(gold)) for gold, said in spans], dtype=np.float64)
    tagged = zip(gold_tags, said_tags, strict=True)
    words = np.array(
        [(sum(a == b for a, b in zip(gold, said, strict=True)), len(gold)) for gold, said in tagged], dtype=np.float64
    )

    def entity(score: Callable[..., np.ndarray]) -> Statistic:
        return lambda weights: score(*(weights @ per_row).T)

    f1, precision, recall = entity(_f1), entity(_precision), entity(_recall)
    return {
        "f1": f1, "precision": precision, "recall": recall,
        "entity_f1": f1, "entity_precision": precision, "entity_recall": recall,
        "accuracy": lambda weights: _ratio(*(weights @ words).T),
    }  # fmt: skip


def _regression(task: Task, predictions: Predictions) -> dict[str, Statistic]:
    gold = np.asarray(predictions.gold, dtype=np.float64).reshape(-1)
    said = predicted(task, predictions)
    gold_ranks, said_ranks = _ranker(gold), _ranker(said)

    def mean_of(values: np.ndarray) -> Statistic:
        return lambda weights: _ratio(weights @ values, weights.sum(axis=1))

    return {
        "pearson": lambda weights: _correlation(weights, _unit(gold), _unit(said)),
        "spearman": lambda weights: _correlation(weights, gold_ranks(weights), said_ranks(weights)),
        "mse": mean_of((said - gold) ** 2),
        "mae": mean_of(np.abs(said - gold)),
    }


def _text(task: Task, predictions: Predictions) -> dict[str, Statistic]:
    summed = predicted(task, predictions)
    tokens = np.asarray(predictions.gold, dtype=np.float64)

    def loss(weights: np.ndarray) -> np.ndarray:
        return _ratio(weights @ summed, weights @ tokens)

    return {"loss": loss, "perplexity": lambda weights: np.exp(loss(weights))}


_BUILDERS = {
    "classification": _classification, "multilabel": _multilabel, "tokens": _tokens, "regression": _regression,
    "text": _text,
}  # fmt: skip


# --- arithmetic ----------------------------------------------------------------------------------------------------


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom with 0/0 = 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _f1(hit: np.ndarray, said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    return _ratio(2 * hit, said + gold)


def _precision(hit: np.ndarray, said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    return _ratio(hit, said)


def _recall(hit: np.ndarray, said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    return _ratio(hit, gold)


def _counter(gold: np.ndarray, said: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """0/1 of shape (N, C) twice -> weights -> (hits, predicted, gold), each (R, C)."""
    hits = gold * said
    return lambda weights: (weights @ hits, weights @ said, weights @ gold)


def _unit(values: np.ndarray) -> np.ndarray:
    """Centred and scaled to at most 1, which changes no correlation and saves it from cancellation and overflow."""
    scale = np.abs(values).max()
    values = values / (scale or 1.0)
    centred = values - values.mean() if np.ptp(values) > 0 else np.zeros_like(values)
    return centred / (np.abs(centred).max() or 1.0)


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation; x and y are (N,) or (R, N). 0 where either side is constant within the resample."""
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    var_x, var_y = ((weights * d * d).sum(axis=1) for d in (dx, dy))
    # A constant leaves only rounding noise, about 1e-16 of its size per row: that is no variance.
    floor_x, floor_y = (1e-24 * (weights * v * v).sum(axis=1) for v in (x, y))
    alive = (var_x > floor_x) & (var_y > floor_y)
    value = _ratio((weights * dx * dy).sum(axis=1), np.where(alive, np.sqrt(var_x) * np.sqrt(var_y), 0))
    return np.clip(value, -1, 1)


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Values (N,) -> weights (R, N) -> mid-ranks (R, N) within each resample: ties share the mean of their places."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))

    def ranks(weights: np.ndarray) -> np.ndarray:
        size = np.add.reduceat(weights[:, order], starts, axis=1)
        return (np.cumsum(size, axis=1) - (size - 1) / 2)[:, group]

    return ranks
