"""What docs/results.md says about architecture search, made from results/search/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup
from record import Record, circumstances, difference, read, spread, table
from search import SIZES

from understudy.evaluate.bootstrap import over_seeds
from understudy.figures import charts
from understudy.figures.svg import rule, tag, text

CHART = "search-engines.svg"
"""In docs/, beside the page."""
COLOURS = {"random": ("#857f75", "#a19c94"), "tpe": ("#4c5fc4", "#8d9dff"), "evolution": ("#2f9c95", "#5fcfc7"),
           "lstm": ("#d9602a", "#ff9159")}  # fmt: skip
"""Engine -> its colour on light and on dark paper, as in reports."""


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    found = read(kept)
    parts = [part for part in (_table(found), _engines(found), _cache(found), _text(found), _task(found)) if part]
    if not parts:
        return []
    head = [
        "# KD-NAS: does a search find better students?",
        "",
        "Measured by `python benchmarks/search.py` (table, engines, cache) and `run.py` (search_text, search_task);",
        "kept in `results/search/`. Teacher: all-MiniLM-L6-v2. Reward: quality times relative speed to a small power, as in",
        "[kdnas](kdnas.md).",
    ]
    return [*head, *(line for part in parts for line in ["", *part])]


def _table(found: dict[str, Any]) -> list[str]:
    if "table" not in found:
        return []
    made = found["table"]
    rows = sorted((row for row in made["rows"] if row["state"] == "complete"), key=lambda row: -row["value"])
    seconds = sum(row.get("wall_seconds") or 0.0 for row in rows)
    shown = [*enumerate(rows[:5], start=1), (len(rows) // 2, rows[len(rows) // 2 - 1]), (len(rows), rows[-1])]
    cells = [
        [rank, *(row[name] for name in SIZES), f"{row['quality']:.4f}", f"{row['latency_ms']:.1f}",
         f"{row['parameters'] / 1e6:.1f}", f"{row['value']:.4f}"]
        for rank, row in shown
    ]  # fmt: skip
    sizes = ["layers", "heads", "width", "inner width", "activation"]
    head = ["rank", *sizes, "quality", "latency (ms)", "parameters (M)", "reward"]
    return [
        "## A table of real short distillations",
        "",
        (f"{len(rows)} architectures, each distilled on {made['passages']:,} passages of {made['length']} tokens "
        f"({seconds / 60:.0f} minutes in all)."),
        "",
        *circumstances(made),
        "",
        *table(head, cells),
    ]  # fmt: skip


def _engines(found: dict[str, Any]) -> list[str]:
    if "engines" not in found:
        return []
    made = found["engines"]
    trials, seeds = made["trials"], made["seeds"]
    middle = trials // 2
    rows = []
    for name, one in made["engines"].items():
        at = [
            f"{one['median'][trial - 1]:.4f} ({one['low'][trial - 1]:.4f} to {one['high'][trial - 1]:.4f})"
            for trial in (middle, trials)
        ]
        gain = made["against_random"].get(name)
        said = "–" if gain is None else f"{gain['gain']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
        rows.append([name, *at, f"{one['found_the_best']} of {seeds}", said])
    lines = [
        "## Engines on that table",
        "",
        (f"{seeds} seeds, {trials} trials of {made['points']} points; median of the best reward so far, and its quartiles over "
        f"seeds. The best of all is {made['best_of_all']:.4f}. Against random: mean difference of the best so far, over the "
        "whole course, seed by seed, with a 95 % bootstrap interval."),
        "",
        *table(["engine", f"after {middle} trials", f"after {trials}", "best of all found", "against random"], rows),
    ]  # fmt: skip
    better = [name for name, gain in made["against_random"].items() if gain["low"] > 0]
    worse = [name for name, gain in made["against_random"].items() if gain["high"] < 0]
    lines += ["", f"Better than chance at equal cost: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}."]
    alt = "Best reward so far over the seconds of training spent, for each engine"
    return [*lines, "", f"![{alt}]({CHART})", "", f"{alt}: medians over seeds, bands their quartiles, dashes the best of all."]


def chart(kept: Path) -> str | None:
    """The best reward so far over cost for each engine, as a picture that stands alone; None where nothing was measured."""
    if not (kept / "engines.json").exists():
        return None
    made = json.loads((kept / "engines.json").read_text())
    engines, best = made["engines"], made["best_of_all"]
    series = {
        name: list(zip(one["seconds"], one["median"], one["low"], one["high"], strict=True)) for name, one in engines.items()
    }
    ends = [min(one["seconds"][0] for one in engines.values()), max(one["seconds"][-1] for one in engines.values())]
    said = "; ".join(f"{name} {one['median'][-1]:.4f}" for name, one in engines.items())
    label = f"Best reward so far over seconds of training; medians after {made['trials']} trials: {said}."
    drawing = charts.line(
        {**series, "best of all": [(end, best) for end in ends]},
        classes={**{name: name for name in series}, "best of all": "best"},
        label=label, x_name="seconds of training", width=640, height=276,
    )  # fmt: skip
    names = [rule(42 + 110 * place, 12, 60 + 110 * place, 12, f"curve {name}") for place, name in enumerate(engines)]
    names += [text(66 + 110 * place, 12, name) for place, name in enumerate(engines)]
    shape = {"viewBox": "0 0 640 300", "role": "img", "aria_label": label, "xmlns": "http://www.w3.org/2000/svg"}
    return str(tag("svg", tag("style", Markup(_sheet())), *names, drawing, **shape)) + "\n"


def _sheet() -> str:
    def inks(dark: bool) -> str:
        return "".join(f".{name} {{ --c: {pair[dark]}; }} " for name, pair in COLOURS.items())

    return (
        "text { font: 11px sans-serif; fill: #67635d; } .rule { stroke: #8883; } .hit { fill: none; } "
        ".curve { fill: none; stroke: var(--c); stroke-width: 2; } .curve.best { stroke: #8888; stroke-dasharray: 4 4; } "
        ".band { fill: var(--c); opacity: 0.12; } "
        f"{inks(False)}@media (prefers-color-scheme: dark) {{ text {{ fill: #a19c94; }} {inks(True)}}}"
    )


def _cache(found: dict[str, Any]) -> list[str]:
    if "cache" not in found:
        return []
    made = found["cache"]
    number = len(next(iter(made["spaces"].values()))["seconds"]["auto"])
    rows = []
    for name, one in made["spaces"].items():
        seconds, passages = {mode: sum(each) for mode, each in one["seconds"].items()}, one["teacher_examples"]
        cells = [text for mode in ("auto", "live") for text in (f"{seconds[mode]:.0f}", f"{passages[mode]:,}")]
        rows.append([name, *cells, f"{one['times_cheaper']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"])
    stored, beside = "stored (s)", "beside each student (s)"
    head = ["candidates", stored, "passages the teacher read", beside, "passages", "times as cheap"]
    return [
        "## The teacher's outputs, shared",
        "",
        (f"{number} candidates of each kind, five epochs each, batches of 32; every one with the teacher's outputs stored and "
        "with the teacher running beside it, in turns. Each kind began with an empty store: reading the teacher's outputs, "
        "once, is part of the seconds. A teacher of BERT-base's size has random weights here, which decide nothing about time. "
        "In brackets: 95 % bootstrap interval over the candidates."),
        "",
        *circumstances(made),
        "",
        *table(head, rows),
    ]  # fmt: skip


def _sizes(row: dict[str, Any]) -> str:
    numbers = f"{row['layers']} layers, {row['heads']} heads, {row['hidden']} wide, {row['intermediate']} inside"
    return f"{numbers}, {row['activation']}"


def _text(found: dict[str, Any]) -> list[str]:
    students = {name: found.get(f"text-{name}") for name in ("found", "by-hand")}
    if not all(students.values()):
        return []
    glue = [record for name, record in found.items() if name.startswith("glue-")]
    tasks = sorted({record["recipe_name"] for record in glue})
    rows = []
    for name, record in students.items():
        row = record["winner"]
        loss = 1 - record["full_kd"]["rows"][record["full_kd"]["chosen"]]["quality"]
        points = [spread([_score(run) for run in _of(glue, task, name)]) for task in tasks]
        rows.append([name, _sizes(row), f"{row['latency_ms']:.1f}", f"{loss:.4f}", *points])
    lines = [
        "## A student for any text",
        "",
        (f"A search of {len(students['found']['search']['rows'])} candidates by `{students['found']['engine']}`, of at most a "
        "third of the teacher's operations, then full KD; and as many of the teacher's own layers as are as fast, through the "
        "same full KD. Both fine-tuned on each task: dev score in points, mean ± deviation over seeds."),
        "",
        *circumstances(students["found"]),
        "",
        *table(["student", "sizes", "latency (ms)", "held-out loss after full KD", *tasks], rows),
        "",
        "The one found against the one by hand, seed by seed:",
        "",
    ]  # fmt: skip
    for task in tasks:
        ours, theirs = (_of(glue, task, name) for name in students)
        lines.append(f"* {task} ({(ours or theirs)[0]['task']['select']}): {_paired(ours, theirs)}")
    return lines


def _of(runs: list[Record], task: str, variant: str) -> list[Record]:
    return [run for run in runs if (run["recipe_name"], run["variant"]) == (task, variant)]


def _paired(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """The difference in points with its 95 % interval, and in words what it shows.

    Over rows and seeds where resampled scores were kept; else over seeds alone, which is no interval for one seed.
    """
    gap = difference(ours, theirs)
    if gap is not None:
        mean, low, high, of = 100 * gap["gap"], 100 * gap["low"], 100 * gap["high"], _rows_and(gap["seeds"])
    else:
        scores = [{run["seed"]: _score(run) for run in runs} for runs in (ours, theirs)]
        seeds = sorted(scores[0].keys() & scores[1].keys())
        if not seeds:
            return "not measured."
        one = over_seeds([scores[0][seed] - scores[1][seed] for seed in seeds])
        mean, low, high, of = one["mean"], one["low"], one["high"], f"{one['n']} seeds, not over rows"
        if low is None:
            return f"{mean:+.1f} points with one seed; no interval, so neither is shown to be better."
    said = "better" if low > 0 else "worse" if high < 0 else "neither is shown to be better"
    return f"{mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, over {of}): {said}."


def _score(run: dict[str, Any]) -> float:
    metrics = run["student"]["metrics"]["dev"]
    return 100 * metrics[run["task"]["select"]]["value"]


def _rows_and(seeds: tuple[int, ...]) -> str:
    return f"rows and {len(seeds)} seeds" if len(seeds) > 1 else "rows, with one seed: about these weights alone"


def _task(found: dict[str, Any]) -> list[str]:
    students = {name: found.get(f"task-{name}") for name in ("found", "by-hand")}
    if not all(students.values()):
        return []
    limit = students["found"]["limit_ms"]
    rows = []
    for name, record in students.items():
        metric, own = record["student"]["metrics"]["dev"]["accuracy"], record["student"]["latency_ms"]["median"]
        interval = f"{metric['low']:.3f} to {metric['high']:.3f}"
        time = f"{record['winner']['latency_ms']:.2f}"
        rows.append([name, _sizes(record["winner"]), time, f"{own:.2f}", f"{metric['value']:.3f}", interval])
    time, own = "latency in the search (ms)", "latency of the finished student"
    return [
        "## A student for SST-2, in a third of the teacher's time",
        "",
        f"The limit is {limit:g} ms for 64 tokens on one thread. By hand: as many of the teacher's layers as are as fast.",
        "",
        *circumstances(students["found"]),
        "",
        *table(["student", "sizes", time, own, "dev accuracy", "95 % interval"], rows),
        "",
        f"The one found against the one by hand: {_paired([students['found']], [students['by-hand']])}",
    ]
