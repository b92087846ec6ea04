"""AutoMM against the same budget without a teacher: the recipes, over tasks and seeds.

All seeds of a task share rows and teacher; the order of rows, dropout and projections differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from record import (
    ENCODER,
    GLUE_SCORE,
    Pair,
    Record,
    Run,
    circumstances,
    glue_score,
    interval,
    paired_over_tasks,
    read,
    table,
)

from understudy.evaluate.bootstrap import over_seeds
from understudy.evaluate.verdict import headline

MODELS = ("teacher", "baseline", "student")
TASKS = {
    "mrpc": ("MRPC", "recipes/glue/mrpc-automm.yaml", "glue_data/MRPC"),
    "rte": ("RTE", "recipes/glue/rte-automm.yaml", "glue_data/RTE"),
    "cola": ("CoLA", "recipes/glue/cola-automm.yaml", "glue_data/CoLA"),
    "sst2-10k": ("SST-2, 10,000 rows", "recipes/glue/sst2-automm.yaml", "glue_data/SST-2"),
    "stsb": ("STS-B", "recipes/glue/stsb-automm.yaml", "glue_data/STS-B"),
    "conll2003": ("CoNLL-2003", "recipes/ner/conll2003-automm.yaml", "conll2003"),
    "pawsx-en-de": ("PAWS-X, learnt in English", "recipes/pawsx/en-de-automm.yaml", "pawsx"),
    "tickets": ("your own csv (help desk)", "recipes/own/tickets.yaml", None),
}
"""Name -> title, recipe, and folder of the data below --data."""
VARIANTS = {"": [], "-parity": ["method.parity=true"]}
"""Suffix -> changes to the recipes."""
VARIANT_TITLES = {"": "the default", "-parity": "AutoMM's own weights (`method.parity=true`, logits and feature only)"}


def runs(given: argparse.Namespace) -> Iterator[Run]:
    """Every task with every seed."""
    for seed in given.seeds or (0, 1, 2):
        for name in given.tasks or TASKS:
            _, recipe, folder = TASKS[name]
            for variant in given.variants or ("",):
                data = [f"task.path={given.data / folder}"] if folder else []
                fixed = [f"seed={seed}", f"teacher.model={ENCODER}", "teacher.seed=0", "task.split_seed=0", *data]
                arguments = [recipe, *fixed, *VARIANTS[variant], *given.settings]
                yield Run(f"{name}{variant}-s{seed}", arguments, {"recipe_name": name, "variant": variant})


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    records = list(read(kept).values())
    if not records:
        return []
    found = {name: runs for name in TASKS if (runs := _of(records, name))}
    head = ["task", "reported on", "metric", *MODELS, "seeds"]
    lines = [
        "# AutoMM: does a teacher help?",
        "",
        "Measured by `python benchmarks/run.py quality`; kept in `results/quality/`, each run with its command.",
        "",
        "Teacher: all-MiniLM-L6-v2 (six layers, 384 wide), fine-tuned on the task. Student: its layers 0, 2 and 4, taken",
        "before fine-tuning. Baseline: the same student, with the same rows in the same order and the same number of",
        "steps, without a teacher. The best checkpoint is chosen on rows held out of train; the reported rows are used",
        "once. Brackets are 95 % bootstrap intervals over the reported rows.",
        "",
        *circumstances(records[0]),
        "",
        "## Each recipe",
        "",
        *table(head, [row for name, runs in found.items() for row in _rows(name, runs)]),
        "",
        "Several seeds: mean over seeds, and the interval of the first seed.",
        "",
    ]
    if silent := [TASKS[name][0] for name, runs in found.items() if _learnt_nothing(runs[0])]:
        lines += [
            f"{', '.join(silent)}: the teacher gives every row the same answer. It has not learnt",
            "the task from the rows at hand, and the row above says nothing about distillation.",
            "",
        ]
    lines += ["Commands (seed 0):", "", "```bash", *(runs[0]["command"] for runs in found.values()), "```", ""]
    return [*lines, *_paired(records), *_costs(found)]


def short_table(kept: Path) -> list[str]:
    """The README's: the first test set, the metric that selects."""
    rows = []
    for name, (title, *_) in TASKS.items():
        if runs := _of(list(read(kept).values()), name):
            test, metric = headline(runs[0])
            means = [f"{_mean(runs, model, test, metric):.3f}" for model in MODELS]
            rows.append([f"{title} ({test})", metric, *means, len(runs)])
    return table(["task", "metric", "teacher", "without a teacher", "`automm`", "seeds"], rows)


def _of(records: list[Record], name: str, variant: str = "") -> list[Record]:
    found = [r for r in records if r["recipe_name"] == name and r["variant"] == variant]
    return sorted(found, key=lambda record: record["seed"])


def _mean(runs: list[Record], model: str, test: str, metric: str) -> float:
    values = [run[model]["metrics"][test][metric]["value"] for run in runs]
    return sum(values) / len(values)


def _learnt_nothing(run: Record) -> bool:
    """An F1 of zero on every test set: the teacher never says yes."""
    return all(metrics.get("f1", {}).get("value") == 0 for metrics in run["teacher"]["metrics"].values())


def _rows(name: str, runs: list[Record]) -> Iterator[list[object]]:
    """One row per test set and metric."""
    for test, metrics in runs[0]["student"]["metrics"].items():
        for metric in metrics:
            first = {model: runs[0][model]["metrics"][test][metric] for model in MODELS}
            cells = [
                f"{_mean(runs, model, test, metric):.3f} [{one['low']:.3f}, {one['high']:.3f}]" for model, one in first.items()
            ]
            yield [TASKS[name][0], test, metric, *cells, len(runs)]


def _paired(records: list[Record]) -> list[str]:
    """What distillation adds over the baseline, over tasks and seeds."""
    lines = [
        "## Does the teacher help?",
        "",
        "Student against baseline on dev, scored as GLUE does (MRPC: mean of F1 and accuracy; CoLA: Matthews correlation;",
        "RTE, SST-2: accuracy). Pairs share rows, order, steps and teacher; seeds differ in order, dropout and projections.",
        "",
    ]
    for variant, title in VARIANT_TITLES.items():
        by_task: dict[str, list[Pair]] = {}
        for run in records:
            task = run["recipe_name"]
            if run["variant"] == variant and task in GLUE_SCORE:
                ours, theirs = (glue_score(run, task, model) / 100 for model in ("student", "baseline"))
                by_task.setdefault(task, []).append(Pair(task, run["seed"], ours, theirs))
        if not by_task:
            continue
        rows = []
        for task, group in by_task.items():
            gap = over_seeds([100 * (pair.ours - pair.theirs) for pair in group])
            theirs, ours = (over_seeds([getattr(pair, side) for pair in group])["mean"] for side in ("theirs", "ours"))
            rows.append([TASKS[task][0], len(group), f"{theirs:.3f}", f"{ours:.3f}", f"{gap['mean']:+.1f}", interval(gap)])
        pairs = [pair for group in by_task.values() for pair in group]
        wide, narrow = paired_over_tasks(pairs), paired_over_tasks(pairs, tasks_fixed=True)
        these, others = (interval(one, "unknown (a task with one seed)", times=100) for one in (narrow, wide))
        head = ["task", "pairs", "baseline", "student", "difference, in points", "95 % interval over seeds"]
        lines += [
            f"### {title[0].upper() + title[1:]}",
            "",
            *table(head, rows),
            "",
            (f"Over all {wide['pairs']} pairs the student is {100 * wide['mean']:+.1f} points from the baseline and ahead in "
            f"{wide['wins']}: 95 % interval {these} for these tasks (seeds vary; Welch), {others} for "
            "tasks like these."),
            "",
        ]  # fmt: skip
    return lines


def _costs(found: dict[str, list[Record]]) -> list[str]:
    rows = []
    for name, runs in found.items():
        for model in ("teacher", "student"):
            entry, time = runs[0][model], runs[0][model]["latency_ms"]
            seconds = runs[0]["train_seconds"].get(model)
            rows.append([
                TASKS[name][0], model, f"{entry['num_parameters'] / 1e6:.1f}", f"{entry['size_mb']:.0f}",
                f"{time['median']:.1f} ± {time['iqr'] / 2:.1f}" if time else "–", time["threads"] if time else "–",
                "–" if seconds is None else f"{seconds:.0f}",
            ])  # fmt: skip
    return [
        "## Size and speed",
        "",
        *table(["task", "model", "parameters (M)", "MB", "latency (ms)", "threads", "training (s)"], rows),
        "",
        "Latency: median and half the interquartile range, batch 1, 128 tokens, the models of a run taking turns. Other",
        "programs shared the two cores during these runs: compare teacher and student of one row pair, not rows, and see",
        "[performance](performance.md) for the speed of training.",
    ]
