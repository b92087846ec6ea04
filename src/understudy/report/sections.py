"""From a result to what the page says about it: numbers put into words, charts drawn, nothing computed anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.result import MODELS
from understudy.evaluate.verdict import headline, in_points, metric_name, plain
from understudy.figures import charts, panel, parts, table
from understudy.figures.words import duration, megabytes, milliseconds, percent, score, short
from understudy.kinds import kind, lower_is_better

MAX_MATRIX = 25  # labels; a larger confusion matrix is unreadable, the list of its largest entries is not


def cards(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The four figures at the top: score kept, speed, size, what distillation added."""
    test, metric = headline(result)
    name, student = metric_name(result, metric), result["student"]
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
    if result["teacher"] and result["teacher"]["num_parameters"] is not None:
        before, after = result["teacher"]["num_parameters"], student["num_parameters"]
        smaller = 1 - after / before
        note = f"{short(before)} → {short(after)} parameters"
        figure = f"{'−' if smaller > 0 else '+'}{percent(abs(smaller))}"
        found.append({"figure": figure, "title": "Size", "note": note, "tone": "plain"})
    gain = _get(result["gain"], test, metric)
    if gain:
        unit = "" if abs(gain["value"]) < 0.00005 or lower_is_better(metric) else " pts"
        note = {"better": "over plain fine-tuning", "worse": "against plain fine-tuning"}.get(
            _kind(gain, metric), "over plain fine-tuning: a tie on these rows"
        )
        note += f", 95 % interval {_interval(gain, metric, plain)}" if gain["low"] is not None else ""
        figure = plain(gain["value"], metric, sign=True) + unit
        found.append({"figure": figure, "title": "Distillation", "note": note, "tone": _kind(gain, metric)})
    return found


def scores(result: Mapping[str, Any]) -> list[Any]:
    """One bar chart per test set and metric, the metric that the run is judged by first; then what distillation added, and
    score against time."""
    found = []
    for metric in _metrics(result):
        for test, number in result["task"]["tests"].items():
            rows = []
            for model in _present(result):
                one = _get(result[model]["metrics"], test, metric)
                if one:
                    interval = f", 95 % interval {score(one['low'])} to {score(one['high'])}" if one["low"] is not None else ""
                    mark = {**one, "class": model, "tip": f"{model}: {score(one['value'])}{interval}"}
                    rows.append({"name": model, "shown": score(one["value"]), "marks": [mark]})
            if rows:
                name, lower = metric_name(result, metric), ", lower is better" if lower_is_better(metric) else ""
                values = charts.values_of(rows)
                # Scores up to 1 share one scale, so that bars can be compared from chart to chart.
                ends = (min(0.0, *values), 1.0 if max(values) <= 1 else max(values) * 1.05)
                label = f"{name} on {test}: {'; '.join(row['marks'][0]['tip'] for row in rows)}"
                chart = charts.bar(rows, label=label, ends=ends, left=74, row_height=30, track=True)
                found.append(panel(f"{name} · {test}", chart, f"{number:,} rows{lower}"))
    return [*found, _gains(result), _tradeoff(result)]


def _gains(result: Mapping[str, Any]) -> Any:
    """The forest plot of student minus baseline, in points; None where there is no baseline."""
    rows = []
    for metric in _metrics(result):
        for test in result["gain"]:
            gain = _get(result["gain"], test, metric)
            if gain is None or lower_is_better(metric):
                continue
            shown = plain(gain["value"], metric, sign=True)
            interval = f", 95 % interval {_interval(gain, metric, plain)}" if gain["low"] is not None else ""
            name = f"{DISPLAY.get(metric, metric)}{f' · {test}' if len(result['gain']) > 1 else ''}"
            scaled = {key: None if gain[key] is None else in_points(gain[key], metric) for key in ("value", "low", "high")}
            mark = {**scaled, "class": _kind(gain, metric), "tip": f"{name}: {shown} points{interval}"}
            rows.append({"name": name, "shown": shown, "marks": [mark]})
    return panel("What distillation added", forest(rows), "student − baseline, in points, 95 % interval") if rows else None


def forest(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Differences with their intervals on both sides of zero; rows as `charts.bar` has them, of one mark each."""
    values = charts.values_of(rows)
    room = (max(0.0, *values) - min(0.0, *values)) * 0.12 or 1.0
    ends = (min(0.0, *values) - room, max(0.0, *values) + room)
    label = "; ".join(row["marks"][0]["tip"] for row in rows)
    return charts.bar(rows, label=label, ends=ends, mark="dot", ticks=3, zero=True, right=46)


def _tradeoff(result: Mapping[str, Any]) -> Any:
    """Score against latency of all models; None where latency was not measured."""
    test, metric = headline(result)
    points = []
    for model in _present(result):
        one, time = _get(result[model]["metrics"], test, metric), result[model]["latency_ms"]
        if one and time:
            size = result[model]["size_mb"]
            tip = f"{model}: {score(one['value'])}, {milliseconds(time['median'])}, {megabytes(size)}"
            points.append({"name": model, "class": model, "x": time["median"], "y": one["value"], "low": one["low"],
                           "high": one["high"], "size": size, "tip": tip})  # fmt: skip
    if len(points) < 2:
        return None
    label = "Score against latency. " + "; ".join(point["tip"] for point in points)
    name = f"{DISPLAY.get(metric, metric)} · {test}"
    note = f"{'down' if lower_is_better(metric) else 'up'} and left is better; the area of a dot is the size on disk"
    return panel("Quality against time", charts.scatter(points, x_name="milliseconds per batch", y_name=name, label=label), note)


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
                "metric": metric_name(result, metric),
                "models": [
                    _cell(_get(result[model]["metrics"], test, metric), score) for model in _present(result)
                ],
                "gain": _cell(gain, lambda value, metric=metric: plain(value, metric, sign=True)),
                "kept": _cell(_get(result["retained"], test, metric), percent),
                "recovered": _cell(_get(result["gap_recovered"], test, metric), percent),
            })  # fmt: skip
    return rows


def reasons(result: Mapping[str, Any]) -> list[str]:
    """Why some ratios are missing or have no interval, each reason once."""
    ratios = [*result["retained"].values(), *result["gap_recovered"].values()]
    found = [one["reason"] for by_metric in ratios for one in by_metric.values() if one["reason"]]
    return list(dict.fromkeys(found))


def references(result: Mapping[str, Any]) -> list[str]:
    """What scores without any training, a sentence for each, on the first test set."""
    test, _ = headline(result)
    found = []
    for name, scores in (result.get("references") or {}).items():
        values = [f"{score(value)} {metric_name(result, metric)}" for metric, value in scores.get(test, {}).items()]
        found += [f"For comparison, {name}, which needs no training: {', '.join(values)}."] if values else []
    return found


def sizes(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table of what each model costs, relative to the first of them."""
    rows = []
    measured = [model for model in _present(result) if result[model]["num_parameters"] is not None]
    for model in measured:
        one, first = result[model], result[measured[0]]
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


def time_spent(result: Mapping[str, Any]) -> Any:
    """Seconds per step, and their sum in words."""
    seconds = result["train_seconds"]
    if not seconds:
        return None
    rows = []
    for name, value in seconds.items():
        mark = {"value": value, "class": "plain", "tip": f"{name}: {duration(value)}"}
        rows.append({"name": name, "shown": duration(value), "marks": [mark]})
    label = "; ".join(row["marks"][0]["tip"] for row in rows)
    note = f"{duration(sum(seconds.values()))} in all; {result['teacher_forwards']:,} teacher forward passes"
    return panel("Time per step", charts.bar(rows, label=label, ends=(0, max(seconds.values()) or 1), right=84), note)


# --- how training went ---------------------------------------------------------------------------------------------


def training(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of one step of the run: total, terms, shares, validation, learning rate."""
    terms: dict[str, dict[str, list[tuple[float, float]]]] = {}
    select: dict[str, list[tuple[float, float]]] = {}
    views: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def add(into: dict[Any, Any], key: str, row: Mapping[str, Any], value: Any) -> None:
        if isinstance(value, (int, float)) and math.isfinite(value):
            into.setdefault(key, []).append((float(row["step"]), float(value)))

    whole: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for key in ("loss", "lr"):
            add(whole, key, row, row.get(key))
        for term, part in row.get("terms", {}).items():
            for key in ("value", "weight", "share"):
                add(terms.setdefault(term, {}), key, row, part.get(key))
        for metric, value in (row.get("select") or {}).items():
            add(select, metric, row, value)
        for view, values in (row.get("views") or {}).items():
            for metric, value in values.items():
                add(views.setdefault(metric, {}), view, row, value)
    terms = {term: parts for term, parts in terms.items() if parts}
    classes = {term: f"s{place % 12}" for place, term in enumerate(terms)}
    panels = [_curves("Loss", "the weighted sum", {"loss": whole.get("loss", [])}, {"loss": "s7"})]
    for metric, values in select.items():
        shown = DISPLAY.get(metric, metric)
        best = (min if lower_is_better(metric) else max)(values, key=lambda point: point[1])
        note = f"best {score(best[1])} at step {best[0]:g}"
        panels.append(_curves(f"Validation: {shown}", note, {shown: values}, {shown: "student"}, dots=True))
    for metric, series in views.items():
        colours = {view: f"s{place % 12}" for place, view in enumerate(series)}
        panels.append(_curves(f"Validation: {DISPLAY.get(metric, metric)}", "of each sub-network", series, colours))
    if len(terms) > 1:
        for term, parts in terms.items():
            weight = [value for _, value in parts.get("weight", [])]
            note = f"weight {weight[0]:.3g}{f' → {weight[-1]:.3g}' if _varies(weight) else ''}" if weight else ""
            panels.append(_curves(term, note, {term: parts.get("value", [])}, classes, key=classes[term]))
        share = {term: parts["share"] for term, parts in terms.items() if "share" in parts}
        chart = charts.line(share, label=f"{name}: share of each term in the loss", classes=classes, stacked=True)
        note = "of the weighted sum"
        if "soft" in share:  # T^2 H(teacher) is in it, and stays to the end
            note += "; a cross-entropy with soft labels contains the teacher's entropy, which no student can take away"
        panels.append(panel("Share of each term", chart, note))
        moving = {
            term: parts["weight"] for term, parts in terms.items() if _varies([value for _, value in parts.get("weight", [])])
        }
        panels.append(_curves("Weights", "where they follow a schedule", moving, classes))
    if len(whole.get("lr", [])) > 1:
        panels.append(_curves("Learning rate", "", {"learning rate": whole["lr"]}, {"learning rate": "s7"}))
    legend = []
    for term, parts in terms.items() if len(terms) > 1 else ():
        share = [value for _, value in parts.get("share", [])]
        note = f"{percent(sum(share) / len(share))} of the loss" if share else ""
        legend.append({"class": classes[term], "words": term, "note": note})
    steps = int(rows[-1].get("step", 0))
    return {"name": name, "panels": [one for one in panels if one], "legend": legend, "steps": steps}


def _curves(title: str, note: str, series: Any, classes: Mapping[str, str], *, key: str | None = None, dots: bool = False) -> Any:
    return panel(title, charts.line(series, label=f"{title} over steps", classes=classes, dots=dots), note, key=key)


def _varies(values: Sequence[float]) -> bool:
    return bool(values) and max(values) - min(values) > 1e-9 * max(1.0, *values)


# --- what the models do on one test set ----------------------------------------------------------------------------


def behaviour(test: str, found: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Where the models agree, what they confuse, which rows they miss."""
    models, labels = _present(result), found.get("labels", [])
    confusion, panels = found.get("confusion", {}), []
    if agreement := found.get("agreement"):
        names = {"both": "both right", "teacher": "only the teacher right", "student": "only the student right",
                 "neither": "neither right"}  # fmt: skip
        counted = [(key, words, agreement[key]) for key, words in names.items()]
        panels.append(parts("Teacher and student, row by row", counted, rows="rows"))
    if len(labels) <= MAX_MATRIX:
        panels += [_matrix(confusion[model], labels, model, test) for model in models if model in confusion]
    for model, said in found.get("scatter", {}).items():
        if model != "gold":
            points = [{"x": x, "y": y, "class": model} for x, y in zip(found["scatter"]["gold"], said, strict=True)]
            label = f"Predictions of the {model} against the truth on {test}"
            chart = charts.scatter(points, x_name="truth", equal=True, label=label, height=250)
            panels.append(panel(f"Predicted against true: {model}", chart, key=model))
    if classes := found.get("per_class"):
        panels.append(_classes(classes, [model for model in models if model in classes[0]], test))
    if len(labels) > 4 and (rows := _largest_confusions(confusion, labels)):
        head = ["truth", "said", "student", "teacher"]
        panels.append(panel("The student’s most frequent mistakes", table=table(head, rows)))
    marked = not kind(result["task"]["kind"]).numeric
    rows = [
        {
            "text": row["text"], "pair": row.get("pair"), "gold": row["gold"],
            "said": [{"model": model, "says": row[model],
                      "mark": ("right" if row[model] == row["gold"] else "wrong") if marked else ""}
                     for model in MODELS if row.get(model) is not None],
        }
        for row in found.get("disagreements", [])
    ]  # fmt: skip
    return {"test": test, "panels": [one for one in panels if one], "disagreements": rows}


def _matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], model: str, test: str) -> Any:
    """A confusion matrix: rows are the truth, columns what the model said, shade the share of the row."""
    cells = []
    for name, counts in zip(labels, matrix, strict=True):
        total = sum(counts)
        cells.append([
            {"class": model, "shade": round(0.06 + 0.9 * (count / total if total else 0), 3), "shown": count,
             "strong": 2 * count > total, "tip": f"{name} called {said}: {count} of {total}"}
            for said, count in zip(labels, counts, strict=True)
        ])  # fmt: skip
    label = f"Confusion matrix of the {model} on {test}"
    chart = charts.grid(cells, rows=labels, columns=labels, label=label, tallest=44)
    return panel(f"Confusion: {model}", chart, "rows: truth", key=model)


def _classes(rows: Sequence[Mapping[str, Any]], models: Sequence[str], test: str) -> Any:
    """F1 of each class: a dot for each model, and how often the class occurs."""
    shown = [
        {"name": row["label"], "shown": f"{row['support']:,}",
         "marks": [{"value": row[model], "class": model, "tip": f"{model}, {row['label']}: F1 {score(row[model])}"}
                   for model in models]}
        for row in rows
    ]  # fmt: skip
    least = min(row[model] for row in rows for model in models)
    label = f"F1 of each class on {test}. " + "; ".join(mark["tip"] for row in shown for mark in row["marks"])
    ends = (max(0.0, math.floor(least * 10 - 0.2) / 10), 1)
    chart = charts.bar(shown, label=label, ends=ends, mark="dot", ticks=4, right=46, row_height=22)
    legend = [{"class": model, "words": model, "note": ""} for model in models]
    return panel("F1 of each class", chart, "right: rows in the test set", legend=legend)


def _largest_confusions(confusion: Mapping[str, Any], labels: Sequence[str], most: int = 10) -> list[list[object]]:
    """The student's most frequent mistakes, beside how often the teacher makes them."""
    pairs = [
        (count, row, column)
        for row, counts in enumerate(confusion.get("student", []))
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return [
        [labels[row], labels[column], count, confusion["teacher"][row][column] if "teacher" in confusion else "–"]
        for count, row, column in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:most]
    ]


# --- what they share -----------------------------------------------------------------------------------------------


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
    return "better" if (gain["value"] > 0) != (lower_is_better(metric)) else "worse"
