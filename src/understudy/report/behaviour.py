"""What the models do on one test set: where they agree, what they confuse, which rows they miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.evaluate.result import MODELS
from understudy.evaluate.verdict import percent, score
from understudy.kinds import kind
from understudy.report import charts

_MAX_MATRIX = 25  # labels; a larger confusion matrix is unreadable, the list of its largest entries is not


def behaviour(test: str, found: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What the models do on one test set: agreement, confusions, classes, scatter, disagreements."""
    models, labels = [model for model in MODELS if result[model]], found.get("labels", [])
    section: dict[str, Any] = {"test": test, "agreement": None, "matrices": [], "classes": None, "scatter": []}
    if agreement := found.get("agreement"):
        names = {"both": "both right", "teacher": "only the teacher right", "student": "only the student right",
                 "neither": "neither right"}  # fmt: skip
        section["agreement"] = parts_of([(key, words, agreement[key]) for key, words in names.items()], rows="rows")
    confusion = found.get("confusion", {})
    if confusion and len(labels) <= _MAX_MATRIX:
        section["matrices"] = [
            {"model": model, "chart": charts.heat_map(confusion[model], labels, model=model,
                                                      label=f"Confusion matrix of the {model} on {test}")}
            for model in models if model in confusion
        ]  # fmt: skip
    section["confusions"] = _largest_confusions(confusion, labels) if len(labels) > 4 else []
    if classes := found.get("per_class"):
        shown = [model for model in models if model in classes[0]]
        rows = [
            {**row, "tips": {model: f"{model}, {row['label']}: F1 {score(row[model])}" for model in shown}}
            for row in classes
        ]
        said = "; ".join(f"{row['label']}: " + ", ".join(f"{m} {score(row[m])}" for m in shown) for row in classes)
        section["classes"] = charts.class_dots(rows, shown, label=f"F1 of each class on {test}. {said}")
    for model, said in found.get("scatter", {}).items():
        if model != "gold":
            label = f"Predictions of the {model} against the truth on {test}"
            chart = charts.scatter(found["scatter"]["gold"], said, model=model, label=label)
            section["scatter"].append({"model": model, "chart": chart})
    marked = not kind(result["task"]["kind"]).numeric
    section["disagreements"] = [
        {
            "text": row["text"], "pair": row.get("pair"), "gold": row["gold"],
            "said": [{"model": model, "says": row[model],
                      "mark": ("right" if row[model] == row["gold"] else "wrong") if marked else ""}
                     for model in MODELS if row.get(model) is not None],
        }
        for row in found.get("disagreements", [])
    ]  # fmt: skip
    return section


def parts_of(counted: Sequence[tuple[str, str, int]], *, rows: str) -> dict[str, Any]:
    """A whole in parts, each a (class, words, count): the bar, and what is said of every part. `rows`: what is counted."""
    total = sum(count for *_, count in counted) or 1
    parts = [
        {"class": kind, "count": count, "words": words, "share": percent(count / total)} for kind, words, count in counted
    ]
    parts = [{**part, "tip": f"{part['words']}: {part['count']} {rows} ({part['share']})"} for part in parts]
    return {"parts": parts, "chart": charts.parts(parts, label="; ".join(part["tip"] for part in parts))}


def _largest_confusions(confusion: Mapping[str, Any], labels: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """The student's most frequent mistakes, beside how often the teacher makes them."""
    if "student" not in confusion:
        return []
    pairs = [
        (count, row, column)
        for row, counts in enumerate(confusion["student"])
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return [
        {
            "truth": labels[row],
            "said": labels[column],
            "student": count,
            "teacher": confusion["teacher"][row][column] if "teacher" in confusion else None,
        }
        for count, row, column in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:most]
    ]
