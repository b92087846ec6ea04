"""Where the models agree, differ and fail, row by row: the part of the report that numbers cannot give.

Everything returned is plain data (lists, dictionaries, strings, numbers), ready for JSON and for the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.data.types import Example, Task
from understudy.evaluate.predictions import Predictions, entities, predicted, tag_names

MAX_POINTS = 400  # in a scatter plot; more only make it darker


def details(
    task: Task, examples: Sequence[Example], predictions: Mapping[str, Predictions], *, limit: int = 20
) -> dict[str, Any]:
    """Everything the report shows about one test set beyond its scores.

    Args:
        examples: the rows of the test set, in the order of the predictions.
        predictions: model name -> predictions; "teacher" and "student" are compared where both are there.
        limit: how many disagreements to show.

    Returns:
        {"labels", "confusion" {model: K x K counts, row = truth}, "per_class" [{"label", "support", model: F1, ...}],
        "scatter" {"gold", model: [...]}, "agreement" {"both", "teacher", "student", "neither"}, "disagreements"
        [{"text", "pair", "gold", "teacher", "student", "baseline"}]}, with only the keys this kind of task has.
    """
    if task.kind == "text":
        return {}
    found: dict[str, Any] = {"labels": list(task.labels)}
    if task.kind == "classification":
        found["confusion"] = {name: confusion(task, one).tolist() for name, one in predictions.items()}
    if task.kind == "regression":
        found["scatter"] = _scatter(task, predictions)
    else:
        found["per_class"] = _per_class(task, predictions)
    if {"teacher", "student"} <= set(predictions):
        right = {name: _right(task, one) for name, one in predictions.items()}
        found["agreement"] = _agreement(right["teacher"], right["student"])
        rows = _disagreeing(task, predictions["teacher"], predictions["student"], right, limit=limit)
        found["disagreements"] = [_describe(task, examples[row], predictions, row) for row in rows]
    return found


def confusion(task: Task, predictions: Predictions) -> np.ndarray:
    """(K, K) int64 counts: row = truth, column = prediction."""
    size = len(task.labels)
    cell = np.asarray(predictions.gold) * size + predicted(task, predictions)
    return np.bincount(cell, minlength=size * size).reshape(size, size)


def _per_class(task: Task, predictions: Mapping[str, Predictions]) -> list[dict[str, Any]]:
    """F1 of each class, label or entity type, with how often it occurs in the truth."""
    counts = {name: _class_counts(task, one) for name, one in predictions.items()}
    kinds = sorted({kind for by_kind in counts.values() for kind in by_kind})
    order = {label: place for place, label in enumerate(task.labels)}
    rows = []
    for kind in sorted(kinds, key=lambda kind: order.get(kind, 0)):
        row: dict[str, Any] = {"label": kind, "support": 0}
        for name, by_kind in counts.items():
            hit, said, gold = by_kind.get(kind, (0, 0, 0))
            row["support"] = max(row["support"], int(gold))
            row[name] = float(2 * hit / (said + gold)) if said + gold else 0.0
        rows.append(row)
    return rows


def _class_counts(task: Task, predictions: Predictions) -> dict[str, tuple[int, int, int]]:
    """label -> (hits, predicted, gold)."""
    if task.kind == "tokens":
        counts: dict[str, list[int]] = {}
        rows = zip(tag_names(task, predictions.gold), tag_names(task, predictions.scores), strict=True)
        for gold, said in ((entities(gold), entities(said)) for gold, said in rows):
            for place, spans in enumerate((gold & said, said, gold)):
                for kind, *_ in spans:
                    counts.setdefault(kind, [0, 0, 0])[place] += 1
        return {kind: (hit, said, gold) for kind, (hit, said, gold) in counts.items()}
    if task.kind == "multilabel":
        gold, said = np.asarray(predictions.gold, dtype=np.int64), predicted(task, predictions)
        triples = zip((gold & said).sum(axis=0), said.sum(axis=0), gold.sum(axis=0), strict=True)
    else:
        table = confusion(task, predictions)
        triples = zip(np.diag(table), table.sum(axis=0), table.sum(axis=1), strict=True)
    return dict(zip(task.labels, ((int(a), int(b), int(c)) for a, b, c in triples), strict=True))


def _scatter(task: Task, predictions: Mapping[str, Predictions]) -> dict[str, list[float]]:
    """True and predicted values of at most MAX_POINTS rows, evenly spaced through the test set."""
    first = next(iter(predictions.values()))
    keep = np.unique(np.linspace(0, len(first) - 1, min(MAX_POINTS, len(first))).round().astype(np.int64))
    gold = np.asarray(first.gold, dtype=np.float64).reshape(-1)[keep]
    return {"gold": gold.tolist(), **{name: predicted(task, one)[keep].tolist() for name, one in predictions.items()}}


def _right(task: Task, predictions: Predictions) -> np.ndarray:
    """(N,) bool: rows that are entirely right. A regression is right within half of the gold standard deviation."""
    said = predicted(task, predictions)
    if task.kind == "tokens":
        return np.array([np.array_equal(a, b) for a, b in zip(said, predictions.gold, strict=True)])
    gold = np.asarray(predictions.gold)
    if task.kind == "regression":
        return np.abs(said - gold.reshape(-1)) <= gold.std() / 2
    return (said == gold).all(axis=1) if task.kind == "multilabel" else said == gold


def _agreement(teacher: np.ndarray, student: np.ndarray) -> dict[str, int]:
    """How many rows both, only one, or neither of the two got right."""
    return {
        "both": int((teacher & student).sum()),
        "teacher": int((teacher & ~student).sum()),
        "student": int((~teacher & student).sum()),
        "neither": int((~teacher & ~student).sum()),
    }


def _disagreeing(
    task: Task, teacher: Predictions, student: Predictions, right: Mapping[str, np.ndarray], *, limit: int
) -> list[int]:
    """Rows on which the two say different things, the most different first within each of three kinds that take turns:
    only the teacher right, only the student right, both wrong. A list of losses alone would mislead."""
    distance = _distance(task, teacher, student)
    differ = np.flatnonzero(distance > 0)
    ranked = differ[np.argsort(-distance[differ], kind="stable")]
    teacher_right, student_right = right["teacher"], right["student"]
    piles = [
        [int(row) for row in ranked if teacher_right[row] and not student_right[row]],
        [int(row) for row in ranked if student_right[row] and not teacher_right[row]],
        [int(row) for row in ranked if student_right[row] == teacher_right[row]],
    ]
    turns = [pile[turn] for turn in range(max(map(len, piles), default=0)) for pile in piles if turn < len(pile)]
    return turns[:limit]


def _distance(task: Task, teacher: Predictions, student: Predictions) -> np.ndarray:
    """(N,) how far apart the two are; 0 where their decisions are the same."""
    said_t, said_s = predicted(task, teacher), predicted(task, student)
    if task.kind == "tokens":
        return np.array([float((a != b).sum()) for a, b in zip(said_t, said_s, strict=True)])
    if task.kind == "regression":
        return np.abs(said_t - said_s)
    if task.kind == "multilabel":
        return (said_t != said_s).sum(axis=1).astype(np.float64)
    gap = np.abs(_softmax(teacher.scores) - _softmax(student.scores)).sum(axis=1)
    return np.where(said_t != said_s, gap, 0.0)


def _softmax(logits: Any) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _describe(task: Task, example: Example, predictions: Mapping[str, Predictions], row: int) -> dict[str, Any]:
    text = " ".join(example.words) if example.words is not None else example.text or ""
    first = next(iter(predictions.values()))
    said = {name: _words(task, example, predicted(task, _row(one, row))[0]) for name, one in predictions.items()}
    return {
        "id": example.id,
        "text": text,
        "pair": example.pair,
        "gold": _words(task, example, first.gold[row]),
        **{name: said.get(name) for name in ("teacher", "student", "baseline")},
    }


def _row(predictions: Predictions, row: int) -> Predictions:
    return Predictions([predictions.ids[row]], predictions.scores[row : row + 1], predictions.gold[row : row + 1])


def _words(task: Task, example: Example, value: Any) -> str:
    """A prediction or a truth in words: the label's name, the labels, the number, or the entities."""
    if task.kind == "classification":
        return task.labels[int(value)]
    if task.kind == "regression":
        return f"{float(value):.2f}"
    if task.kind == "multilabel":
        return ", ".join(label for label, on in zip(task.labels, value, strict=True) if on) or "none"
    words = example.words or ()
    spans = sorted(entities(tag_names(task, [value])[0]), key=lambda span: span[1])
    return " · ".join(f"{' '.join(words[start:end])} ({kind})" for kind, start, end in spans) or "no entity"
