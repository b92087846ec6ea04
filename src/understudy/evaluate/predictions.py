"""What one model said about one test set, and what its scores decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.base.errors import DataError, DivergedError
from understudy.data.types import Task


@dataclass(frozen=True)
class Predictions:
    """What one model said about one test set, with the truth beside it.

    ids     N row ids; comparisons refuse models that saw different rows.
    scores  classification (N, C) logits · multilabel (N, K) logits · regression (N,) · tokens: N arrays with one tag id
            per word · text: (N,) summed loss of the masked tokens of a row
    gold    classification (N,) class ids · multilabel (N, K) of 0/1 · regression (N,) · tokens: N arrays of tag ids ·
            text: (N,) number of masked tokens of a row
    groups  N names, or None. Rows that share a name (translations of one sentence) are drawn together by the bootstrap,
            because they are not independent witnesses.
    """

    ids: Sequence[str]
    scores: Any
    gold: Any
    groups: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, rows: Sequence[int]) -> Predictions:
        """Those about some of the rows."""

        def part(values: Any) -> Any:
            return values[list(rows)] if isinstance(values, np.ndarray) else values and [values[row] for row in rows]

        return Predictions(part(list(self.ids)), part(self.scores), part(self.gold), part(self.groups))


def predicted(task: Task, predictions: Predictions) -> Any:
    """Decisions from scores: class ids (N,), 0/1 of shape (N, K) (logit above 0), numbers (N,), or tag ids per word."""
    return task.kind.decide(predictions.scores)


def one_answer(task: Task, predictions: Predictions) -> bool:
    """Whether a model gives every row the same answer: it has learnt nothing, whatever its accuracy."""
    return task.kind.one_answer(predicted(task, predictions))


def require_scorable(task: Task, predictions: Predictions) -> None:
    """Refuse what cannot be scored.

    Raises:
        DataError: no rows, or arrays whose shapes do not fit the rows and the labels.
        DivergedError: predictions that are not finite numbers.
    """
    num_rows = len(predictions)
    if not num_rows:
        raise DataError(f"There is nothing to evaluate {task.name} on: the test set has no labelled rows.")
    for part, values in (("scores", predictions.scores), ("gold", predictions.gold), ("groups", predictions.groups)):
        if values is not None and len(values) != num_rows:
            raise DataError(f"{task.name}: {len(values)} {part} for {num_rows} rows; each row needs exactly one.")
    if wrong := task.kind.problem(predictions.ids, predictions.scores, predictions.gold, task.labels):
        raise DataError(f"{task.name}{wrong}")
    if task.kind.broken(predictions.scores):
        raise DivergedError(
            f"{task.name}: the model's predictions contain NaN or infinite values; train it again with a smaller "
            "learning rate (train.lr) or in full precision (train.precision: fp32)."
        )
