"""What docs/results.md says about AutoMM and the baseline, made from results/quality/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kept import GLUE_SCORE, circumstances, glue_score

from understudy.evaluate.compare import Pair, over_seeds, paired_over_tasks
from understudy.evaluate.verdict import headline

MODELS = ("teacher", "baseline", "student")

TITLES = {
    "mrpc": "MRPC", "rte": "RTE", "cola": "CoLA", "sst2-10k": "SST-2, 10,000 rows", "stsb": "STS-B",
    "conll2003": "CoNLL-2003", "pawsx-en-de": "PAWS-X, learnt in English", "tickets": "your own csv (help desk)",
}  # fmt: skip
VARIANTS = {"": "the default", "-parity": "AutoMM's own weights (`method.parity=true`, logits and feature only)"}


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    return _lines(records) if records else []


def short_table(kept: Path) -> list[str]:
    """The table of the README: the first test set, the metric that selects."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    lines = ["| task | metric | teacher | without a teacher | `automm` | seeds |", "|---|---|---|---|---|---|"]
    for name, title in TITLES.items():
        runs = _of(records, name, "")
        if runs:
            test, metric = headline(runs[0])
            found = [[run[model]["metrics"][test][metric]["value"] for run in runs] for model in MODELS]
            cells = [f"{sum(values) / len(values):.3f}" for values in found]
            lines.append(f"| {title} ({test}) | {metric} | {' | '.join(cells)} | {len(runs)} |")
    return lines


def _lines(records: list[dict[str, Any]]) -> list[str]:
    lines = [
        "# AutoMM: does a teacher help?",
        "",
        "Measured by `python benchmarks/quality.py run`; kept in `results/quality/`, each run with its command.",
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
        "| task | reported on | metric | teacher | baseline | student | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    names = [name for name in TITLES if any(r["recipe_name"] == name for r in records)]
    for name in names:
        runs = _of(records, name, "")
        if runs:
            lines += _rows(name, runs)
    lines += ["", "Several seeds: mean over seeds, and the interval of the first seed.", ""]
    if silent := [name for name in names if _learnt_nothing(_of(records, name, ""))]:
        lines += [
            f"{', '.join(TITLES[name] for name in silent)}: the teacher gives every row the same answer. It has not learnt",
            "the task from the rows at hand, and the row above says nothing about distillation.",
            "",
        ]
    lines += ["Commands (seed 0):", "", "```"]
    for name in names:
        runs = _of(records, name, "")
        if runs:
            lines.append(runs[0]["command"])
    lines += ["```", ""]
    lines += _paired(records)
    lines += _costs(records, names)
    return lines


def _of(records: list[dict[str, Any]], name: str, variant: str) -> list[dict[str, Any]]:
    found = [r for r in records if r["recipe_name"] == name and r["variant"] == variant]
    return sorted(found, key=lambda record: record["seed"])


def _learnt_nothing(runs: list[dict[str, Any]]) -> bool:
    """An F1 of zero on every test set: the teacher never says yes."""
    return bool(runs) and all(metrics.get("f1", {}).get("value") == 0 for metrics in runs[0]["teacher"]["metrics"].values())


def _rows(name: str, runs: list[dict[str, Any]]) -> list[str]:
    """One row per test set and metric."""
    rows = []
    for test, metrics in runs[0]["student"]["metrics"].items():
        for metric in metrics:
            cells = []
            for model in MODELS:
                values = [run[model]["metrics"][test][metric]["value"] for run in runs]
                first = runs[0][model]["metrics"][test][metric]
                cells.append(f"{sum(values) / len(values):.3f} [{first['low']:.3f}, {first['high']:.3f}]")
            rows.append(f"| {TITLES[name]} | {test} | {metric} | {' | '.join(cells)} | {len(runs)} |")
    return rows


def _paired(records: list[dict[str, Any]]) -> list[str]:
    """What distillation adds over the baseline, over tasks and seeds."""
    lines = [
        "## Does the teacher help?",
        "",
        "Student against baseline on dev, scored as GLUE does (MRPC: mean of F1 and accuracy; CoLA: Matthews correlation;",
        "RTE, SST-2: accuracy). Pairs share rows, order, steps and teacher; seeds differ in order, dropout and projections.",
        "",
    ]
    for variant, title in VARIANTS.items():
        runs = [r for r in records if r["variant"] == variant and r["recipe_name"] in GLUE_SCORE]
        by_task: dict[str, list[Pair]] = {}
        for run in runs:
            ours, theirs = (glue_score(run, run["recipe_name"], model) / 100 for model in ("student", "baseline"))
            by_task.setdefault(run["recipe_name"], []).append(Pair(run["recipe_name"], run["seed"], ours, theirs))
        if not by_task:
            continue
        pairs = [pair for group in by_task.values() for pair in group]
        wide, narrow = paired_over_tasks(pairs), paired_over_tasks(pairs, tasks_fixed=True)
        lines += [
            f"### {title[0].upper() + title[1:]}",
            "",
            "| task | pairs | baseline | student | difference, in points | 95 % interval over seeds |",
            "|---|---|---|---|---|---|",
        ]
        for task, group in by_task.items():
            differences = over_seeds([100 * (pair.ours - pair.theirs) for pair in group])
            interval = "–" if differences["low"] is None else f"{differences['low']:+.1f} to {differences['high']:+.1f}"
            ours, theirs = (over_seeds([getattr(pair, side) for pair in group])["mean"] for side in ("ours", "theirs"))
            cells = [TITLES[task], str(len(group)), f"{theirs:.3f}", f"{ours:.3f}", f"{differences['mean']:+.1f}", interval]
            lines.append(f"| {' | '.join(cells)} |")
        lines += [
            "",
            (f"Over all {wide['pairs']} pairs the student is {100 * wide['mean']:+.1f} points from the baseline and ahead in "
            f"{wide['wins']}: 95 % interval {_interval(narrow)} for these tasks (seeds vary; Welch), {_interval(wide)} for "
            "tasks like these."),
            "",
        ]
    return lines


def _interval(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return "unknown (a task with one seed)"
    return f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}"


def _costs(records: list[dict[str, Any]], names: list[str]) -> list[str]:
    lines = ["## Size and speed", ""]
    lines += ["| task | model | parameters (M) | MB | latency (ms) | threads | training (s) |", "|---|---|---|---|---|---|---|"]
    for name in names:
        runs = _of(records, name, "")
        if not runs:
            continue
        for model in ("teacher", "student"):
            entry = runs[0][model]
            time = entry["latency_ms"]
            shown = f"{time['median']:.1f} ± {time['iqr'] / 2:.1f}" if time else "–"
            seconds = runs[0]["train_seconds"].get(model)
            cells = [TITLES[name], model, f"{entry['num_parameters'] / 1e6:.1f}", f"{entry['size_mb']:.0f}", shown]
            cells += [str(time["threads"]) if time else "–", "–" if seconds is None else f"{seconds:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Latency: median and half the interquartile range, batch 1, 128 tokens, the models of a run taking turns. Other",
        "programs shared the two cores during these runs: compare teacher and student of one row pair, not rows, and see",
        "[performance](performance.md) for the speed of training.",
    ]
    return lines
