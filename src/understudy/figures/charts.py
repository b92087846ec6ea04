"""The four charts that every page is made of: lines, bars, a scatter and a grid. Plain numbers in, one SVG out (see svg.py).

Colours carry one meaning through the whole page: the classes `teacher`, `baseline` and `student` for models, `s0` to `s11`
for the terms of an objective, `better`, `worse` and `tie` for verdicts. What a mark stands for is also in its `data-tip`,
which the page shows on hover and on touch. Every chart's `label` says in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from markupsafe import Markup

from understudy.figures.svg import WIDTH, Scale, dot, path, picture, rect, rule, shorten, tag, text, whisker

Bucket = tuple[float, float, float, float]
"""x, and mean, least and greatest y of the values drawn there as one."""


def line(
    series: Mapping[str, Sequence[tuple[float, ...]]],
    *,
    label: str,
    classes: Mapping[str, str],
    x_name: str = "step",
    dots: bool = False,
    stacked: bool = False,
    buckets: int = 120,
    width: float = WIDTH,
    height: float = 170,
) -> Markup:
    """Lines of (x, y) values, or of (x, y, low, high) with a band between the last two; empty where there is nothing to draw.

    Args:
        dots: mark every value.
        stacked: y are shares of a whole, drawn as areas on top of each other from 0 to 100 %.
        buckets: more values than this are drawn as the mean of each bucket, over a band of its extremes.
    """
    drawn = {name: _bucket(values, buckets) for name, values in series.items() if values}
    steps = sorted({bucket[0] for values in drawn.values() for bucket in values})
    if not steps or (stacked and len(steps) < 2):
        return Markup("")
    low = min(bucket[2] for values in drawn.values() for bucket in values)
    high = max(bucket[3] for values in drawn.values() for bucket in values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    ends = (0, 1) if stacked else (low - room if low < 0 else max(0.0, low - room), high + room)
    bottom = height - 32
    x, y = Scale(steps[0], steps[-1], 42, width - 10), Scale(*ends, bottom, 8)
    marks = _axes(x, y, bottom, x_name=x_name, height=height, percent=stacked)
    floor = dict.fromkeys(steps, 0.0)
    for name, values in drawn.items():
        kind = classes[name]
        if stacked:
            at = {bucket[0]: max(0.0, bucket[1]) for bucket in values}
            ceiling = {step: floor[step] + at.get(step, 0.0) for step in steps}
            marks.append(_between(steps, list(ceiling.values()), list(floor.values()), x, y, f"area {kind}"))
            floor = ceiling
            continue
        places, means, least, most = zip(*values, strict=True)
        if least != most:
            marks.append(_between(places, most, least, x, y, f"band {kind}"))
        if len(values) > 1:
            marks.append(path([(x(a), y(b)) for a, b in zip(places, means, strict=True)], f"curve {kind}"))
        if dots or len(values) == 1:
            marks += [dot(x(a), y(b), 3.5, f"point {kind}") for a, b in zip(places, means, strict=True)]
    marks += _hover(drawn, steps, x, bottom=bottom, x_name=x_name, percent=stacked)
    return picture(*marks, width=width, height=height, label=label)


def bar(
    rows: Sequence[Mapping[str, Any]],
    *,
    label: str,
    ends: tuple[float, float],
    mark: str = "bar",
    left: float = 130,
    right: float = 58,
    row_height: float = 26,
    ticks: int = 0,
    zero: bool = False,
    track: bool = False,
    width: float = WIDTH,
) -> Markup:
    """Rows of one name, marks on a common scale, and what is written at the right end.

    Args:
        rows: {"name", "shown", "marks": [{"value", "class", "tip"; "low" and "high" for a whisker}]}.
        ends: the least and the greatest value of the scale.
        mark: "bar" from zero; "dot" at the value, the dots of a row joined by a span; "part": the marks of a row lie end to
            end, `value` being their lengths.
        ticks: about how many values are written below, with their lines.
        zero: draw the line at zero, on whose sides differences lie.
        track: draw what the whole scale is behind each bar.
    """
    scale = Scale(*ends, left, width - right)
    bottom = row_height * len(rows)
    marks: list[Markup] = []
    for value, shown in scale.ticks(ticks) if ticks else ():
        marks += [] if zero else [rule(scale(value), 0, scale(value), bottom + 4, "rule")]
        marks.append(text(scale(value), bottom + 14, shown, anchor="middle"))
    if zero:
        marks.append(rule(scale(0), 0, scale(0), bottom + 2, "zero"))
    for place, row in enumerate(rows):
        y = row_height * (place + 0.5)
        marks.append(text(0, y, shorten(row["name"], int(left / 6)), class_="name"))
        marks.append(text(width, y, row["shown"], anchor="end", class_="value"))
        thick = min(row_height * 0.55, 26)
        if track:
            marks.append(rect(left, y - thick / 2, width - right - left, thick, "track", rx=3))
        at = [scale(one["value"]) for one in row["marks"]]
        if mark == "dot" and len(at) > 1:
            marks.append(rule(min(at), y, max(at), y, "span"))
        starts = accumulate((one["value"] for one in row["marks"]), initial=0.0) if mark == "part" else None
        for one, end in zip(row["marks"], at, strict=True):
            kind = f"interval {one['class']}" if mark == "dot" else "whisker"
            interval = whisker(scale, one.get("low"), one.get("high"), y, kind)
            if mark == "dot":
                marks += [interval, dot(end, y, 5, f"point {one['class']}", data_tip=one["tip"])]
                continue
            start = scale(next(starts) if starts else 0.0)
            length = max(0.0, scale(one["value"]) - scale(0) - 2) if starts else max(1.5, abs(end - start))
            edge = start if starts else min(start, end)
            marks += [rect(edge, y - thick / 2, length, thick, f"bar {one['class']}", rx=3, data_tip=one["tip"]), interval]
    return picture(*marks, width=width, height=bottom + (24 if ticks else 0), label=label)


def scatter(
    points: Sequence[Mapping[str, Any]],
    *,
    label: str,
    x_name: str,
    y_name: str = "",
    joined: Sequence[Mapping[str, Any]] = (),
    x_from_zero: bool = True,
    equal: bool = False,
    height: float = 230,
) -> Markup:
    """Dots at (x, y).

    Args:
        points: {"x", "y", "class", "tip"; "low" and "high" of y; "size", which the area of the dot shows; "name", written
            beside it}.
        joined: points that a line goes through, as a front does, and its class is the first one's.
        x_from_zero: the axis begins at zero rather than near the least x.
        equal: both axes have one scale, with the line on which x = y.
    """
    xs, bottom = [point["x"] for point in points], height - 34
    ys = [point[key] for point in points for key in ("y", "low", "high") if point.get(key) is not None]
    if equal:
        low, high = min(*xs, *ys), max(*xs, *ys)
        x, y = Scale(low, high, 44, WIDTH - 10), Scale(low, high, bottom, 8)
    else:
        room, aside = (max(ys) - min(ys)) * 0.12 or 0.05, (max(xs) - min(xs)) * 0.06 or 0.05
        x = Scale(0, max(xs) * 1.15, 44, WIDTH - 8) if x_from_zero else Scale(min(xs) - aside, max(xs) + aside, 52, WIDTH - 8)
        y = Scale(min(ys) - room, max(ys) + room, bottom, 18)
    marks = _axes(x, y, bottom, x_name=x_name, height=height)
    marks.append(text(0, 6, y_name))
    if equal:
        marks.append(rule(x(x.low), y(x.low), x(x.high), y(x.high), "zero"))
    if len(joined) > 1:
        edge = sorted((x(point["x"]), y(point["y"])) for point in joined)
        marks.append(path(edge, f"curve {joined[0].get('line', 'plain')}"))
    largest = max((point.get("size") or 0 for point in points), default=0) or 1
    named: list[tuple[float, float]] = []  # where names stand already: two models may be almost the same dot
    most = 9 if len(points) <= 8 else 4
    for point in sorted(points, key=lambda point: (any(point is one for one in joined), -point["y"])):
        px, py = x(point["x"]), y(point["y"])
        if point.get("low") is not None:
            marks.append(rule(px, y(point["low"]), px, y(point["high"]), f"interval {point['class']}"))
        radius = 2.5 + most * math.sqrt(point["size"] / largest) if "size" in point else 3 if equal else 6
        kind = "speck" if equal else "bubble"
        marks.append(dot(px, py, radius, f"{kind} {point['class']}", data_tip=point.get("tip")))
        if "name" not in point:
            continue
        before = px > WIDTH * 0.7
        side = px - radius - 5 if before else px + radius + 5
        while any(abs(side - other_x) < 70 and abs(py - other_y) < 13 for other_x, other_y in named):
            py += 1
        named.append((side, py))
        marks.append(text(side, py, point["name"], anchor="end" if before else "start", class_="name"))
    return picture(*marks, height=height, label=label)


def grid(
    cells: Sequence[Sequence[Mapping[str, Any] | None]],
    *,
    label: str,
    rows: Sequence[object],
    columns: Sequence[str] = (),
    tallest: float = 34,
    width: float = WIDTH,
) -> Markup:
    """Boxes in rows and columns.

    Args:
        cells: {"class", "tip"; "shade" from 0 to 1; "shown", written inside where there is room; "strong": in light letters},
            or None for a gap.
        rows: their names, at the left.
        columns: their names, at the top: in up to two lines where they fit, else slanted.
    """
    number = max(len(row) for row in cells)
    left = 10 + 6.4 * max((len(shorten(name, 16)) for name in rows), default=0)
    cell = (width - left) / number
    fits = all(len(part) * 6.4 <= cell for name in columns for part in name.split("\n"))
    if columns and not fits:
        cell = (width - left - 14) / number  # room for the last slanted name
    top = 0.0 if not columns else 18.0 * max(name.count("\n") + 1 for name in columns) if fits else 14 + left * 0.7
    tall = min(cell, tallest)
    marks: list[Markup] = []
    for column, name in enumerate(columns):
        middle = left + (column + 0.5) * cell
        if fits:
            lines = name.split("\n")
            marks += [text(middle, 8 + 18 * at, part, anchor="middle", class_="name") for at, part in enumerate(lines)]
        else:
            marks.append(text(middle, top - 7, shorten(name.replace("\n", " "), 16), class_="name", turn=-45))
    for number_of_row, (name, row) in enumerate(zip(rows, cells, strict=True)):
        y = top + number_of_row * tall
        marks.append(text(left - 6, y + tall / 2, shorten(name, 16), anchor="end", class_="name"))
        for column, one in enumerate(row):
            if one is None:
                continue
            x, gap = left + column * cell, min(1.5, cell / 5)
            shape = {"rx": 2, "fill_opacity": one.get("shade"), "data_tip": one["tip"]}
            marks.append(rect(x + gap / 2, y + gap / 2, cell - gap, tall - gap, f"cell {one['class']}", **shape))
            shown = str(one.get("shown", ""))
            if shown and len(shown) * 7 <= cell:
                strong = "count strong" if one.get("strong") else "count"
                marks.append(text(x + cell / 2, y + tall / 2, shown, anchor="middle", class_=strong))
    return picture(*marks, width=width, height=top + tall * len(cells) + 2, label=label)


# --- what they share -----------------------------------------------------------------------------------------------


def values_of(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Every value and every end of a whisker in rows as `bar` has them: what its scale must hold."""
    marks = [one for row in rows for one in row["marks"]]
    return [one[key] for one in marks for key in ("value", "low", "high") if one.get(key) is not None]


def _axes(x: Scale, y: Scale, bottom: float, *, x_name: str, height: float, percent: bool = False) -> list[Markup]:
    """The name of what runs to the right, round values and their lines."""
    marks = [text((x.start + x.end) / 2, height - 6, x_name, anchor="middle", class_="axis title")]
    for value, shown in y.ticks(4):
        shown = f"{value * 100:.0f} %" if percent else shown
        marks += [rule(x.start, y(value), x.end, y(value), "rule"), text(x.start - 6, y(value), shown, anchor="end")]
    return marks + [text(x(value), bottom + 11, shown, anchor="middle") for value, shown in x.ticks(4)]


def _between(xs: Sequence[float], upper: Sequence[float], lower: Sequence[float], x: Scale, y: Scale, kind: str) -> Markup:
    """The area between two lines over the same places."""
    there = [(x(at), y(value)) for at, value in zip(xs, upper, strict=True)]
    back = [(x(at), y(value)) for at, value in zip(xs, lower, strict=True)]
    return path([*there, *back[::-1]], kind, closed=True)


def _bucket(values: Sequence[tuple[float, ...]], buckets: int) -> list[Bucket]:
    """(x, y) or (x, y, low, high) values -> at most `buckets` of them, in order, each at its last x."""
    size = max(1, math.ceil(len(values) / buckets))
    found = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        ys = [value[1] for value in part]
        ends = [each for value in part for each in value[1:]]
        found.append((part[-1][0], sum(ys) / len(ys), min(ends), max(ends)))
    return found


def _hover(
    drawn: Mapping[str, Sequence[Bucket]], steps: Sequence[float], x: Scale, *, bottom: float, x_name: str, percent: bool
) -> list[Markup]:
    """Invisible columns that say what every line is at, under the pointer."""
    at: dict[float, list[str]] = {step: [] for step in steps}
    for name, values in drawn.items():
        for step, mean, *_ in values:
            at[step].append(f"{name} {mean * 100:.0f} %" if percent else f"{name} {mean:.4g}")
    edges = [x.start, *((x(a) + x(b)) / 2 for a, b in pairwise(steps)), x.end]
    return [
        tag("rect", x=left, y=8, width=max(0.1, right - left), height=bottom - 8, class_="hit",
            data_tip=f"{x_name} {step:g}: " + " · ".join(at[step]))
        for step, (left, right) in zip(steps, pairwise(edges), strict=True)
    ]  # fmt: skip
