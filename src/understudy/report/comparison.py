"""The page of a comparison: everything in comparison.json, for a reader who has to choose.

A function of that file alone, in the look of a run's report. Names of arms come from a user's file and are escaped like
everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.base import yaml
from understudy.compare.advice import ranked
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.significance import pair
from understudy.evaluate.verdict import in_points, plain
from understudy.figures import charts, panel
from understudy.figures.svg import shorten
from understudy.figures.words import duration, megabytes, milliseconds, percent, score, short
from understudy.kinds import lower_is_better, sign_of
from understudy.report.page import fill, resource
from understudy.report.sections import forest


def render_comparison(made: Mapping[str, Any], *, recipe: str = "") -> str:
    """The whole page as HTML.

    Args:
        made: a comparison (docs/comparison.md).
        recipe: the file that repeats it, as text.
    """
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    classes = classes_of(made)
    names = [name for name in classes if test in made["arms"][name]["metrics"]]
    first = names[0] if names else None
    teacher = made["teacher"]
    return fill(
        "comparison.html.j2",
        Markup("{}\n{}").format(resource("page.js"), resource("comparison.js")),
        title=f"{made['task']['name']} · {len(made['arms'])} arms",
        made=made,
        metric=DISPLAY.get(metric, metric),
        lower=lower_is_better(metric),
        rows=[_row(made, name, classes[name]) for name in classes],
        teacher=_teacher(made) if teacher else None,
        teacher_seconds=duration(teacher["seconds"]) if teacher and teacher["seconds"] else None,
        failures=[{"arm": name, **one} for name, arm in made["arms"].items() for one in arm["failed"]],
        plots=_plots(made, classes, names) if first else [],
        pairs=[one for one in (_pairs(made, names), _forest(made, names)) if one],
        heat=_heat(made, names),
        budget=[_budget(made, name, classes[name]) for name in classes],
        recipe=recipe,
    )


def classes_of(made: Mapping[str, Any]) -> dict[str, str]:
    """Every arm with its colour, the best first and those without a score last; the baseline has its own, and nobody
    that of the teacher."""
    scored = ranked(made)
    order = [*scored, *sorted(made["arms"].keys() - set(scored))]
    others = [name for name in made["arms"] if name != made["baseline"]]
    colours = {name: f"s{1 + place % 11}" for place, name in enumerate(others)}
    return {name: colours.get(name, "baseline") for name in order}


def _row(made: Mapping[str, Any], name: str, colour: str) -> dict[str, Any]:
    arm = made["arms"][name]
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    failed = f"{len(arm['failed'])} failed" if arm["failed"] else ""
    found = {"name": name, "class": colour, "method": arm["method"], "failed": failed}
    if test not in arm["metrics"]:
        return {**found, "cells": [_cell(None, "–")] * 7}
    one, spent, time = arm["metrics"][test][metric], arm["spent"], arm["latency_ms"]
    deviation = f" ± {one['deviation']:.3f}" if one["deviation"] is not None else ""
    against = _against(made, name)
    cells = [
        _cell(one["mean"], score(one["mean"]) + deviation, f"{score(one['low'])} to {score(one['high'])}"),
        against,
        _cell(time["median"], milliseconds(time["median"]), f"IQR {milliseconds(time['iqr'])}"),
        _cell(arm["num_parameters"], short(arm["num_parameters"])),
        _cell(arm["size_mb"], megabytes(arm["size_mb"])),
        _cell(spent["amount"], f"{spent['amount']:.3g}", f"{percent(spent['amount'] / made['budget']['amount'])} of the budget"),
        _cell(spent["seconds"], duration(spent["seconds"])),
    ]
    return {**found, "cells": cells}


def _cell(value: float | None, shown: str, note: str = "", colour: str = "") -> dict[str, Any]:
    return {"value": value, "shown": shown, "note": note, "class": colour}


def _against(made: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The difference to the baseline, and whether it may be believed."""
    row = pair(made, name, made["baseline"])
    metric = made["headline"]["metric"]
    if row is None:
        return _cell(None, "–")
    note = f"{row['verdict']}, p {row['p_holm']:.2g}"
    return _cell(row["difference"], plain(row["difference"], metric, sign=True), note, row["verdict"])


def _teacher(made: Mapping[str, Any]) -> dict[str, Any]:
    teacher, metric = made["teacher"], made["headline"]["metric"]
    value, time = teacher["metrics"].get(made["headline"]["test"], {}).get(metric), teacher["latency_ms"]
    cells = [
        _cell(None, "–" if value is None else score(value)),
        _cell(None, ""),
        _cell(None, milliseconds(time["median"]) if time else "–"),
        _cell(None, short(teacher["num_parameters"])),
        _cell(None, megabytes(teacher["size_mb"])),
        _cell(None, ""),
        _cell(None, duration(teacher["seconds"]) if teacher["seconds"] else ""),
    ]
    return {"name": teacher["name"], "cells": cells}


def _plots(made: Mapping[str, Any], classes: Mapping[str, str], names: Sequence[str]) -> list[Any]:
    """Quality against latency, against size, and over what was spent."""
    metric = made["headline"]["metric"]
    better = "down" if lower_is_better(metric) else "up"
    note = f"{better} and left is better; the line joins the arms that no other beats in both"
    found = [
        panel(f"Quality against {cost}", _front(made, names, classes, cost=cost, x_name=x_name), note)
        for cost, x_name in (("latency", "milliseconds per batch"), ("size", "MB on disk"))
    ]
    series = {name: [tuple(point) for point in made["arms"][name]["curve"]] for name in names}
    said = f"{DISPLAY.get(made['task']['select'], made['task']['select'])} on held-out rows over what was spent."
    chart = charts.line(series, label=said, classes=classes, x_name=made["budget"]["unit"], dots=True, height=230)
    note = "first seed, on held-out rows; a line begins where the stages before it have spent their part"
    return [one for one in (*found, panel("Quality over cost", chart, note)) if one]


def _front(made: Mapping[str, Any], names: Sequence[str], classes: Mapping[str, str], *, cost: str, x_name: str) -> Markup:
    """Quality (up) with its interval against latency or size (right), teacher included."""
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    known = {name: (classes[name], made["arms"][name], made["arms"][name]["metrics"][test][metric]) for name in names}
    teacher = made["teacher"]
    if teacher and teacher["latency_ms"] and metric in teacher["metrics"].get(test, {}):
        known["teacher"] = ("teacher", teacher, {"mean": teacher["metrics"][test][metric], "low": None, "high": None})
    points = []
    for name, (colour, arm, one) in known.items():
        time, size = arm["latency_ms"]["median"], arm["size_mb"]
        cheap = f"{milliseconds(time)}, {megabytes(size)}, {short(arm['num_parameters'])} parameters"
        points.append({"class": colour, "x": time if cost == "latency" else size, "y": one["mean"], "low": one["low"],
                       "high": one["high"], "tip": f"{name}: {score(one['mean'])}, {cheap}",
                       "front": name in made["fronts"][cost]})  # fmt: skip
    name = DISPLAY.get(metric, metric)
    label = f"{name} against {x_name}. " + "; ".join(point["tip"] for point in points)
    edge = [point for point in points if point["front"]]
    return charts.scatter(points, label=label, x_name=x_name, y_name=f"{name} · {shorten(test, 24)}", joined=edge, height=250)


def _pairs(made: Mapping[str, Any], names: Sequence[str]) -> Any:
    """A square of differences, row minus column: green where the row is better, red where it is worse, grey for ties."""
    if len(names) < 2:
        return None
    test, metric = made["headline"]["test"], made["headline"]["metric"]

    def cell(one: str, other: str) -> dict[str, Any] | None:
        found = None if one == other else pair(made, one, other)
        if found is None:
            return None
        shown, strong = plain(found["difference"], metric, sign=True), found["verdict"] != "tie"
        tip = f"{one} − {other}: {shown}, p {found['p_holm']:.2g} after correction: {found['verdict']}"
        return {"class": found["verdict"], "shade": 0.75 if strong else 0.14, "tip": tip, "shown": shown, "strong": strong}

    cells = [[cell(one, other) for other in names] for one in names]
    label = f"Differences between {len(names)} arms, row minus column."
    chart = charts.grid(cells, rows=names, columns=names, label=label)
    note = "in points for scores up to 1; coloured where it is no tie"
    return panel(f"{DISPLAY.get(metric, metric)} · {test}: row − column", chart, note)


def _heat(made: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Arms down, every metric of every test set across; None where there is only one. Shades are within a column."""
    columns = [(test, metric) for test in made["task"]["tests"] for metric in made["task"]["metrics"]]
    if len(columns) < 2 or not names:
        return None
    cells: list[list[dict[str, Any] | None]] = [[] for _ in names]
    for test, metric in columns:
        scored = {name: made["arms"][name]["metrics"] for name in names if test in made["arms"][name]["metrics"]}
        means = {name: one[test][metric]["mean"] for name, one in scored.items()}
        ranked = [sign_of(metric) * value for value in means.values()]
        low, high = min(ranked), max(ranked)
        for row, name in zip(cells, names, strict=True):
            if name not in means:
                row.append(None)
                continue
            share = (sign_of(metric) * means[name] - low) / (high - low) if high > low else 0.5
            met = [pair(made, name, other, test, metric) for other in means if other != name]
            best = not any(one["verdict"] == "worse" for one in met if one)
            tip = f"{name}, {DISPLAY.get(metric, metric)} on {test}: {score(means[name])}"
            tip += "; no other arm is better" if best else ""
            row.append({"class": "s0", "shade": round(0.06 + 0.8 * share, 3), "strong": share > 0.55, "tip": tip,
                        "shown": score(means[name]) + (" ·" if best else "")})  # fmt: skip
    titles = [f"{shorten(test, 16)}\n{shorten(DISPLAY.get(metric, metric), 16)}" for test, metric in columns]
    width = max(720.0, 120 + 70.0 * len(columns))
    chart = charts.grid(cells, rows=names, columns=titles, label=f"Every metric of {len(names)} arms.", tallest=26, width=width)
    note = "mean over seeds; in each column the darkest is the best, a dot marks arms that no other is better than"
    return panel("Scores on every test set", chart, note, wide=True)


def _forest(made: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Every arm's difference to the baseline with its interval; None where there is no other arm or no interval."""
    metric, rows = made["headline"]["metric"], []
    for name in names:
        row = pair(made, name, made["baseline"])
        if row is None or row["low"] is None:
            continue
        shown = plain(row["difference"], metric, sign=True)
        interval = f"95 % interval {plain(row['low'], metric)} to {plain(row['high'], metric)}"
        ends = {key: in_points(row[key], metric) for key in ("low", "high")}
        tip = f"{name}: {shown}, {interval}; {row['verdict']}"
        mark = {"value": in_points(row["difference"], metric), **ends, "class": row["verdict"], "tip": tip}
        rows.append({"name": name, "shown": shown, "marks": [mark]})
    note = "the same training without a teacher; 95 % interval, not corrected"
    return panel(f"Against {made['baseline']}", forest(rows), note) if rows else None


def _budget(made: Mapping[str, Any], name: str, colour: str) -> dict[str, Any]:
    arm = made["arms"][name]
    spent = arm["spent"]
    stages = [f"{one['stage']} {one['steps']:,} in {duration(one['seconds'])}" for one in spent["stages"]] if spent else []
    return {
        "name": name,
        "class": colour,
        "planned": f"{arm['planned']:.3g}",
        "spent": f"{spent['amount']:.3g}" if spent else "–",
        "share": percent(spent["amount"] / made["budget"]["amount"]) if spent else "–",
        "steps": f"{spent['steps']:,.0f}" if spent else "–",
        "flops": f"{spent['training_flops'] / 1e15:.3g}" if spent else "–",
        "forwards": f"{arm['teacher_forwards']:,.0f}" if spent else "–",
        "memory": megabytes(arm["peak_memory_mb"]) if spent else "–",
        "stages": " · ".join(stages) or "–",
        "epochs": ", ".join(f"{key} {value}" for key, value in arm["epochs"].items()),
        "notes": arm["notes"],
        "changes": yaml.dump(arm["changes"], flow=True).strip() if arm["changes"] else "",
    }
