"""The four classes of pre-training with the teacher's predictions (PTP): is the teacher right about a row, and sure?

| class | name                | condition                |
|-------|---------------------|--------------------------|
| 0     | confidently right   | right, confidence > t1   |
| 1     | unconfidently right | right, confidence <= t1  |
| 2     | confidently wrong   | wrong, confidence > t2   |
| 3     | unconfidently wrong | wrong, confidence <= t2  |

Arrays only, no models: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.base.errors import DataError, RecipeError
from understudy.kinds import kind as kind_named

CLASSES = ("confidently right", "unconfidently right", "confidently wrong", "unconfidently wrong")

PUBLISHED = {
    "glue/rte": (0.80, 0.60),
    "glue/mrpc": (0.95, 0.75),
    "glue/sst2": (0.98, 0.80),
    "glue/qnli": (0.98, 0.70),
    "glue/cola": (0.95, 0.70),
}
"""(t1, t2) of the released code, set by hand for a fine-tuned BERT-base."""


def refuse(kind: str) -> None:
    """Raise RecipeError, with the reason, for kinds of tasks in which the classes have no meaning."""
    why_not = kind_named(kind).no_confidence
    if why_not:
        raise RecipeError(
            f"method.ptp: pre-training with the teacher's predictions is for classes, and this task is of kind {kind}: "
            f"{why_not}. Set method.ptp: off; the other parts of the method work."
        )


def judge(logits: np.ndarray, gold: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """How sure the teacher is of its own answer, (N,) float64 in (0, 1], and whether that answer is right, (N,) bool.

    Args:
        logits: (N, C).
        gold: (N,) class numbers, or (N, C) of 0 and 1 for several labels.
    """
    asked = kind_named(kind)
    return asked.confidence(logits), asked.right(asked.decide(logits), gold)


def require_rule(rule: str | tuple[float, float], task: str) -> None:
    """Raise RecipeError for published thresholds of a task that has none."""
    if rule == "published" and task not in PUBLISHED:
        raise RecipeError(
            f"method.thresholds: published: there are none for {task}, only for {', '.join(PUBLISHED)}. Use median, or two "
            "numbers."
        )


def thresholds(
    rule: str | tuple[float, float], confidence: np.ndarray, right: np.ndarray, *, quantile: float = 0.5, task: str = ""
) -> tuple[float, float]:
    """(t1, t2): above which confidence the teacher is sure where it is right, and where it is wrong.

    Args:
        rule: median, or another `quantile`, of the confidences of the right rows and of the wrong ones; the published
            pair of the task named `task`; or the two numbers themselves.

    Where no row is wrong (or right) its threshold is the other one. Raises RecipeError for a task without published
    numbers.
    """
    if not isinstance(rule, str):
        return rule
    if rule == "published":
        require_rule(rule, task)
        return PUBLISHED[task]
    if not len(confidence):
        raise DataError("There are no rows to take the teacher's confidence from.")
    share = 0.5 if rule == "median" else quantile
    found = [float(np.quantile(confidence[side], share)) if side.any() else None for side in (right, ~right)]
    one, other = found[0], found[1]
    return (one if one is not None else other or 0.0), (other if other is not None else one or 0.0)


def classify(confidence: np.ndarray, right: np.ndarray, pair: tuple[float, float]) -> np.ndarray:
    """The class of each row, (N,) int64. A confidence equal to the threshold is not above it: unconfident.

    >>> classify(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, False]), (0.8, 0.6)).tolist()
    [0, 1, 2, 3]
    """
    return np.where(right, np.where(confidence > pair[0], 0, 1), np.where(confidence > pair[1], 2, 3)).astype(np.int64)


def counts_of(classes: Sequence[int] | np.ndarray) -> list[int]:
    """How many rows each of the four classes has."""
    return np.bincount(np.asarray(classes, dtype=np.int64), minlength=len(CLASSES)).tolist()


def balanced(counts: Sequence[int]) -> list[float]:
    """Weights that let all classes that occur count alike, and the mean row as much as before: N / (K n_c).

    >>> balanced([6, 2, 0, 0])
    [0.6666666666666666, 2.0, 0.0, 0.0]
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 0.0 for count in counts]


def warnings_of(counts: Sequence[int], few: int) -> list[str]:
    """A sentence for each class with fewer than `few` rows."""
    return [
        f"PTP: only {count} training rows are '{name}' (fewer than {few}); the class teaches next to nothing. "
        "method.ptp.folds makes wrong answers honest, method.thresholds moves the borders."
        for name, count in zip(CLASSES, counts, strict=True)
        if count < few
    ]
