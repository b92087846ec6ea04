"""The search for an architecture: the front of quality, latency and size, the best so far, what mattered, and whether the
short distillations told the truth about the long ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.methods.kdnas.pareto import ranked, trained
from understudy.report import charts
from understudy.report.svg import WIDTH, Scale, dot, line, path, picture, rect, text
from understudy.report.words import milliseconds, short


def search(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section from what a run kept under `search` and `full-kd`; None where nothing was searched."""
    found = kept.get("search")
    if found is None:
        return None
    rows = trained(found["rows"])
    if not rows:
        return None
    full = kept.get("full-kd", {}).get("rows", [])
    return {
        "front": pareto(rows, found["front"]),
        "best": best_so_far({found["engine"]: found["rows"]}),
        "importance": importance(found["importance"]),
        "agreement": agreement(full),
        "lines": _sentences(found, rows, full),
        "table": [
            _line(row, rank, on_front=row["point"] in found["front"])
            for rank, row in enumerate(ranked(rows), start=1)
            if rank <= 10 or row["point"] in found["front"]
        ],
    }


def pareto(rows: Sequence[Mapping[str, Any]], front: Sequence[int]) -> Markup:
    """Quality (up) against latency (right), the area of a dot being the parameters; who is beaten by nobody stands out."""
    height, bottom, top = 240.0, 34.0, 16.0
    ys, xs = [row["quality"] for row in rows], [row["latency_ms"] for row in rows]
    margin = (max(ys) - min(ys)) * 0.1 or 0.05
    x = Scale(0, max(xs) * 1.1, 44, WIDTH - 10)
    y = Scale(min(ys) - margin, max(ys) + margin, height - bottom, top)
    marks = charts.axes(x, y, height - bottom, x_name="milliseconds", height=height)
    largest = max(row["parameters"] for row in rows)
    edge = sorted((row for row in rows if row["point"] in front), key=lambda row: row["latency_ms"])
    if len(edge) > 1:
        marks.append(path([(x(row["latency_ms"]), y(row["quality"])) for row in edge], "curve student"))
    for row in sorted(rows, key=lambda row: row["point"] in front):
        radius = 2.5 + 5 * math.sqrt(row["parameters"] / largest)
        kind = "student" if row["point"] in front else "baseline"
        marks.append(dot(x(row["latency_ms"]), y(row["quality"]), radius, f"bubble {kind}", data_tip=_tip(row)))
    return picture(*marks, height=height, label=f"Quality against latency of {len(rows)} candidates, {len(edge)} on the front.")


def best_so_far(engines: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    """The best reward so far over the seconds spent, a line for each engine; rows in the order they ended."""
    series = {}
    for name, rows in engines.items():
        spent, best, curve = 0.0, float("-inf"), []
        for row in sorted(rows, key=lambda row: row["finished"]):
            spent += row.get("wall_seconds") or row["seconds"] or 0.0
            if row["state"] == "complete":
                best = max(best, row["value"])
            if best > float("-inf"):
                curve.append((spent, best))
        series[name] = curve
    classes = {name: "student" if place == 0 else f"s{place}" for place, name in enumerate(series)}
    return charts.curves(series, label="Best reward so far over cost.", classes=classes, x_name="seconds of the search")


def importance(shares: Mapping[str, float]) -> Markup | None:
    """A bar for each dimension: its share in the variance of the reward."""
    if not shares:
        return None
    scale = Scale(0, max(shares.values()) or 1, 110, WIDTH - 46)
    marks: list[Markup] = []
    for place, (name, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1])):
        y = 24 * place + 12
        marks += [
            text(0, y, name, class_="name"),
            rect(110, y - 6, max(1.5, scale(share) - 110), 12, "bar plain", rx=3),
            text(WIDTH, y, f"{share * 100:.0f} %", anchor="end", class_="value"),
        ]
    said = "; ".join(f"{name} {share * 100:.0f} %" for name, share in shares.items())
    return picture(*marks, height=24 * len(shares), label=f"Share in the variance of the reward: {said}")


def agreement(full: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Quality after full KD (up) against that after mini-KD (right)."""
    if len(full) < 3:
        return None
    height = 200.0
    x = Scale(min(r["mini_quality"] for r in full), max(r["mini_quality"] for r in full), 52, WIDTH - 16)
    y = Scale(min(r["quality"] for r in full), max(r["quality"] for r in full), height - 40, 14)
    marks: list[Markup] = [text((x.start + x.end) / 2, height - 6, "after mini-KD", anchor="middle", class_="axis title")]
    for value, shown in y.ticks(3):
        marks += [line(x.start - 6, y(value), x.end, y(value), "rule"), text(x.start - 10, y(value), shown, anchor="end")]
    marks += [text(x(value), height - 24, shown, anchor="middle") for value, shown in x.ticks(3)]
    for row in full:
        tip = f"{row['step']}: {row['mini_quality']:.4f} after mini-KD, {row['quality']:.4f} after full KD"
        marks.append(dot(x(row["mini_quality"]), y(row["quality"]), 5, "point student", data_tip=tip))
    return picture(*marks, height=height, label=f"Quality of {len(full)} candidates after mini-KD and after full KD.")


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where everything is tied.

    >>> rank_correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    0.3333333333333333
    """
    signs = [
        ((one[i] > one[j]) - (one[i] < one[j]), (other[i] > other[j]) - (other[i] < other[j]))
        for i in range(len(one))
        for j in range(i)
    ]
    untied = [sum(a != 0 for a, _ in signs), sum(b != 0 for _, b in signs)]
    return sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1]) if all(untied) else None


def _sentences(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]]) -> list[str]:
    count = {state: sum(row["state"] == state for row in found["rows"]) for state in ("failed", "stopped")}
    slow = sum(bool(row.get("over_budget")) for row in found["rows"])
    lines = [found["space"]["text"], f"{len(rows)} of them were tried to the end by the engine '{found['engine']}'."]
    lines += [f"{count['stopped']} were stopped early."] if count["stopped"] else []
    lines += [f"{slow} were slower than the budget and not trained."] if slow else []
    lines += [f"{count['failed']} failed: {_first_error(found['rows'])}"] if count["failed"] else []
    if len(full) >= 3:
        tau = rank_correlation([r["mini_quality"] for r in full], [r["quality"] for r in full])
        said = "cannot be told" if tau is None else f"is {tau:.2f} (Kendall's tau)"
        lines.append(f"The rank correlation of mini-KD and full KD over {len(full)} candidates {said}.")
    return lines


def _first_error(rows: Sequence[Mapping[str, Any]]) -> str:
    return next(str(row["error"]) for row in rows if row["error"])


def _line(row: Mapping[str, Any], rank: int, *, on_front: bool) -> dict[str, Any]:
    return {
        "rank": rank,
        "name": _architecture(row),
        "parameters": short(row["parameters"]),
        "latency": milliseconds(row["latency_ms"]),
        "quality": f"{row['quality']:.4f}",
        "reward": f"{row['value']:.4f}",
        "on_front": on_front,
    }


def _architecture(row: Mapping[str, Any]) -> str:
    return f"{row['layers']} layers, {row['heads']} heads, {row['hidden']}/{row['intermediate']}, {row['activation']}"


def _tip(row: Mapping[str, Any]) -> str:
    cost = f"{milliseconds(row['latency_ms'])}, {short(row['parameters'])} parameters"
    return f"{_architecture(row)}: quality {row['quality']:.4f}, {cost}, reward {row['value']:.4f}"
