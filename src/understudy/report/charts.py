"""The charts of the report. Each takes plain numbers and returns one SVG (see svg.py).

Colours carry one meaning through the whole page: the classes `teacher`, `baseline` and `student` for models, `s0` to
`s7` for the terms of an objective. What a mark stands for is also in its `data-tip`, which the page shows on hover.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from understudy.report.svg import WIDTH, Scale, dot, line, path, picture, rect, shorten, tag, text, whisker

LEFT = 74  # room for names of models and steps
ROW = 30


def score_bars(rows: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """Horizontal bars from zero with interval whiskers; rows of {"model", "value", "low", "high", "shown", "tip"}."""
    ends = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    # Scores up to 1 share one scale, so that bars can be compared from chart to chart.
    top = 1.0 if max(ends) <= 1 else max(ends) * 1.05
    scale = Scale(min(0.0, *ends), top, LEFT, WIDTH - 58)
    marks: list[Markup] = []
    for place, row in enumerate(rows):
        y = ROW * place + ROW / 2
        zero, end = scale(0), scale(row["value"])
        marks += [
            text(0, y, row["model"], class_="name"),
            rect(LEFT, y - 8, WIDTH - 58 - LEFT, 16, "track", rx=3),
            rect(min(zero, end), y - 8, abs(end - zero), 16, f"bar {row['model']}", rx=3, data_tip=row["tip"]),
            whisker(scale, row["low"], row["high"], y, "whisker"),
            text(WIDTH, y, row["shown"], anchor="end", class_="value"),
        ]
    return picture(*marks, height=ROW * len(rows), label=label)


def differences(rows: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """A forest plot: differences with intervals around a line at zero; rows of {"name", "value", "low", "high", ...}.

    `kind` ("better", "worse", "tie") colours a row.
    """
    ends = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    room = (max(0.0, *ends) - min(0.0, *ends)) * 0.12 or 1.0
    scale = Scale(min(0.0, *ends) - room, max(0.0, *ends) + room, 130, WIDTH - 46)
    height = 26 * len(rows) + 24
    marks = [line(scale(0), 0, scale(0), height - 22, "zero")]
    marks += [text(scale(value), height - 10, shown, anchor="middle") for value, shown in scale.ticks(3)]
    for place, row in enumerate(rows):
        y = 26 * place + 13
        marks += [
            text(0, y, shorten(row["name"], 22), class_="name"),
            whisker(scale, row["low"], row["high"], y, f"interval {row['kind']}"),
            dot(scale(row["value"]), y, 5, f"point {row['kind']}", data_tip=row["tip"]),
            text(WIDTH, y, row["shown"], anchor="end", class_="value"),
        ]
    return picture(*marks, height=height, label=label)


def quality_against_time(points: Sequence[Mapping[str, Any]], *, x_name: str, y_name: str, label: str) -> Markup:
    """Score (up) against latency (right), the area of a dot being the model's size.

    Points are {"model", "x", "y", "low", "high", "size", "tip"}.
    """
    height, bottom, top = 230, 34, 18
    ys = [point[key] for point in points for key in ("y", "low", "high") if point[key] is not None]
    margin = (max(ys) - min(ys)) * 0.15 or 0.05
    x = Scale(0, max(point["x"] for point in points) * 1.15, 44, WIDTH - 8)
    y = Scale(min(ys) - margin, max(ys) + margin, height - bottom, top)
    marks = axes(x, y, height - bottom, x_name=x_name, height=height)
    marks.append(text(0, 6, y_name, class_="axis"))
    largest = max(point["size"] for point in points) or 1
    named: list[tuple[float, float]] = []  # where names stand already: two models may be almost the same dot
    for point in sorted(points, key=lambda point: -point["y"]):
        px, py = x(point["x"]), y(point["y"])
        if point["low"] is not None:
            marks.append(line(px, y(point["low"]), px, y(point["high"]), f"interval {point['model']}"))
        radius = 4 + 10 * math.sqrt(point["size"] / largest)
        marks.append(dot(px, py, radius, f"bubble {point['model']}", data_tip=point["tip"]))
        before = px > WIDTH * 0.7
        side = px - radius - 5 if before else px + radius + 5
        line_height = 13
        name_y = py
        while any(abs(side - other_x) < 70 and abs(name_y - other_y) < line_height for other_x, other_y in named):
            name_y += 1
        named.append((side, name_y))
        marks.append(text(side, name_y, point["model"], anchor="end" if before else "start", class_="name"))
    return picture(*marks, height=height, label=label)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str,
    classes: Mapping[str, str],
    x_name: str = "step",
    points: int = 120,
    marks_on: bool = False,
    height: float = 170,
) -> Markup:
    """Lines over steps. More than `points` values are drawn as the mean of each bucket over a band of its extremes."""
    bucketed = {name: _bucket(values, points) for name, values in series.items() if values}
    everything = [bucket for values in bucketed.values() for bucket in values]
    if not everything:
        return Markup("")
    low, high = min(bucket[2] for bucket in everything), max(bucket[3] for bucket in everything)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    x = Scale(min(bucket[0] for bucket in everything), max(bucket[0] for bucket in everything), 42, WIDTH - 10)
    y = Scale(low - room if low < 0 else max(0.0, low - room), high + room, height - 32, 8)
    marks = axes(x, y, height - 32, x_name=x_name, height=height)
    for name, values in bucketed.items():
        if any(bucket[2] < bucket[3] for bucket in values):
            edge = [(x(at), y(most)) for at, _, _, most in values] + [
                (x(at), y(least)) for at, _, least, _ in values[::-1]
            ]
            marks.append(path(edge, f"band {classes[name]}", closed=True))
        if len(values) > 1:
            marks.append(path([(x(at), y(mean)) for at, mean, _, _ in values], f"curve {classes[name]}"))
        if marks_on or len(values) == 1:
            marks += [dot(x(at), y(mean), 3.5, f"point {classes[name]}") for at, mean, _, _ in values]
    marks += _hover(bucketed, x, bottom=height - 32, x_name=x_name)
    return picture(*marks, height=height, label=label)


def shares(series: Mapping[str, Sequence[tuple[float, float]]], *, label: str, classes: Mapping[str, str]) -> Markup:
    """Stacked areas of what each term contributes to the loss, from nothing to all of it."""
    height = 170.0
    bucketed = {name: _bucket(values, 120) for name, values in series.items() if values}
    steps = sorted({bucket[0] for values in bucketed.values() for bucket in values})
    if len(steps) < 2:
        return Markup("")
    x, y = Scale(steps[0], steps[-1], 42, WIDTH - 10), Scale(0, 1, height - 32, 8)
    at = {name: {bucket[0]: max(0.0, bucket[1]) for bucket in values} for name, values in bucketed.items()}
    floor = dict.fromkeys(steps, 0.0)
    marks = axes(x, y, height - 32, x_name="step", height=height, percent=True)
    for name, share in at.items():
        ceiling = {step: floor[step] + share.get(step, 0.0) for step in steps}
        edge = [(x(step), y(ceiling[step])) for step in steps] + [(x(step), y(floor[step])) for step in steps[::-1]]
        marks.append(path(edge, f"area {classes[name]}", closed=True))
        floor = ceiling
    marks += _hover(bucketed, x, bottom=height - 32, x_name="step", percent=True)
    return picture(*marks, height=height, label=label)


def heat_map(matrix: Sequence[Sequence[int]], labels: Sequence[str], *, model: str, label: str) -> Markup:
    """A confusion matrix: rows are the truth, columns what the model said, shade the share of the row."""
    size = len(labels)
    widest = max(len(shorten(one, 14)) for one in labels)
    left = 10 + 6.2 * widest
    top = left * 0.75 + 4 if size > 3 else 18.0
    cell = (WIDTH - left - (14 if size > 3 else 0)) / size
    tall = min(cell, 44.0) if size <= 4 else cell
    marks: list[Markup] = []
    for row, name in enumerate(labels):
        total = sum(matrix[row])
        y = top + row * tall
        marks.append(text(left - 6, y + tall / 2, shorten(name, 14), anchor="end", class_="name"))
        if size > 3:
            marks.append(text(left + (row + 0.5) * cell, top - 7, shorten(name, 14), class_="name", turn=-45))
        else:
            marks.append(text(left + (row + 0.5) * cell, 8, shorten(name, 14), anchor="middle", class_="name"))
        for column, count in enumerate(matrix[row]):
            share = count / total if total else 0.0
            tip = f"{name} called {labels[column]}: {count} of {total}"
            x = left + column * cell
            shape = {"rx": 2, "fill_opacity": round(0.06 + 0.9 * share, 3), "data_tip": tip}
            marks.append(rect(x + 0.75, y + 0.75, cell - 1.5, tall - 1.5, f"cell {model}", **shape))
            if size <= 8:
                strong = "count strong" if share > 0.5 else "count"
                marks.append(text(x + cell / 2, y + tall / 2, count, anchor="middle", class_=strong))
    return picture(*marks, height=top + tall * size + 2, label=label)


def class_dots(rows: Sequence[Mapping[str, Any]], models: Sequence[str], *, label: str) -> Markup:
    """One row per class, one dot per model on a scale up to 1; the number at the right is how often it occurs."""
    least = min(row[model] for row in rows for model in models)
    x = Scale(max(0.0, math.floor(least * 10 - 0.2) / 10), 1, 122, WIDTH - 40)
    height = 22 * len(rows) + 24
    marks = []
    for value, shown in x.ticks(4):
        marks += [line(x(value), 0, x(value), height - 20, "rule"), text(x(value), height - 9, shown, anchor="middle")]
    for place, row in enumerate(rows):
        y = 22 * place + 11
        scores = [row[model] for model in models]
        marks += [
            text(0, y, shorten(row["label"], 18), class_="name"),
            line(x(min(scores)), y, x(max(scores)), y, "span"),
            *(dot(x(row[model]), y, 4.5, f"point {model}", data_tip=row["tips"][model]) for model in models),
            text(WIDTH, y, row["support"], anchor="end"),
        ]
    return picture(*marks, height=height, label=label)


def scatter(gold: Sequence[float], said: Sequence[float], *, model: str, label: str) -> Markup:
    """Predicted (up) against true (right) values with the line on which they are equal."""
    height = 250
    both = [*gold, *said]
    low, high = min(both), max(both)
    x, y = Scale(low, high, 40, WIDTH - 10), Scale(low, high, height - 34, 8)
    marks = axes(x, y, height - 34, x_name="truth", height=height)
    marks.append(line(x(low), y(low), x(high), y(high), "zero"))
    marks += [dot(x(a), y(b), 3, f"speck {model}") for a, b in zip(gold, said, strict=True)]
    return picture(*marks, height=height, label=label)


def parts(rows: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """One bar cut into parts of a whole; rows of {"class", "count", "tip"}."""
    total = sum(row["count"] for row in rows) or 1
    marks, x = [], 0.0
    for row in rows:
        width = 720 * row["count"] / total
        marks.append(rect(x, 0, max(0.0, width - 2), 26, f"part {row['class']}", data_tip=row["tip"], rx=3))
        x += width
    return picture(*marks, height=26, width=720, label=label)


def durations(rows: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """Bars of seconds per step; rows of {"name", "seconds", "shown"}."""
    scale = Scale(0, max(row["seconds"] for row in rows) or 1, 130, WIDTH - 84)
    marks: list[Markup] = []
    for place, row in enumerate(rows):
        y = 26 * place + 13
        marks += [
            text(0, y, shorten(row["name"], 20), class_="name"),
            rect(130, y - 6, max(1.5, scale(row["seconds"]) - 130), 12, "bar plain", rx=3),
            text(WIDTH, y, row["shown"], anchor="end", class_="value"),
        ]
    return picture(*marks, height=26 * len(rows), label=label)


def axes(x: Scale, y: Scale, bottom: float, *, x_name: str, height: float, percent: bool = False) -> list[Markup]:
    """What is written and drawn around a chart: the name of what runs to the right, round values and their lines."""
    marks = [text((x.start + x.end) / 2, height - 6, x_name, anchor="middle", class_="axis title")]
    for value, shown in y.ticks(4):
        shown = f"{value * 100:.0f} %" if percent else shown
        marks += [line(x.start, y(value), x.end, y(value), "rule"), text(x.start - 6, y(value), shown, anchor="end")]
    marks += [text(x(value), bottom + 11, shown, anchor="middle") for value, shown in x.ticks(4)]
    return marks


def _bucket(values: Sequence[tuple[float, float]], buckets: int) -> list[tuple[float, float, float, float]]:
    """(x, y) values -> at most `buckets` of (last x, mean y, least y, most y), in order."""
    size = max(1, math.ceil(len(values) / buckets))
    found = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        ys = [value for _, value in part]
        found.append((part[-1][0], sum(ys) / len(ys), min(ys), max(ys)))
    return found


def _hover(
    bucketed: Mapping[str, Sequence[tuple[float, float, float, float]]],
    x: Scale,
    *,
    bottom: float,
    x_name: str,
    percent: bool = False,
) -> list[Markup]:
    """Invisible columns that say what every line is at, under the pointer."""
    at: dict[float, list[str]] = {}
    for name, values in bucketed.items():
        for step, mean, *_ in values:
            shown = f"{mean * 100:.0f} %" if percent else f"{mean:.4g}"
            at.setdefault(step, []).append(f"{name} {shown}")
    steps = sorted(at)
    if len(steps) < 2:
        return [
            rect(x.start, 8, x.end - x.start, bottom - 8, "hit", data_tip=f"{x_name} {steps[0]:g}: {at[steps[0]][0]}")
        ]
    edges = [x.start, *((x(a) + x(b)) / 2 for a, b in pairwise(steps)), x.end]
    return [
        tag("rect", x=left, y=8, width=max(0.1, right - left), height=bottom - 8, class_="hit",
            data_tip=f"{x_name} {step:g}: " + " · ".join(at[step]))
        for step, (left, right) in zip(steps, pairwise(edges), strict=True)
    ]  # fmt: skip
