"""What an assistant is worth: direct distillation, MaxiDisc and MiniDisc to the same pruned student.

All variants share rows, teacher, importance, loss and learning rate; every stage has the same number of epochs, but for
`direct-long`, which spends as much as MiniDisc at its dearest. Seeds differ in the order of rows and dropout.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from record import ENCODER, ROOT, Record, Run, add_samples, circumstances, difference, extend, read, spread, table

from understudy.evaluate.verdict import headline


@dataclass(frozen=True)
class Task:
    """Where a task's data lies, which recipe runs it, and over which assistants."""

    title: str
    recipe: str
    folder: str
    assistants: tuple[float, ...]
    seeds: tuple[int, ...]


TASKS = {
    "rte": Task("RTE", "recipes/glue/rte-minidisc.yaml", "glue_data/RTE", (0.5, 0.6, 0.7, 0.8), (0, 1, 2)),
    "mrpc": Task("MRPC", "recipes/glue/mrpc-minidisc.yaml", "glue_data/MRPC", (0.5, 0.6, 0.7, 0.8), (0,)),
    "conll2003": Task("CoNLL-2003", "recipes/ner/conll2003-minidisc.yaml", "conll2003", (0.4, 0.5, 0.6), (0,)),
}
VARIANTS = {
    "direct": "direct, one stage",
    "direct-long": "direct, the budget of MiniDisc",
    "maxidisc": "MaxiDisc",
    "minidisc": "MiniDisc, all candidates in every step",
    "minidisc-sampled": "MiniDisc, three candidates in every step",
}


def runs(given: argparse.Namespace) -> Iterator[Run]:
    """Every variant of every task; three seeds for RTE, one for the others."""
    from understudy.recipe.load import load_recipe

    for name in given.tasks or TASKS:
        task = TASKS[name]
        epochs = load_recipe(ROOT / task.recipe).train.epochs
        for seed in given.seeds or task.seeds:
            for variant in given.variants or VARIANTS:
                if variant == "minidisc-sampled" and len(task.assistants) <= 3:
                    continue  # three of three are all
                arguments = [
                    task.recipe, *settings(task, variant), f"task.path={given.data / task.folder}", f"seed={seed}",
                    f"teacher.model={ENCODER}", "teacher.seed=0", "task.split_seed=0", "evaluate.baseline=false", *given.settings,
                ]  # fmt: skip
                about = {"recipe_name": name, "variant": variant, "stage_epochs": epochs}
                yield Run(f"{name}-{variant}-s{seed}", arguments, about, after=_after)


def settings(task: Task, variant: str) -> list[str]:
    """What a variant changes in the recipe."""
    from understudy.lab.stages import units
    from understudy.recipe.load import load_recipe

    recipe = load_recipe(ROOT / task.recipe)
    target, epochs = recipe.student.sparsity, recipe.train.epochs
    assert target is not None
    if variant == "direct":
        return ["method={name: maxidisc, path: []}"]
    if variant == "direct-long":
        scales = [1 - s for s in task.assistants]
        dearest = units(1.0, scales) + units(max(scales), [1 - target])
        times = dearest / units(1.0, [1 - target])
        return ["method={name: maxidisc, path: []}", f"train.epochs={math.ceil(times * epochs)}",
                f"teacher.finetune.epochs={recipe.teacher.finetune.epochs}"]  # type: ignore[union-attr]  # fmt: skip
    if variant == "maxidisc":
        stages = ", ".join(f"{100 * s:g}S" for s in task.assistants)
        return [f"method={{name: maxidisc, assistants: [{stages}], direct: false}}"]
    sandwich = "sampled" if variant == "minidisc-sampled" else "all"
    return [f"method.candidates={list(task.assistants)}", f"method.sandwich={sandwich}"]


def _after(file: Path, folder: Path) -> None:
    """What the method chose and what it cost, from the steps of the run, and scores on resampled rows."""

    def decided() -> dict[str, object]:
        marks = [mark for name in ("choice-*", "trials", "cost") for mark in sorted(folder.glob(f"steps/{name}/done.json"))]
        return {mark.parent.name: json.loads(mark.read_text())["value"] for mark in marks}

    if folder.is_dir():
        extend(file, decided=decided)
    add_samples(file, folder)


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    records = list(read(kept).values())
    if not records:
        return []
    lines = [
        "# MiniDisc and MaxiDisc: is an assistant worth its cost?",
        "",
        "Measured by `python benchmarks/run.py minidisc`; kept in `results/minidisc/`, each run with its command.",
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
        if found := [record for record in records if record["recipe_name"] == name]:
            lines += _task(task.title, found)
    return [*lines, "", "## Commands", "", "```bash", *sorted({r["command"] for r in records if r["seed"] == 0}), "```"]


def _task(title: str, runs: list[Record]) -> list[str]:
    test, metric = headline(runs[0])
    teacher = runs[0]["teacher"]["metrics"][test][metric]["value"]
    costs: dict[str, float] = {}
    rows = []
    for variant, words in VARIANTS.items():
        found = sorted((run for run in runs if run["variant"] == variant), key=lambda run: run["seed"])
        if not found:
            continue
        spent = [_spent(run) for run in found]
        costs[variant] = mean(one["units"] for one in spent)
        scores = spread([run["student"]["metrics"][test][metric]["value"] for run in found], ".3f")
        seconds, chosen = mean(one["seconds"] for one in spent), ", ".join(_assistant(run) for run in found)
        rows.append([words, scores, len(found), f"{costs[variant]:.1f}", f"{seconds:.0f}", chosen])
    head = ["way to the student", "score", "seeds", "cost", "seconds", "assistant"]
    lines = ["", f"## {title}", "", f"{metric} on {test}; the teacher's is {teacher:.3f}.", "", *table(head, rows), ""]
    return [*lines, *_said(runs, costs)]


def _said(runs: list[Record], costs: dict[str, float]) -> list[str]:
    """What the table means, in sentences; what does not hold is said."""
    lines = []
    for ours in ("minidisc", "minidisc-sampled"):
        for theirs in ("maxidisc", "direct-long", "direct"):
            found = difference(*([run for run in runs if run["variant"] == variant] for variant in (ours, theirs)))
            if found is None:
                continue
            gap, low, high = (100 * found[name] for name in ("gap", "low", "high"))
            verdict = "a tie" if low <= 0 <= high else "better" if gap > 0 else "worse"
            seeds = f"{len(found['seeds'])} seeds" if len(found["seeds"]) > 1 else "one seed: about these weights alone"
            lines.append(
                f"* {VARIANTS[ours]}, against {VARIANTS[theirs]}: {gap:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, "
                f"rows and {seeds}), {verdict}, at {costs[ours] / costs[theirs]:.2f} times its cost."
            )
            if theirs == "direct-long" and low <= 0:
                lines.append("  That the assistant pays is not shown: on the same total budget direct is not measurably worse.")
    return lines


def _spent(run: Record) -> dict[str, float]:
    """What all stages of a run cost. `units` are of one stage's epochs, so a longer direct run counts its epochs."""
    decided = run["decided"]
    total = dict(decided["trials"]["total"] if "trials" in decided else decided["cost"]["total"])
    if run["variant"] == "direct-long":
        (given,) = [part for part in run["command"].split() if part.startswith("train.epochs=")]
        total["units"] *= float(given.partition("=")[2]) / run["stage_epochs"]
    return total


def _assistant(run: Record) -> str:
    decided = run["decided"]
    if "trials" in decided:
        return decided["trials"]["chosen"]["way"].split("-")[0]
    choices = [decided[name]["chosen"] for name in sorted(decided) if name.startswith("choice-")]
    return " → ".join(f"{100 * s:g}S" for s in choices) or "–"
