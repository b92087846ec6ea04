"""The pictures of a comparison: fronts of quality and cost, who beats whom, and every metric at a glance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.data.types import sign_of
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.verdict import plain, score
from understudy.report.charts import axes
from understudy.report.svg import WIDTH, Scale, dot, line, path, picture, rect, shorten, text
from understudy.report.words import megabytes, milliseconds, short


def pair(made: Mapping[str, Any], one: str, other: str, test: str | None = None, metric: str | None = None) -> Any:
    """The comparison of two arms on a metric (the headline's), as seen from the first; None where there is none."""
    test, metric = test or made["headline"]["test"], metric or made["headline"]["metric"]
    for row in made["comparisons"]:
        if (row["test"], row["metric"]) == (test, metric):
            if (row["one"], row["other"]) == (one, other):
                return row
            if (row["one"], row["other"]) == (other, one):
                return _turned(row)
    return None


def _turned(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = (None if row[key] is None else -row[key] for key in ("high", "low"))
    words = {"better": "worse", "worse": "better", "tie": "tie"}[row["verdict"]]
    return {**row, "one": row["other"], "other": row["one"], "difference": -row["difference"], "low": low, "high": high,
            "verdict": words}  # fmt: skip


def front(
    made: Mapping[str, Any], names: Sequence[str], classes: Mapping[str, str], *, cost: str, x_name: str
) -> Markup:
    """Quality (up) with its interval against latency or size (right), teacher included; the arms of the front are joined."""
    height, bottom, top = 250.0, 34.0, 18.0
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    points = [_point(name, classes[name], made["arms"][name], test, metric, cost) for name in names]
    teacher = made["teacher"]
    if teacher and teacher["latency_ms"] and metric in teacher["metrics"].get(test, {}):
        value = teacher["metrics"][test][metric]
        about = {"mean": value, "low": None, "high": None, "deviation": None}
        points.append(_point("teacher", "teacher", {**teacher, "metrics": {test: {metric: about}}}, test, metric, cost))
    ys = [point[key] for point in points for key in ("y", "low", "high") if point[key] is not None]
    room = (max(ys) - min(ys)) * 0.08 or 0.05
    x = Scale(0, max(point["x"] for point in points) * 1.15, 44, WIDTH - 8)
    y = Scale(min(ys) - room, max(ys) + room, height - bottom, top)
    marks = axes(x, y, height - bottom, x_name=x_name, height=height)
    marks.append(text(0, 6, f"{DISPLAY.get(metric, metric)} · {shorten(test, 24)}"))
    edge = sorted((point for point in points if point["name"] in made["fronts"][cost]), key=lambda point: point["x"])
    if len(edge) > 1:
        marks.append(path([(x(point["x"]), y(point["y"])) for point in edge], "curve plain"))
    for point in points:
        px = x(point["x"])
        if point["low"] is not None:
            marks.append(line(px, y(point["low"]), px, y(point["high"]), f"interval {point['class']}"))
        marks.append(dot(px, y(point["y"]), 6.5, f"bubble {point['class']}", data_tip=point["tip"]))
    said = "; ".join(point["tip"] for point in points)
    return picture(*marks, height=height, label=f"{DISPLAY.get(metric, metric)} against {x_name}. {said}")


def _point(name: str, colour: str, arm: Mapping[str, Any], test: str, metric: str, cost: str) -> dict[str, Any]:
    one = arm["metrics"][test][metric]
    cheap = f"{milliseconds(arm['latency_ms']['median'])}, {megabytes(arm['size_mb'])}, {short(arm['num_parameters'])} parameters"
    return {
        "name": name,
        "class": colour,
        "x": arm["latency_ms"]["median"] if cost == "latency" else arm["size_mb"],
        "y": one["mean"],
        "low": one["low"],
        "high": one["high"],
        "tip": f"{name}: {score(one['mean'])}, {cheap}",
    }


def pairs(made: Mapping[str, Any], names: Sequence[str]) -> Markup:
    """A square of differences, row minus column: green where the row is better, red where it is worse, grey for ties."""
    if len(names) < 2:
        return Markup("")
    metric = made["headline"]["metric"]
    left = 12 + 6.4 * max(len(shorten(name, 13)) for name in names)
    top = left * 0.72 + 8
    cell = (WIDTH - left - 12) / len(names)
    tall = min(cell, 34.0)
    marks: list[Markup] = []
    for row, one in enumerate(names):
        y = top + row * tall
        marks.append(text(left - 6, y + tall / 2, shorten(one, 13), anchor="end", class_="name"))
        marks.append(text(left + (row + 0.5) * cell, top - 7, shorten(one, 13), class_="name", turn=-45))
        for column, other in enumerate(names):
            found = None if one == other else pair(made, one, other)
            if found is None:
                continue
            shown, x = plain(found["difference"], metric, sign=True), left + column * cell
            strong = found["verdict"] != "tie"
            tip = f"{one} − {other}: {shown}, p {found['p_holm']:.2g} after correction: {found['verdict']}"
            shape = {"rx": 2, "fill_opacity": 0.75 if strong else 0.14, "data_tip": tip}
            marks.append(rect(x + 0.75, y + 0.75, cell - 1.5, tall - 1.5, f"cell {found['verdict']}", **shape))
            if cell >= 31:
                size = "count strong" if strong else "count"
                marks.append(text(x + cell / 2, y + tall / 2, shown, anchor="middle", class_=size))
    return picture(*marks, height=top + tall * len(names) + 4, label=f"Differences between {len(names)} arms, row minus column.")


def heat(made: Mapping[str, Any], names: Sequence[str]) -> Markup | None:
    """Arms down, every metric of every test set across; None where there is only one. Shades are within a column."""
    columns = [(test, metric) for test in made["task"]["tests"] for metric in made["task"]["metrics"]]
    if len(columns) < 2 or not names:
        return None
    left, top, tall = 120.0, 62.0, 26.0
    cell = max(58.0, (720 - left) / len(columns))
    marks: list[Markup] = []
    for column, (test, metric) in enumerate(columns):
        x = left + column * cell
        marks += [
            text(x + cell / 2, 16, shorten(test, int(cell / 6.5)), anchor="middle", class_="axis"),
            text(x + cell / 2, 36, shorten(DISPLAY.get(metric, metric), int(cell / 6.5)), anchor="middle", class_="name"),
        ]
        scored = {name: made["arms"][name]["metrics"] for name in names if test in made["arms"][name]["metrics"]}
        means = {name: one[test][metric]["mean"] for name, one in scored.items()}
        sign = sign_of(metric)
        low, high = min(sign * value for value in means.values()), max(sign * value for value in means.values())
        for row, (name, value) in enumerate(means.items()):
            share = (sign * value - low) / (high - low) if high > low else 0.5
            met = [pair(made, name, other, test, metric) for other in means if other != name]
            beaten = any(one["verdict"] == "worse" for one in met if one)
            tip = f"{name}, {DISPLAY.get(metric, metric)} on {test}: {score(value)}{'' if beaten else '; no other arm is better'}"
            shape = {"rx": 2, "fill_opacity": round(0.06 + 0.8 * share, 3), "data_tip": tip}
            y = top + row * tall
            marks.append(rect(x + 1, y + 1, cell - 2, tall - 2, "cell s0", **shape))
            strong = "count strong" if share > 0.55 else "count"
            shown = score(value) + ("" if beaten else " ·")
            marks.append(text(x + cell / 2, y + tall / 2, shown, anchor="middle", class_=strong))
    marks += [text(0, top + (row + 0.5) * tall, shorten(name, 18), class_="name") for row, name in enumerate(names)]
    width = max(720.0, math.ceil(left + cell * len(columns)))
    return picture(*marks, height=top + tall * len(names) + 4, width=width, label=f"Every metric of {len(names)} arms.")
