"""What one model said about one test set, and what its scores decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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


def predicted(task: Task, predictions: Predictions) -> Any:
    """Decisions from scores: class ids (N,), 0/1 of shape (N, K) (logit above 0), numbers (N,), or tag ids per word."""
    scores = predictions.scores
    if task.kind == "classification":
        return np.asarray(scores).argmax(axis=1)
    if task.kind == "multilabel":
        return (np.asarray(scores) > 0).astype(np.int64)
    if task.kind == "tokens":
        return [np.asarray(row) for row in scores]
    return np.asarray(scores, dtype=np.float64).reshape(-1)


def one_answer(task: Task, predictions: Predictions) -> bool:
    """Whether a model gives every row the same answer: it has learnt nothing, whatever its accuracy."""
    if task.kind not in ("classification", "multilabel", "tokens") or len(predictions) < 2:
        return False
    answers = predicted(task, predictions)
    if task.kind == "tokens":
        answers = np.concatenate(answers)
    return bool((answers == answers[:1]).all())


def entities(tags: tuple[str, ...]) -> frozenset[tuple[str, int, int]]:
    """The (type, start, end) spans of one sentence's tags in strict IOB2, end exclusive; an I- without B- is nothing.

    >>> sorted(entities(("B-PER", "I-PER", "O", "I-LOC")))
    [('PER', 0, 2)]
    """
    return _entities(tuple(tags))


# Remembered: the gold tags return at every evaluation, and most sentences are tagged alike by all models.
@lru_cache(maxsize=1 << 16)
def _entities(tags: tuple[str, ...]) -> frozenset[tuple[str, int, int]]:
    from seqeval.scheme import IOB2, Tokens

    return frozenset((span.tag, span.start, span.end) for span in Tokens(list(tags), scheme=IOB2).entities)


def tag_names(task: Task, rows: Sequence[Any]) -> list[tuple[str, ...]]:
    """Tag ids per word -> tag names per word."""
    return [tuple(task.labels[int(tag)] for tag in row) for row in rows]


def check(task: Task, predictions: Predictions) -> None:
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
    if task.kind in ("classification", "multilabel") and np.shape(predictions.scores)[1:] != (len(task.labels),):
        raise DataError(
            f"{task.name} has {len(task.labels)} labels, but the model gave scores of shape "
            f"{np.shape(predictions.scores)}; its head must have one output per label."
        )
    if task.kind == "tokens":
        for row_id, said, gold in zip(predictions.ids, predictions.scores, predictions.gold, strict=True):
            if len(said) != len(gold):
                raise DataError(f"{task.name}, row '{row_id}': {len(said)} predicted tags for {len(gold)} words.")
    elif not np.isfinite(np.asarray(predictions.scores, dtype=np.float64)).all():
        raise DivergedError(
            f"{task.name}: the model's predictions contain NaN or infinite values; train it again with a smaller "
            "learning rate (train.lr) or in full precision (train.precision: fp32)."
        )
