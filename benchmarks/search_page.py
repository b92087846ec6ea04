"""What docs/results.md says about architecture search, made from results/search/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kept import circumstances

from understudy.evaluate.compare import over_seeds

SIZES = ("layers", "heads", "hidden", "intermediate", "activation")


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))}
    parts = [part for part in (_table(found), _engines(found), _cache(found), _text(found), _task(found)) if part]
    if not parts:
        return []
    head = [
        "# KD-NAS: does a search find better students?",
        "",
        "Measured by `python benchmarks/search.py` (table, engines, cache) and `python benchmarks/search_live.py` (text, task);",
        "kept in `results/search/`. Teacher: all-MiniLM-L6-v2. Reward: quality times relative speed to a small power, as in",
        "[kdnas](kdnas.md).",
    ]
    return [*head, *(line for part in parts for line in ["", *part])]


def _table(found: dict[str, Any]) -> list[str]:
    if "table" not in found:
        return []
    table = found["table"]
    rows = sorted((row for row in table["rows"] if row["state"] == "complete"), key=lambda row: -row["value"])
    seconds = sum(row.get("wall_seconds") or 0.0 for row in rows)
    lines = [
        "## A table of real short distillations",
        "",
        (f"{len(rows)} architectures, each distilled on {table['passages']:,} passages of {table['length']} tokens "
        f"({seconds / 60:.0f} minutes in all)."),
        "",
        *circumstances(table),
        "",
        "| rank | layers | heads | width | inner width | activation | quality | latency (ms) | parameters (M) | reward |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    shown = [*enumerate(rows[:5], start=1), (len(rows) // 2, rows[len(rows) // 2 - 1]), (len(rows), rows[-1])]
    for rank, row in shown:
        cells = [str(rank), *(str(row[name]) for name in SIZES), f"{row['quality']:.4f}", f"{row['latency_ms']:.1f}",
                 f"{row['parameters'] / 1e6:.1f}", f"{row['value']:.4f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _engines(found: dict[str, Any]) -> list[str]:
    if "engines" not in found:
        return []
    made = found["engines"]
    trials, seeds = made["trials"], made["seeds"]
    middle = trials // 2
    lines = [
        "## Engines on that table",
        "",
        (f"{seeds} seeds, {trials} trials of {made['points']} points; median of the best reward so far, and its quartiles over "
        f"seeds. The best of all is {made['best_of_all']:.4f}. Against random: mean difference of the best so far, over the "
        "whole course, seed by seed, with a 95 % bootstrap interval."),
        "",
        f"| engine | after {middle} trials | after {trials} | best of all found | against random |",
        "|---|---|---|---|---|",
    ]
    for name, one in made["engines"].items():
        def at(trial: int, one: dict[str, Any] = one) -> str:
            return f"{one['median'][trial - 1]:.4f} ({one['low'][trial - 1]:.4f} to {one['high'][trial - 1]:.4f})"

        gain = made["against_random"].get(name)
        said = "–" if gain is None else f"{gain['gain']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
        lines.append(f"| {name} | {at(middle)} | {at(trials)} | {one['found_the_best']} of {seeds} | {said} |")
    better = [name for name, gain in made["against_random"].items() if gain["low"] > 0]
    worse = [name for name, gain in made["against_random"].items() if gain["high"] < 0]
    lines += ["", f"Better than chance at equal cost: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}."]
    return lines


def _cache(found: dict[str, Any]) -> list[str]:
    if "cache" not in found:
        return []
    made = found["cache"]
    lines = [
        "## The teacher's outputs, shared",
        "",
        (f"{made['candidates']} candidates of five epochs, batches of 32, at most 64 tokens; each once with the teacher's "
        "outputs read from disk and once with the teacher running beside it, in turns."),
        "",
        "| candidates | from disk (s) | passages the teacher read | beside each student (s) | passages | times as cheap |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in made["spaces"].items():
        seconds, read = one["seconds"], one["teacher_examples"]
        lines.append(f"| {name} | {seconds['auto']:.0f} | {read['auto']:,} | {seconds['live']:.0f} | {read['live']:,} | "
                     f"{one['times_cheaper']:.2f} |")  # fmt: skip
    return lines


def _sizes(row: dict[str, Any]) -> str:
    numbers = f"{row['layers']} layers, {row['heads']} heads, {row['hidden']} wide, {row['intermediate']} inside"
    return f"{numbers}, {row['activation']}"


def _text(found: dict[str, Any]) -> list[str]:
    students = {name: found.get(f"text-{name}") for name in ("found", "by-hand")}
    if not all(students.values()):
        return []
    glue = [record for name, record in found.items() if name.startswith("glue-")]
    tasks = sorted({record["recipe_name"] for record in glue})
    lines = [
        "## A student for any text",
        "",
        (f"A search of {len(students['found']['search']['rows'])} candidates by `{students['found']['engine']}`, then full KD; "
        "and as many of the teacher's own layers as are as fast, through the same full KD. Both fine-tuned on each task: "
        "dev score in points, mean ± deviation over seeds."),
        "",
        *circumstances(students["found"]),
        "",
        f"| student | sizes | latency (ms) | held-out loss after full KD | {' | '.join(tasks)} |",
        "|---" * (4 + len(tasks)) + "|",
    ]
    for name, record in students.items():
        row = record["winner"]
        loss = 1 - record["full_kd"]["rows"][record["full_kd"]["chosen"]]["quality"]
        cells = [name, _sizes(row), f"{row['latency_ms']:.1f}", f"{loss:.4f}"]
        for task in tasks:
            runs = [run for run in glue if run["recipe_name"] == task and run["variant"] == name]
            cells.append(_spread([_score(run) for run in runs]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _score(run: dict[str, Any]) -> float:
    metrics = run["student"]["metrics"]["dev"]
    return 100 * metrics[run["task"]["select"]]["value"]


def _spread(values: list[float]) -> str:
    summary = over_seeds(values)
    return f"{summary['mean']:.1f}" + (f" ± {summary['deviation']:.1f}" if summary["deviation"] is not None else "")


def _task(found: dict[str, Any]) -> list[str]:
    students = {name: found.get(f"task-{name}") for name in ("found", "by-hand")}
    if not all(students.values()):
        return []
    limit = students["found"]["limit_ms"]
    lines = [
        "## A student for SST-2, in a third of the teacher's time",
        "",
        f"The limit is {limit:g} ms for 64 tokens on one thread. By hand: as many of the teacher's layers as are as fast.",
        "",
        *circumstances(students["found"]),
        "",
        "| student | sizes | latency in the search (ms) | latency of the finished student | dev accuracy | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for name, record in students.items():
        metric = record["student"]["metrics"]["dev"]["accuracy"]
        cells = [name, _sizes(record["winner"]), f"{record['winner']['latency_ms']:.2f}",
                 f"{record['student']['latency_ms']['median']:.2f}", f"{metric['value']:.3f}",
                 f"{metric['low']:.3f} to {metric['high']:.3f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    ours, theirs = (students[name]["student"]["metrics"]["dev"]["accuracy"]["value"] for name in ("found", "by-hand"))
    said = "beats" if ours > theirs else "does not beat"
    lines += ["", f"On these rows the student that was found {said} the one made by hand ({100 * (ours - theirs):+.1f} points)."]
    return lines
