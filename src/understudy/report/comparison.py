"""The page of a comparison: everything in comparison.json, for somebody who has to choose.

A function of that file alone, in the look of a run's report. Names of arms come from a user's file and are escaped like
everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.base import yaml
from understudy.data.types import LOWER_IS_BETTER, sign_of
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.verdict import in_points, percent, plain, score
from understudy.report import charts, faceoff
from understudy.report.page import fill, resource
from understudy.report.words import duration, megabytes, milliseconds, short


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
        lower=metric in LOWER_IS_BETTER,
        rows=[_row(made, name, classes[name]) for name in classes],
        teacher=_teacher(made) if teacher else None,
        teacher_seconds=duration(teacher["seconds"]) if teacher and teacher["seconds"] else None,
        failures=[{"arm": name, **one} for name, arm in made["arms"].items() for one in arm["failed"]],
        plots=_plots(made, classes, names) if first else [],
        pairs=faceoff.pairs(made, names),
        forest=_forest(made, names),
        heat=faceoff.heat(made, names),
        budget=[_budget(made, name, classes[name]) for name in classes],
        recipe=recipe,
    )


def classes_of(made: Mapping[str, Any]) -> dict[str, str]:
    """Every arm with its colour, the best first and those without a score last; the baseline has its own, and nobody
    that of the teacher."""
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    scored = {name: arm["metrics"][test][metric]["mean"] for name, arm in made["arms"].items() if test in arm["metrics"]}
    order = sorted(made["arms"], key=lambda name: (name not in scored, -sign_of(metric) * scored.get(name, 0.0), name))
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
    row = faceoff.pair(made, name, made["baseline"])
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


def _plots(made: Mapping[str, Any], classes: Mapping[str, str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Quality against latency, against size, and over what was spent."""
    metric = made["headline"]["metric"]
    better = "down" if metric in LOWER_IS_BETTER else "up"
    note = f"{better} and left is better; the line is the front of those whom nobody beats in both"
    found = [
        {"title": "Quality against latency", "note": note,
         "chart": faceoff.front(made, names, classes, cost="latency", x_name="milliseconds per batch")},
        {"title": "Quality against size", "note": note,
         "chart": faceoff.front(made, names, classes, cost="size", x_name="MB on disk")},
    ]  # fmt: skip
    series = {name: [tuple(point) for point in made["arms"][name]["curve"]] for name in names}
    series = {name: points for name, points in series.items() if points}
    if series:
        said = f"{DISPLAY.get(made['task']['select'], made['task']['select'])} on held-out rows over what was spent."
        chart = charts.curves(
            series, label=said, classes=classes, x_name=made["budget"]["unit"], marks_on=True, height=230
        )
        note = "first seed, on held-out rows; a line begins where the stages before it have spent their part"
        found.append({"title": "Quality over cost", "note": note, "chart": chart})
    return found


def _forest(made: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Every arm's difference to the baseline with its interval; None where there is no other arm or no interval."""
    metric, rows = made["headline"]["metric"], []
    for name in names:
        row = faceoff.pair(made, name, made["baseline"])
        if row is None or row["low"] is None:
            continue
        shown = plain(row["difference"], metric, sign=True)
        interval = f"95 % interval {plain(row['low'], metric)} to {plain(row['high'], metric)}"
        rows.append({
            "name": name, "value": in_points(row["difference"], metric),
            **{key: in_points(row[key], metric) for key in ("low", "high")},
            "kind": row["verdict"], "shown": shown,
            "tip": f"{name}: {shown}, {interval}; {row['verdict']}",
        })  # fmt: skip
    return charts.differences(rows, label="; ".join(row["tip"] for row in rows)) if rows else None


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
