"""What docs/results.md says about MiniDisc and MaxiDisc, made from results/minidisc/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from kept import circumstances, difference
from minidisc import TASKS, VARIANTS

from understudy.evaluate.verdict import headline


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    if not records:
        return []
    lines = [
        "# MiniDisc and MaxiDisc: is an assistant worth its cost?",
        "",
        "Measured by `python benchmarks/minidisc.py run`; kept in `results/minidisc/`, each run with its command.",
        "",
        "Teacher: all-MiniLM-L6-v2, fine-tuned on the task, one for all runs. Student: its heads and FFN neurons pruned. All",
        "variants share rows, teacher, importance, loss and learning rate, and the epochs of a stage. Scores are those of the",
        "reported rows, which chose nothing: mean and deviation over seeds. Cost: forward passes of the whole teacher for each",
        "example of one stage's pass over the rows, by the model of [minidisc](minidisc.md); seconds: what training took here,",
        "where teachers' outputs are stored, stages that ways share counted once.",
        "",
        *circumstances(records[0]),
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
    for variant, words in VARIANTS.items():
        found = sorted((run for run in runs if run["variant"] == variant), key=lambda run: run["seed"])
        if not found:
            continue
        scores = [run["student"]["metrics"][test][metric]["value"] for run in found]
        spent = [_spent(run) for run in found]
        costs[variant] = mean(one["units"] for one in spent)
        seconds = mean(one["seconds"] for one in spent)
        chosen = ", ".join(_assistant(run) for run in found)
        cells = [words, _mean(scores), str(len(found)), f"{costs[variant]:.1f}", f"{seconds:.0f}", chosen]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *_said(runs, costs)]


def _said(runs: list[dict[str, Any]], costs: dict[str, float]) -> list[str]:
    """What the table means, in sentences; what does not hold is said."""
    lines = []
    for ours in ("minidisc", "minidisc-sampled"):
        for theirs in ("maxidisc", "direct-long", "direct"):
            found = difference(*([run for run in runs if run["variant"] == variant] for variant in (ours, theirs)))
            if found is None:
                continue
            gap, low, high = (100 * found[name] for name in ("gap", "low", "high"))
            verdict = "a tie" if low <= 0 <= high else "better" if gap > 0 else "worse"
            lines.append(
                f"* {VARIANTS[ours]}, against {VARIANTS[theirs]}: {gap:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, "
                f"rows and {_seeds(found['seeds'])}), {verdict}, at {costs[ours] / costs[theirs]:.2f} times its cost."
            )
            if theirs == "direct-long" and low <= 0:
                lines.append("  That the assistant pays is not shown: on the same total budget direct is not measurably worse.")
    return lines


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed: about these weights alone"


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
