"""Curves of one step of a run, from the rows of its metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.data.types import LOWER_IS_BETTER
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.verdict import percent, score
from understudy.report import charts


def training(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of one step of the run: total, terms, shares, validation, learning rate."""
    total = _series(rows, "loss")
    terms: dict[str, dict[str, list[tuple[float, float]]]] = {}
    select: dict[str, list[tuple[float, float]]] = {}
    views: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for term, part in row.get("terms", {}).items():
            for key in ("value", "weight", "share"):
                if _finite(part.get(key)):
                    terms.setdefault(term, {}).setdefault(key, []).append((float(row["step"]), float(part[key])))
        for metric, value in (row.get("select") or {}).items():
            if _finite(value):
                select.setdefault(metric, []).append((float(row["step"]), float(value)))
        for view, values in (row.get("views") or {}).items():
            for metric, value in values.items():
                if _finite(value):
                    views.setdefault(metric, {}).setdefault(view, []).append((float(row["step"]), float(value)))
    classes = {term: f"s{place % 12}" for place, term in enumerate(terms)}
    panels = []
    if total:
        panels.append(_panel("Loss", "the weighted sum", {"loss": total}, {"loss": "s7"}))
    for metric, values in select.items():
        shown = DISPLAY.get(metric, metric)
        best = (min if metric in LOWER_IS_BETTER else max)(values, key=lambda point: point[1])
        note = f"best {score(best[1])} at step {best[0]:g}"
        panels.append(_panel(f"Validation: {shown}", note, {shown: values}, {shown: "student"}, marks_on=True))
    for metric, series in views.items():
        colours = {view: f"s{place % 12}" for place, view in enumerate(series)}
        panels.append(_panel(f"Validation: {DISPLAY.get(metric, metric)}", "of each sub-network", series, colours))
    if len(terms) > 1:
        for term, parts in terms.items():
            note = _weight_words(parts)
            if "value" in parts:
                panels.append(_panel(term, note, {term: parts["value"]}, classes, key=classes[term]))
        share = {term: parts["share"] for term, parts in terms.items() if "share" in parts}
        if stacked := charts.shares(share, label=f"{name}: share of each term in the loss", classes=classes):
            note = "of the weighted sum"
            if "soft" in share:  # T^2 H(teacher) is in it, and stays to the end
                note += "; a cross-entropy with soft labels contains the teacher's entropy, which no student can take away"
            panels.append({"title": "Share of each term", "note": note, "chart": stacked, "key": None})
        moving = {term: parts["weight"] for term, parts in terms.items() if _varies(parts.get("weight", []))}
        if moving:
            panels.append(_panel("Weights", "where they follow a schedule", moving, classes))
    rate = _series(rows, "lr")
    if len(rate) > 1:
        panels.append(_panel("Learning rate", "", {"learning rate": rate}, {"learning rate": "s7"}))
    legend = [{"term": term, "class": classes[term], "note": _last_share(parts)} for term, parts in terms.items()]
    return {
        "name": name,
        "panels": [panel for panel in panels if panel["chart"]],
        "legend": legend if len(terms) > 1 else [],
        "steps": int(rows[-1].get("step", 0)),
    }


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if _finite(row.get(key))]


def _varies(points: Sequence[tuple[float, float]]) -> bool:
    values = [value for _, value in points]
    return bool(values) and max(values) - min(values) > 1e-9 * max(1.0, max(values))


def _weight_words(parts: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    weights = parts.get("weight", [])
    if not weights:
        return ""
    if _varies(weights):
        return f"weight {weights[0][1]:.3g} → {weights[-1][1]:.3g}"
    return f"weight {weights[0][1]:.3g}"


def _last_share(parts: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    share = parts.get("share", [])
    return f"{percent(sum(value for _, value in share) / len(share))} of the loss" if share else ""


def _panel(
    title: str,
    note: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    classes: Mapping[str, str],
    *,
    key: str | None = None,
    marks_on: bool = False,
) -> dict[str, Any]:
    chart = charts.curves(series, label=f"{title} over steps", classes=classes, marks_on=marks_on)
    return {"title": title, "note": note, "chart": chart, "key": key}
