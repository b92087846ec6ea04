"""The search for an architecture: the front of quality, latency and size, the best so far, what mattered, and whether the
short distillations told the truth about the long ones; and what of it stands in result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy import figures
from understudy.figures import charts, panel, table
from understudy.figures.words import milliseconds, percent, short
from understudy.methods.kdnas.reward import ranked, trained
from understudy.methods.kdnas.space import DIMENSIONS


def section(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section from what a run kept under `search` and `full-kd`; None where nothing was searched."""
    found = kept.get("search")
    rows = trained(found["rows"]) if found else []
    if not found or not rows:
        return None
    full = kept.get("full-kd", {}).get("rows", [])
    best = [
        [rank, architecture(row), short(row["parameters"]), milliseconds(row["latency_ms"]), f"{row['quality']:.4f}",
         f"{row['value']:.4f}", "yes" if row["point"] in found["front"] else ""]
        for rank, row in enumerate(ranked(rows), start=1)
        if rank <= 10 or row["point"] in found["front"]
    ]  # fmt: skip
    front = "each dot a candidate, its area the parameters; the line joins those that no other beats in all three"
    return figures.section(
        "search",
        "How the student was found",
        panels=[
            panel("Quality against latency", pareto(rows, found["front"]), front),
            panel("Best reward so far", best_so_far({found["engine"]: found["rows"]})),
            panel("What mattered", importance(found["importance"]), "share in the variance of the reward"),
            panel("Short against thorough distillation", agreement(full), "quality of the best candidates"),
        ],
        tables=[table(["rank", "architecture", "parameters", "latency", "quality", "reward", "on the front"], best)],
        lines=_sentences(found, rows, full),
    )


def pareto(rows: Sequence[Mapping[str, Any]], front: Sequence[int]) -> Markup:
    """Quality (up) against latency (right), the area of a dot being the parameters; the front stands out."""
    points = [
        {"x": row["latency_ms"], "y": row["quality"], "size": row["parameters"], "tip": _tip(row), "line": "student",
         "class": "student" if row["point"] in front else "baseline", "front": row["point"] in front}
        for row in rows
    ]  # fmt: skip
    edge = [point for point in points if point["front"]]
    label = f"Quality against latency of {len(rows)} candidates, {len(edge)} on the front."
    return charts.scatter(points, label=label, x_name="milliseconds", joined=edge)


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
    return charts.line(series, label="Best reward so far over cost.", classes=classes, x_name="seconds of the search")


def importance(shares: Mapping[str, float]) -> Markup | None:
    """A bar for each dimension: its share in the variance of the reward."""
    if not shares:
        return None
    rows = [
        {"name": name, "shown": percent(share), "marks": [{"value": share, "class": "plain", "tip": f"{name}: {percent(share)}"}]}
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
    ]
    said = "; ".join(f"{row['name']} {row['shown']}" for row in rows)
    return charts.bar(rows, label=f"Share in the variance of the reward: {said}", ends=(0, max(shares.values()) or 1))


def agreement(full: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Quality after full KD (up) against that after mini-KD (right)."""
    if len(full) < 3:
        return None
    points = [
        {"x": row["mini_quality"], "y": row["quality"], "class": "student",
         "tip": f"{row['step']}: {row['mini_quality']:.4f} after mini-KD, {row['quality']:.4f} after full KD"}
        for row in full
    ]  # fmt: skip
    label = f"Quality of {len(full)} candidates after mini-KD and after full KD."
    return charts.scatter(points, label=label, x_name="after mini-KD", y_name="after full KD", x_from_zero=False, height=200)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where everything is tied.

    >>> round(rank_correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), 3)
    0.333
    """
    from scipy.stats import kendalltau

    tau: Any = kendalltau(one, other)
    return float(tau.statistic) if tau.statistic == tau.statistic else None  # NaN where one side is constant


def _sentences(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]]) -> list[str]:
    count = {state: sum(row["state"] == state for row in found["rows"]) for state in ("failed", "stopped")}
    slow = sum(bool(row.get("over_budget")) for row in found["rows"])
    lines = [found["space"]["text"], f"{len(rows)} of them were tried to the end by the engine '{found['engine']}'."]
    lines += [f"{count['stopped']} were stopped early."] if count["stopped"] else []
    lines += [f"{slow} were slower than the budget and not trained."] if slow else []
    if count["failed"]:
        first = next(str(row["error"]) for row in found["rows"] if row["error"])
        lines.append(f"{count['failed']} failed: {first}")
    if len(full) >= 3:
        tau = rank_correlation([r["mini_quality"] for r in full], [r["quality"] for r in full])
        said = "cannot be told" if tau is None else f"is {tau:.2f} (Kendall's tau)"
        lines.append(f"The rank correlation of mini-KD and full KD over {len(full)} candidates {said}.")
    return lines


def architecture(row: Mapping[str, Any]) -> str:
    """The sizes of a candidate in one phrase."""
    return f"{row['layers']} layers, {row['heads']} heads, {row['hidden']}/{row['intermediate']}, {row['activation']}"


def _tip(row: Mapping[str, Any]) -> str:
    cost = f"{milliseconds(row['latency_ms'])}, {short(row['parameters'])} parameters"
    return f"{architecture(row)}: quality {row['quality']:.4f}, {cost}, reward {row['value']:.4f}"


def search_result(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A finished search as result.json has it, from what the run kept: the front of quality, latency and size."""
    found, full = kept["search"], kept["full-kd"]
    rows = {row["point"]: row for row in found["rows"]}

    def one(point: int) -> dict[str, Any]:
        row = rows[point]
        return {name: row[name] for name in (*DIMENSIONS, "quality", "latency_ms", "parameters")} | {"reward": row["value"]}

    return {
        "engine": found["engine"],
        "architectures": found["space"]["points"],
        "tried": len(found["rows"]),
        "chosen": one(full["rows"][full["chosen"]]["point"]),
        "front": [one(point) for point in found["front"]],
    }
