"""From a result to what each section of the page says: numbers put into words, charts drawn, nothing computed anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.evaluate.metrics import DISPLAY, LOWER_IS_BETTER
from understudy.evaluate.result import MODELS
from understudy.evaluate.verdict import headline, percent, plain, score
from understudy.report import charts

_MAX_MATRIX = 25  # labels; a larger confusion matrix is unreadable, the list of its largest entries is not


def cards(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The four figures at the top: score kept, speed, size, what distillation added."""
    test, metric = headline(result)
    name, student = DISPLAY.get(metric, metric), result["student"]
    value = student["metrics"][test][metric]["value"]
    found = []
    kept = _get(result["retained"], test, metric)
    if kept and kept["value"] is not None:
        teacher = result["teacher"]["metrics"][test][metric]["value"]
        note = f"of the teacher’s {name} on {test}: {score(value)} of {score(teacher)}"
        found.append({"figure": percent(kept["value"]), "title": "Score kept", "note": note, "tone": "plain"})
    else:
        found.append({"figure": score(value), "title": "Score", "note": f"{name} on {test}", "tone": "plain"})
    if result["speedup"] is not None:
        times = result["teacher"]["latency_ms"], student["latency_ms"]
        note = (
            f"{milliseconds(times[0]['median'])} → {milliseconds(times[1]['median'])} on {times[1]['device'].upper()}"
        )
        found.append({"figure": f"{result['speedup']:.1f}×", "title": "Speed", "note": note, "tone": "plain"})
    if result["teacher"]:
        before, after = result["teacher"]["num_parameters"], student["num_parameters"]
        smaller = 1 - after / before
        note = f"{short(before)} → {short(after)} parameters"
        figure = f"{'−' if smaller > 0 else '+'}{percent(abs(smaller))}"
        found.append({"figure": figure, "title": "Size", "note": note, "tone": "plain"})
    gain = _get(result["gain"], test, metric)
    if gain:
        unit = "" if abs(gain["value"]) < 0.00005 or metric in LOWER_IS_BETTER else " pts"
        note = {"better": "over plain fine-tuning", "worse": "against plain fine-tuning"}.get(
            _kind(gain, metric), "over plain fine-tuning: a tie on these rows"
        )
        note += f", 95 % interval {_interval(gain, metric, plain)}" if gain["low"] is not None else ""
        figure = plain(gain["value"], metric, sign=True) + unit
        found.append({"figure": figure, "title": "Distillation", "note": note, "tone": _kind(gain, metric)})
    return found


def scores(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One bar chart per test set and metric, the metric that the run is judged by first."""
    found = []
    for metric in _metrics(result):
        for test, rows in result["task"]["tests"].items():
            bars = []
            for model in _present(result):
                one = _get(result[model]["metrics"], test, metric)
                if one:
                    tip = f"{model}: {score(one['value'])}" + (
                        f", 95 % interval {score(one['low'])} to {score(one['high'])}" if one["low"] is not None else ""
                    )
                    bars.append({"model": model, **one, "shown": score(one["value"]), "tip": tip})
            if bars:
                name = DISPLAY.get(metric, metric)
                said = "; ".join(bar["tip"] for bar in bars)
                found.append({
                    "name": name, "test": test, "rows": rows, "lower": metric in LOWER_IS_BETTER,
                    "chart": charts.score_bars(bars, label=f"{name} on {test}: {said}"),
                })  # fmt: skip
    return found


def gains(result: Mapping[str, Any]) -> Any:
    """The forest plot of student minus baseline, in points; None where there is no baseline."""
    rows = []
    for metric in _metrics(result):
        for test in result["gain"]:
            gain = _get(result["gain"], test, metric)
            if gain is None or metric in LOWER_IS_BETTER:
                continue
            shown = plain(gain["value"], metric, sign=True)
            interval = f", 95 % interval {_interval(gain, metric, plain)}" if gain["low"] is not None else ""
            several = len(result["gain"]) > 1
            rows.append({
                "name": f"{DISPLAY.get(metric, metric)}{f' · {test}' if several else ''}",
                **{key: None if gain[key] is None else gain[key] * 100 for key in ("value", "low", "high")},
                "kind": _kind(gain, metric), "shown": shown, "tip": f"{shown} points{interval}",
            })  # fmt: skip
    if not rows:
        return None
    return charts.differences(rows, label="; ".join(f"{row['name']}: {row['tip']}" for row in rows))


def tradeoff(result: Mapping[str, Any]) -> Any:
    """Score against latency of all models; None where latency was not measured."""
    test, metric = headline(result)
    points = []
    for model in _present(result):
        one, time = _get(result[model]["metrics"], test, metric), result[model]["latency_ms"]
        if one and time:
            tip = (
                f"{model}: {score(one['value'])}, {milliseconds(time['median'])}, {megabytes(result[model]['size_mb'])}"
            )
            points.append({
                "model": model, "x": time["median"], "y": one["value"], "low": one["low"], "high": one["high"],
                "size": result[model]["size_mb"], "tip": tip,
            })  # fmt: skip
    if len(points) < 2:
        return None
    label = "Score against latency. " + "; ".join(point["tip"] for point in points)
    name = f"{DISPLAY.get(metric, metric)} · {test}"
    return charts.quality_against_time(points, x_name="milliseconds per batch", y_name=name, label=label)


def score_table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every score as a number, with gain, share kept and gap recovered."""
    rows = []
    for test in result["task"]["tests"]:
        for metric in _metrics(result):
            if not _get(result["student"]["metrics"], test, metric):
                continue
            gain = _get(result["gain"], test, metric)
            rows.append({
                "test": test,
                "metric": DISPLAY.get(metric, metric),
                "models": [
                    _cell(_get(result[model]["metrics"], test, metric), score) for model in _present(result)
                ],
                "gain": _cell(gain, lambda value, metric=metric: plain(value, metric, sign=True)),
                "kept": _cell(_get(result["retained"], test, metric), percent),
                "recovered": _cell(_get(result["gap_recovered"], test, metric), percent),
            })  # fmt: skip
    return rows


def sizes(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table of what each model costs, relative to the first of them."""
    rows = []
    for model in _present(result):
        one, first = result[model], result[_present(result)[0]]
        time = one["latency_ms"]
        rows.append({
            "model": model,
            "name": one["name"],
            "parameters": short(one["num_parameters"]),
            "exact": f"{one['num_parameters']:,}",
            "nonembedding": short(one["num_parameters_nonembedding"]),
            "disk": megabytes(one["size_mb"]),
            "flops": f"{one['flops'] / 1e9:.2f}",
            "latency": milliseconds(time["median"]) if time else "–",
            "iqr": milliseconds(time["iqr"]) if time else "",
            "speed": f"{first['latency_ms']['median'] / time['median']:.1f}×" if time and first["latency_ms"] else "–",
        })  # fmt: skip
    return rows


def training(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of one step of the run: total, terms, shares, validation, learning rate."""
    total = _series(rows, "loss")
    terms: dict[str, dict[str, list[tuple[float, float]]]] = {}
    select: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for term, part in row.get("terms", {}).items():
            for key in ("value", "weight", "share"):
                if _finite(part.get(key)):
                    terms.setdefault(term, {}).setdefault(key, []).append((float(row["step"]), float(part[key])))
        for metric, value in (row.get("select") or {}).items():
            if _finite(value):
                select.setdefault(DISPLAY.get(metric, metric), []).append((float(row["step"]), float(value)))
    classes = {term: f"s{place % 8}" for place, term in enumerate(terms)}
    panels = []
    if total:
        panels.append(_panel("Loss", "the weighted sum", {"loss": total}, {"loss": "s7"}))
    for metric, values in select.items():
        best = max(values, key=lambda point: point[1] * (-1 if metric in map(DISPLAY.get, LOWER_IS_BETTER) else 1))
        note = f"best {score(best[1])} at step {best[0]:g}"
        panels.append(_panel(f"Validation: {metric}", note, {metric: values}, {metric: "student"}, marks_on=True))
    if len(terms) > 1:
        for term, parts in terms.items():
            note = _weight_words(parts)
            if "value" in parts:
                panels.append(_panel(term, note, {term: parts["value"]}, classes, key=classes[term]))
        share = {term: parts["share"] for term, parts in terms.items() if "share" in parts}
        if stacked := charts.shares(share, label=f"{name}: share of each term in the loss", classes=classes):
            panels.append({"title": "Share of each term", "note": "of the weighted sum", "chart": stacked, "key": None})
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


def time_spent(result: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds per step as a chart, and their sum in words."""
    seconds = result["train_seconds"]
    rows = [{"name": name, "seconds": value, "shown": duration(value)} for name, value in seconds.items()]
    label = "; ".join(f"{row['name']}: {row['shown']}" for row in rows)
    return {"chart": charts.durations(rows, label=label) if rows else None, "total": duration(sum(seconds.values()))}


def behaviour(test: str, found: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What the models do on one test set: agreement, confusions, classes, scatter, disagreements."""
    models, labels = _present(result), found.get("labels", [])
    section: dict[str, Any] = {"test": test, "agreement": None, "matrices": [], "classes": None, "scatter": []}
    if agreement := found.get("agreement"):
        total = sum(agreement.values()) or 1
        names = {"both": "both right", "teacher": "only the teacher right", "student": "only the student right",
                 "neither": "neither right"}  # fmt: skip
        parts = [
            {"class": key, "count": agreement[key], "words": words, "share": percent(agreement[key] / total)}
            for key, words in names.items()
        ]
        parts = [{**part, "tip": f"{part['words']}: {part['count']} rows ({part['share']})"} for part in parts]
        label = "; ".join(part["tip"] for part in parts)
        section["agreement"] = {"parts": parts, "chart": charts.parts(parts, label=label)}
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
    marked = result["task"]["kind"] != "regression"
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


# --- small words -----------------------------------------------------------------------------------------------------


def short(count: float) -> str:
    """22713216 -> '22.7 M'."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def megabytes(size: float) -> str:
    return f"{size / 1000:.2f} GB" if size >= 1000 else f"{size:.1f} MB"


def milliseconds(time: float) -> str:
    return f"{time:.0f} ms" if time >= 100 else f"{time:.1f} ms" if time >= 10 else f"{time:.2f} ms"


def duration(seconds: float) -> str:
    """75.2 -> '1 min 15 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _present(result: Mapping[str, Any]) -> list[str]:
    return [model for model in MODELS if result[model]]


def _metrics(result: Mapping[str, Any]) -> list[str]:
    """The task's metrics, the one it is judged by first."""
    _, first = headline(result)
    return [first, *(metric for metric in result["task"]["metrics"] if metric != first)]


def _get(table: Mapping[str, Mapping[str, Any]], test: str, metric: str) -> Any:
    return table.get(test, {}).get(metric)


def _interval(one: Mapping[str, Any], metric: str, write: Any) -> str:
    return f"{write(one['low'], metric)} to {write(one['high'], metric)}"


def _cell(one: Mapping[str, Any] | None, write: Any) -> dict[str, str]:
    if one is None or one["value"] is None:
        return {"value": "–", "interval": "", "reason": (one or {}).get("reason") or ""}
    ends = f"{write(one['low'])} to {write(one['high'])}" if one["low"] is not None else ""
    return {"value": write(one["value"]), "interval": ends, "reason": one.get("reason") or ""}


def _kind(gain: Mapping[str, Any], metric: str) -> str:
    """Whether a difference is better, worse or a tie, by its interval."""
    if gain["low"] is None or gain["low"] <= 0 <= gain["high"]:
        return "tie"
    return "better" if (gain["value"] > 0) != (metric in LOWER_IS_BETTER) else "worse"


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
