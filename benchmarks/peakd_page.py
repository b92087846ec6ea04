"""What docs/results.md says about Pea-KD, made from results/peakd/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from kept import circumstances, glue_score

from understudy.evaluate.compare import Pair, over_seeds, paired_over_tasks

TASKS = {"rte": "RTE", "mrpc": "MRPC", "cola": "CoLA", "sst2-10k": "SST-2, 10,000 rows"}
NAMES = {
    "ft": "labels only",
    "kd": "+ softened logits (KD)",
    "pkd": "+ layers (PKD)",
    "sps": "PKD + SPS",
    "sps-ptp": "PKD + SPS + PTP (Pea-KD)",
    "sps-noswap": "PKD + sharing without exchange",
    "ptp": "PKD + PTP, no sharing",
    "sps-norms": "PKD + SPS, norms of their own for each use",
    "ft6": "labels only, six plain layers",
    "pkd6": "PKD, six plain layers",
}
QUESTIONS = [
    ("kd", "ft", "softened logits"),
    ("pkd", "kd", "layers"),
    ("sps", "pkd", "SPS"),
    ("sps", "sps-noswap", "the exchange in SPS"),
    ("sps-norms", "sps", "norms of their own in SPS"),
    ("sps-ptp", "sps", "PTP on top of SPS"),
    ("ptp", "pkd", "PTP without SPS"),
    ("sps-ptp", "ft", "Pea-KD against labels only"),
    ("sps-ptp", "kd", "Pea-KD against KD"),
    ("sps", "pkd6", "SPS against six plain layers, at equal latency"),
    ("sps-ptp", "pkd6", "Pea-KD against six plain layers, at equal latency"),
]
"""(ours, theirs, what the difference between the two is)."""

Runs = dict[tuple[str, str, int], dict[str, Any]]


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    runs = {(r["recipe_name"], r["variant"], r["seed"]): r for r in records if r["variant"] in NAMES}
    return [*_head(records[0]), *_scores(runs), *_said(runs), *_differences(runs), *_costs(runs)] if runs else []


def _head(record: dict[str, Any]) -> list[str]:
    return [
        "# Pea-KD: what each part adds",
        "",
        "Measured by `python benchmarks/peakd.py run`; kept in `results/peakd/`, each run with its command.",
        "",
        "Teacher: all-MiniLM-L6-v2 (six layers, 384 wide), fine-tuned on the task. Students: its lowest three layers before",
        "fine-tuning (all six in the rows called six plain layers). All variants share rows, teacher, learning rate and",
        "epochs; PTP adds two epochs on other labels. The best checkpoint is chosen on rows held out of train; dev is",
        "reported once, as GLUE scores it, in points. Seeds differ in the order of rows, dropout and new weights.",
        "",
        *circumstances(record),
        "",
    ]


def _scores(runs: Runs) -> list[str]:
    tasks = [task for task in TASKS if any(key[0] == task for key in runs)]
    lines = ["## Scores", "", f"| student | {' | '.join(TASKS[task] for task in tasks)} |", f"|---|{'---|' * len(tasks)}"]
    teachers = [_spread(_values(runs, task, None)) for task in tasks]
    lines.append(f"| teacher | {' | '.join(teachers)} |")
    for variant, name in NAMES.items():
        cells = [_spread(_values(runs, task, variant)) for task in tasks]
        if any(cell != "–" for cell in cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", "Mean ± standard deviation over seeds (number of seeds). The teacher is the same for all seeds.", ""]


def _values(runs: Runs, task: str, variant: str | None) -> list[float]:
    """Scores of a variant's student over its seeds; of the one teacher when no variant is named."""
    if variant is None:
        found = [glue_score(run, task, "teacher") for (of, _, _), run in runs.items() if of == task]
        return found[:1]
    return [glue_score(run, task, "student") for (of, named, _), run in runs.items() if (of, named) == (task, variant)]


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    found = over_seeds(values)
    deviation = "" if found["deviation"] is None else f" ± {found['deviation']:.1f}"
    return f"{found['mean']:.1f}{deviation} ({found['n']})"


def _pairs(runs: Runs, ours: str, theirs: str) -> list[Pair]:
    return [
        Pair(task, seed, glue_score(run, task, "student"), glue_score(runs[task, theirs, seed], task, "student"))
        for (task, variant, seed), run in runs.items()
        if variant == ours and (task, theirs, seed) in runs
    ]


def _repeated(pairs: list[Pair]) -> list[Pair]:
    """Those of tasks with several seeds."""
    return [pair for pair in pairs if sum(other.task == pair.task for other in pairs) > 1]


def _said(runs: Runs) -> list[str]:
    """What helped and what did not, in words: by the interval for these tasks, of questions that have one."""
    told: dict[str, list[str]] = {"ahead": [], "behind": [], "no difference that these runs can show": []}
    for ours, theirs, what in QUESTIONS:
        pairs = _repeated(_pairs(runs, ours, theirs))
        if not pairs:
            continue
        found = paired_over_tasks(pairs, tasks_fixed=True)
        verdict = "ahead" if found["low"] > 0 else "behind" if found["high"] < 0 else list(told)[2]
        told[verdict].append(f"{what} ({found['mean']:+.1f} points, {_interval(found)})")
    lines = [f"* {verdict.capitalize()}: {'; '.join(which)}." for verdict, which in told.items() if which]
    asked = sum(len(which) for which in told.values())
    return [*lines, "", f"These are 95 % t-intervals over seeds, not corrected for {asked} questions being asked.", ""]


def _differences(runs: Runs) -> list[str]:
    lines = [
        "## Differences",
        "",
        "Pairs share task and seed. The first interval is about these tasks (seeds vary; Student, Welch), the second about tasks",
        "like these. All: the tasks with several seeds.",
        "",
        "| what | task | pairs | ahead | points | 95 %, these tasks | 95 %, tasks like these |",
        "|---|---|---|---|---|---|---|",
    ]
    for ours, theirs, what in QUESTIONS:
        pairs = _pairs(runs, ours, theirs)
        for task in TASKS:
            mine = [pair for pair in pairs if pair.task == task]
            if mine:
                found = over_seeds([pair.ours - pair.theirs for pair in mine])
                ahead = sum(pair.ours > pair.theirs for pair in mine)
                cells = [what, TASKS[task], str(len(mine)), str(ahead), f"{found['mean']:+.1f}", _interval(found), ""]
                lines.append(f"| {' | '.join(cells)} |")
        pairs = _repeated(pairs)
        if len({pair.task for pair in pairs}) > 1:
            wide, narrow = paired_over_tasks(pairs), paired_over_tasks(pairs, tasks_fixed=True)
            cells = [f"**{what}**", "**all**", str(wide["pairs"]), str(wide["wins"]), f"**{wide['mean']:+.1f}**"]
            lines.append(f"| {' | '.join([*cells, _interval(narrow), _interval(wide)])} |")
    return [*lines, ""]


def _interval(found: dict[str, Any]) -> str:
    return "–" if found["low"] is None else f"{found['low']:+.1f} to {found['high']:+.1f}"


def _costs(runs: Runs) -> list[str]:
    lines = [
        "## Size and speed",
        "",
        "Sharing saves parameters, never time: each use of a layer is computed. Speed: the teacher's latency divided by the",
        "student's, timed in turns (batch 1, 128 tokens). Medians over all runs of a variant; training is MRPC's.",
        "",
        "| model | parameters (M) | GFLOP | speed | training (s) |",
        "|---|---|---|---|---|",
    ]
    rows = {"teacher": ("teacher", list(runs.values()))}
    for variant, name in NAMES.items():
        rows[name] = ("student", [run for (_, named, _), run in runs.items() if named == variant])
    for name, (model, found) in rows.items():
        if not found:
            continue
        speeds = [1.0 if model == "teacher" else run["speedup"] for run in found]
        steps = ("teacher",) if model == "teacher" else ("ptp", "student")
        seconds = [
            sum(run["train_seconds"].get(step) or 0 for step in steps) for run in found if run["recipe_name"] == "mrpc"
        ]
        sizes = f"{found[0][model]['num_parameters'] / 1e6:.1f} | {found[0][model]['flops'] / 1e9:.2f}"
        lines.append(f"| {name} | {sizes} | {median(speeds):.2f}× | {f'{median(seconds):.0f}' if seconds else '–'} |")
    return lines
