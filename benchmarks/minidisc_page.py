"""docs/results-minidisc.md, made from results/minidisc/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from minidisc import TASKS, VARIANTS

from understudy.evaluate.verdict import headline


def write(kept: Path, page: Path) -> None:
    """Read all records and write the page."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    if not records:
        raise SystemExit(f"{kept} is empty: run them first (python benchmarks/minidisc.py run).")
    page.write_text("\n".join(_lines(records)) + "\n", encoding="utf-8")
    print(f"{page} from {len(records)} runs")


def _lines(records: list[dict[str, Any]]) -> list[str]:
    versions, machine = records[0]["versions"], records[0]["machine"]
    lines = [
        "# Results: MiniDisc and MaxiDisc",
        "",
        "Every number on this page was measured by `python benchmarks/minidisc.py run`, and is kept with its command, versions",
        "and hardware in `results/minidisc/`; `python benchmarks/minidisc.py page` makes the page from these files.",
        "",
        "Teacher: all-MiniLM-L6-v2, fine-tuned on the task, one for all runs. Student: its heads and FFN neurons pruned. All",
        "variants share rows, teacher, importance, loss and learning rate, and the epochs of a stage. Scores are those of the",
        "reported rows, which chose nothing: mean and deviation over seeds. Cost: forward passes of the whole teacher for each",
        "example of one stage's pass over the rows, by the model of [minidisc](minidisc.md); seconds: what training took here,",
        "where teachers' outputs are stored, stages that ways share counted once.",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in sorted(machine.items()) if value not in (None, "")) + ".",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
    ]
    for name, task in TASKS.items():
        runs = [record for record in records if record["recipe_name"] == name]
        if runs:
            lines += _task(task.title, runs)
    lines += ["", "## Commands", "", "```"]
    lines += sorted({record["command"] for record in records if record["seed"] == 0})
    return [*lines, "```"]


def _task(title: str, runs: list[dict[str, Any]]) -> list[str]:
    test, metric = headline(runs[0])
    teacher = runs[0]["teacher"]["metrics"][test][metric]["value"]
    lines = ["", f"## {title}", "", f"{metric} on {test}; the teacher's is {teacher:.3f}.", ""]
    lines += ["| way to the student | score | seeds | cost | seconds | assistant |", "|---|---|---|---|---|---|"]
    costs: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    for variant, words in VARIANTS.items():
        found = sorted((run for run in runs if run["variant"] == variant), key=lambda run: run["seed"])
        if not found:
            continue
        scores[variant] = [run["student"]["metrics"][test][metric]["value"] for run in found]
        spent = [_spent(run) for run in found]
        costs[variant] = mean(one["units"] for one in spent)
        seconds = mean(one["seconds"] for one in spent)
        chosen = ", ".join(_assistant(run) for run in found)
        cells = [words, _mean(scores[variant]), str(len(found)), f"{costs[variant]:.1f}", f"{seconds:.0f}", chosen]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *_said(scores, costs)]


def _said(scores: dict[str, list[float]], costs: dict[str, float]) -> list[str]:
    """What the table means, in sentences; what does not hold is said."""
    lines = []
    for variant in ("minidisc", "minidisc-sampled"):
        if variant not in scores:
            continue
        for other in ("maxidisc", "direct-long", "direct"):
            if other in scores:
                gap = 100 * (mean(scores[variant]) - mean(scores[other]))
                times = costs[variant] / costs[other]
                words = f"{VARIANTS[variant]}, against {VARIANTS[other]}"
                lines.append(f"* {words}: {gap:+.1f} points at {times:.2f} times its cost.")
        if "direct-long" in scores and mean(scores[variant]) <= mean(scores["direct-long"]):
            lines.append("* On this task the assistant does not pay: direct distillation with the same total budget is as good.")
    return lines


def _spent(run: dict[str, Any]) -> dict[str, float]:
    """What all stages of a run cost. `units` are of one stage's epochs, so a longer direct run counts its epochs."""
    decided = run["decided"]
    total = dict(decided["trials"]["total"] if "trials" in decided else decided["cost"]["total"])
    if run["variant"] == "direct-long":
        total["units"] *= _epochs(run) / run["stage_epochs"]
    return total


def _epochs(run: dict[str, Any]) -> float:
    (given,) = [part for part in run["command"].split() if part.startswith("train.epochs=")]
    return float(given.partition("=")[2])


def _assistant(run: dict[str, Any]) -> str:
    decided = run["decided"]
    if "trials" in decided:
        return decided["trials"]["chosen"]["way"].split("-")[0]
    choices = [decided[name]["chosen"] for name in sorted(decided) if name.startswith("choice-")]
    return " → ".join(f"{100 * s:g}S" for s in choices) or "–"


def _mean(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
