"""Where the models agree, differ and fail, row by row: the part of the report that scores cannot show.

Everything returned is plain data (lists, dictionaries, strings, numbers), ready for JSON and for the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.data.types import Example, Task
from understudy.evaluate.predictions import Predictions, predicted

MAX_POINTS = 400  # in a scatter plot: more points only overlap


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
    if not task.kind.labelled:
        return {}
    found: dict[str, Any] = {"labels": list(task.labels)}
    kind = task.kind
    tables = {name: kind.confusion(task.labels, one.scores, one.gold) for name, one in predictions.items()}
    if confusion := {name: table.tolist() for name, table in tables.items() if table is not None}:
        found["confusion"] = confusion
    counts = {name: kind.class_counts(task.labels, one.scores, one.gold) for name, one in predictions.items()}
    if per_class := {name: by_label for name, by_label in counts.items() if by_label is not None}:
        found["per_class"] = _per_class(task, per_class)
    if kind.numeric:
        found["scatter"] = _scatter(task, predictions)
    if {"teacher", "student"} <= set(predictions):
        right = {name: kind.right(predicted(task, one), one.gold) for name, one in predictions.items()}
        found["agreement"] = _agreement(right["teacher"], right["student"])
        rows = _disagreeing(task, predictions["teacher"], predictions["student"], right, limit=limit)
        found["disagreements"] = [_describe(task, examples[row], predictions, row) for row in rows]
    return found


def _per_class(task: Task, counts: Mapping[str, Mapping[str, tuple[int, int, int]]]) -> list[dict[str, Any]]:
    """F1 of each class, label or entity type, with how often it occurs in the truth."""
    found = sorted({label for by_label in counts.values() for label in by_label})
    order = {label: place for place, label in enumerate(task.labels)}
    rows = []
    for label in sorted(found, key=lambda label: order.get(label, 0)):
        row: dict[str, Any] = {"label": label, "support": 0}
        for name, by_label in counts.items():
            hit, said, gold = by_label.get(label, (0, 0, 0))
            row["support"] = max(row["support"], int(gold))
            row[name] = float(2 * hit / (said + gold)) if said + gold else 0.0
        rows.append(row)
    return rows


def _scatter(task: Task, predictions: Mapping[str, Predictions]) -> dict[str, list[float]]:
    """True and predicted values of at most MAX_POINTS rows, evenly spaced through the test set."""
    first = next(iter(predictions.values()))
    keep = np.unique(np.linspace(0, len(first) - 1, min(MAX_POINTS, len(first))).round().astype(np.int64))
    gold = np.asarray(first.gold, dtype=np.float64).reshape(-1)[keep]
    return {"gold": gold.tolist(), **{name: predicted(task, one)[keep].tolist() for name, one in predictions.items()}}


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
    distance = task.kind.distance(teacher.scores, student.scores)
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


def _describe(task: Task, example: Example, predictions: Mapping[str, Predictions], row: int) -> dict[str, Any]:
    text = " ".join(example.words) if example.words is not None else example.text or ""
    first = next(iter(predictions.values()))

    def in_words(decision: Any) -> str:
        return task.kind.in_words(decision, task.labels, example.words or ())

    said = {name: in_words(task.kind.decide(one.scores[row : row + 1])[0]) for name, one in predictions.items()}
    return {
        "id": example.id,
        "text": text,
        "pair": example.pair,
        "gold": in_words(first.gold[row]),
        **{name: said.get(name) for name in ("teacher", "student", "baseline")},
    }
