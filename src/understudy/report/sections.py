"""From a result to what the page says about it: numbers put into words, charts drawn, nothing computed anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.data.types import LOWER_IS_BETTER
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.result import MODELS
from understudy.evaluate.verdict import headline, percent, plain, score
from understudy.report import charts
from understudy.report.words import duration, megabytes, milliseconds, short


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


def reasons(result: Mapping[str, Any]) -> list[str]:
    """Why some ratios are missing or have no interval, each reason once."""
    ratios = [*result["retained"].values(), *result["gap_recovered"].values()]
    found = [one["reason"] for by_metric in ratios for one in by_metric.values() if one["reason"]]
    return list(dict.fromkeys(found))


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


def time_spent(result: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds per step as a chart, and their sum in words."""
    seconds = result["train_seconds"]
    rows = [{"name": name, "seconds": value, "shown": duration(value)} for name, value in seconds.items()]
    label = "; ".join(f"{row['name']}: {row['shown']}" for row in rows)
    return {"chart": charts.durations(rows, label=label) if rows else None, "total": duration(sum(seconds.values()))}


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
