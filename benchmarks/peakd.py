"""What each part of Pea-KD adds, over tasks and seeds.

All variants share rows, teacher, learning rate and epochs; PTP adds two epochs on other labels. Seeds differ in the order
of rows, dropout and new weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from record import (
    ENCODER,
    Pair,
    Record,
    Run,
    circumstances,
    glue_score,
    interval,
    paired_over_tasks,
    read,
    spread,
    table,
)

from understudy.evaluate.bootstrap import over_seeds

TASKS = {"rte": "RTE", "mrpc": "MRPC", "cola": "CoLA", "sst2-10k": "SST-2"}
"""Task -> folder of the data below --data/glue_data; the recipe is recipes/glue/TASK-peakd.yaml."""
TITLES = TASKS | {"sst2-10k": "SST-2, 10,000 rows"}
_PLAIN, _OFF = "student.share=none", "method.ptp=off"
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "ft": ("labels only", ["method.train_type=ft", _PLAIN, _OFF]),
    "kd": ("+ softened logits (KD)", ["method.train_type=kd", _PLAIN, _OFF]),
    "pkd": ("+ layers (PKD)", [_PLAIN, _OFF]),
    "sps": ("PKD + SPS", [_OFF]),
    "sps-ptp": ("PKD + SPS + PTP (Pea-KD)", []),
    "sps-noswap": ("PKD + sharing without exchange", ["student.share=sps_no_shuffle", _OFF]),
    "ptp": ("PKD + PTP, no sharing", [_PLAIN]),
    "sps-norms": ("PKD + SPS, norms of their own for each use", [_OFF, "student.own_norms=true"]),
    "ft6": ("labels only, six plain layers", ["method.train_type=ft", _PLAIN, _OFF, "student.num_layers=6"]),
    "pkd6": ("PKD, six plain layers", [_PLAIN, _OFF, "student.num_layers=6"]),
}
"""Name -> title, and changes to the recipe. Three layers of the pre-trained teacher, but for the last two, as slow as SPS."""
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

Runs = dict[tuple[str, str, int], Record]


def runs(given: argparse.Namespace) -> Iterator[Run]:
    """Every variant of every task with every seed."""
    for seed in given.seeds or (0, 1, 2):
        for task in given.tasks or TASKS:
            for variant in given.variants or VARIANTS:
                arguments = [
                    f"recipes/glue/{task.removesuffix('-10k')}-peakd.yaml",
                    f"task.path={given.data / 'glue_data' / TASKS[task]}", f"seed={seed}", f"teacher.model={ENCODER}",
                    "teacher.seed=0", "task.split_seed=0", "evaluate.baseline=false", *VARIANTS[variant][1], *given.settings,
                ]  # fmt: skip
                yield Run(f"{task}-{variant}-s{seed}", arguments, {"recipe_name": task, "variant": variant})


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    records = list(read(kept).values())
    runs = {(r["recipe_name"], r["variant"], r["seed"]): r for r in records if r["variant"] in VARIANTS}
    return [*_head(records[0]), *_scores(runs), *_said(runs), *_differences(runs), *_costs(runs)] if runs else []


def _head(record: Record) -> list[str]:
    return [
        "# Pea-KD: what each part adds",
        "",
        "Measured by `python benchmarks/run.py peakd`; kept in `results/peakd/`, each run with its command.",
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

    def cell(values: list[float]) -> str:
        return f"{spread(values)} ({len(values)})" if values else "–"

    def of(task: str, variant: str) -> list[float]:
        return [glue_score(run, task, "student") for key, run in runs.items() if key[:2] == (task, variant)]

    first = {task: next(run for key, run in runs.items() if key[0] == task) for task in tasks}
    rows = [["teacher", *(cell([glue_score(run, task, "teacher")]) for task, run in first.items())]]
    for variant, (name, _) in VARIANTS.items():
        if any(of(task, variant) for task in tasks):
            rows.append([name, *(cell(of(task, variant)) for task in tasks)])
    said = "Mean ± standard deviation over seeds (number of seeds). The teacher is the same for all seeds."
    return ["## Scores", "", *table(["student", *(TITLES[task] for task in tasks)], rows), "", said, ""]


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
        if pairs := _repeated(_pairs(runs, ours, theirs)):
            found = paired_over_tasks(pairs, tasks_fixed=True)
            verdict = "ahead" if found["low"] > 0 else "behind" if found["high"] < 0 else list(told)[2]
            told[verdict].append(f"{what} ({found['mean']:+.1f} points, {interval(found)})")
    lines = [f"* {verdict.capitalize()}: {'; '.join(which)}." for verdict, which in told.items() if which]
    asked = sum(len(which) for which in told.values())
    return [*lines, "", f"These are 95 % t-intervals over seeds, not corrected for {asked} questions being asked.", ""]


def _differences(runs: Runs) -> list[str]:
    rows: list[list[object]] = []
    for ours, theirs, what in QUESTIONS:
        pairs = _pairs(runs, ours, theirs)
        for task in TASKS:
            if mine := [pair for pair in pairs if pair.task == task]:
                found = over_seeds([pair.ours - pair.theirs for pair in mine])
                ahead = sum(pair.ours > pair.theirs for pair in mine)
                rows.append([what, TITLES[task], len(mine), ahead, f"{found['mean']:+.1f}", interval(found), ""])
        pairs = _repeated(pairs)
        if len({pair.task for pair in pairs}) > 1:
            wide, narrow = paired_over_tasks(pairs), paired_over_tasks(pairs, tasks_fixed=True)
            mean = f"**{wide['mean']:+.1f}**"
            rows.append([f"**{what}**", "**all**", wide["pairs"], wide["wins"], mean, interval(narrow), interval(wide)])
    return [
        "## Differences",
        "",
        "Pairs share task and seed. The first interval is about these tasks (seeds vary; Student, Welch), the second about tasks",
        "like these. All: the tasks with several seeds.",
        "",
        *table(["what", "task", "pairs", "ahead", "points", "95 %, these tasks", "95 %, tasks like these"], rows),
        "",
    ]


def _costs(runs: Runs) -> list[str]:
    groups = {"teacher": ("teacher", list(runs.values()))}
    groups |= {name: ("student", [run for key, run in runs.items() if key[1] == v]) for v, (name, _) in VARIANTS.items()}
    rows = []
    for name, (model, found) in groups.items():
        if not found:
            continue
        speed = median(1.0 if model == "teacher" else run["speedup"] for run in found)
        steps = ("teacher",) if model == "teacher" else ("ptp", "student")
        seconds = [
            sum(run["train_seconds"].get(step) or 0 for step in steps) for run in found if run["recipe_name"] == "mrpc"
        ]
        sizes = [f"{found[0][model]['num_parameters'] / 1e6:.1f}", f"{found[0][model]['flops'] / 1e9:.2f}"]
        rows.append([name, *sizes, f"{speed:.2f}×", f"{median(seconds):.0f}" if seconds else "–"])
    return [
        "## Size and speed",
        "",
        "Sharing saves parameters, never time: each use of a layer is computed. Speed: the teacher's latency divided by the",
        "student's, timed in turns (batch 1, 128 tokens). Medians over all runs of a variant; training is MRPC's.",
        "",
        *table(["model", "parameters (M)", "GFLOP", "speed", "training (s)"], rows),
    ]
