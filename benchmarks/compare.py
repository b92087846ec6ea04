"""Every method against every other, on several tasks: `understudy compare`, kept. Started twice, the two share the work."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

from record import ENCODER, Record, Run, circumstances, read, table

from understudy.compare.advice import ranked, said_of
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.significance import pair
from understudy.evaluate.verdict import plain
from understudy.figures.words import duration, milliseconds, score, short

NER = ["teacher.finetune.lr=3.0e-4", "train.lr=4.0e-4"]
TASKS: dict[str, tuple[str, str, list[str]]] = {
    "mrpc": ("MRPC", "glue_data/MRPC", ["compare.seeds=3"]),
    "conll2003-5k": ("CoNLL-2003, 5,000 sentences", "conll2003",
                     ["task.name=conll2003", "task.max_train_examples=5000", "compare.seeds=1", *NER]),
    "rte": ("RTE", "glue_data/RTE", ["task.name=glue/rte", "compare.seeds=1", "train.epochs=4"]),
    "cola": ("CoLA", "glue_data/CoLA", ["task.name=glue/cola", "compare.seeds=3", "train.epochs=3"]),
    "sst2-10k": ("SST-2, 10,000 rows", "glue_data/SST-2",
                 ["task.name=glue/sst2", "task.max_train_examples=10000", "compare.seeds=1", "train.epochs=3"]),
    "stsb": ("STS-B", "glue_data/STS-B", ["task.name=glue/stsb", "compare.seeds=3", "train.epochs=4"]),
    # At the other tasks' learning rates the teacher does not learn word order, not in eight epochs.
    "pawsx-en": ("PAWS-X en", "pawsx",
                 ["task={name: pawsx, languages: [en]}", "compare.seeds=1", "teacher.finetune={epochs: 6, lr: 5.0e-5}",
                  "train.epochs=5", "train.lr=1.0e-4"]),
}  # fmt: skip
"""Task -> title, folder below --data, and what it changes of the recipe."""


def runs(given: argparse.Namespace) -> Iterator[Run]:
    """One comparison for each task."""
    for task in given.tasks or TASKS:
        _, folder, settings = TASKS[task]
        fixed = [f"teacher.model={ENCODER}", "evaluate.latency={length: 128, threads: 1}"]
        data = f"task.path={given.data / folder}"
        yield Run(task, ["recipes/compare/methods.yaml", *settings, *fixed, *given.settings, data], {}, command="compare")


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    found = _read(kept)
    if not found:
        return []
    lines = [
        "# Every method against every other",
        "",
        "Measured by `python benchmarks/run.py compare`, which runs `understudy compare recipes/compare/methods.yaml`; kept in",
        "`results/compare/` with the command. On each task: one teacher, one split, one budget of optimiser steps for all that a",
        "student goes through. What `better` means: [comparison](comparison.md#what-may-be-concluded).",
        "",
        *_over_tasks(found),
    ]
    for task, made in found.items():
        lines += ["", *_one(task, made)]
    return lines


def _over_tasks(found: dict[str, Record]) -> list[str]:
    """Arm by task: the difference to the same budget without a teacher, in points; what is no tie is marked."""
    baseline = next(iter(found.values()))["baseline"]
    rows = []
    for arm in _by_gain(found):
        cells = ["0" if arm == baseline else _gap(made, arm) for made in found.values()]
        rows.append([arm, *cells, _unbeaten(found, arm)])
    head = ["arm", *(f"{TASKS[task][0]} ({_metric(made)})" for task, made in found.items()), "not beaten"]
    said = (
        f"Difference to `{baseline}`, in points; **bold** where the corrected comparison says that it is one. *Not beaten*: "
        "tasks on which no other arm is shown to be better."
    )
    return [said, "", *table(head, rows)]


def short_table(kept: Path) -> list[str]:
    """The README's: teacher and arms, the one that gains most first, with size, speed and scores in points."""
    found = _read(kept)
    if not found:
        return ["Not measured yet: `python benchmarks/run.py compare`."]
    head = [f"{TASKS[task][0]}{' ¹' if made['seeds'] == 1 else ''}" for task, made in found.items()]
    size = median(made["teacher"]["num_parameters"] for made in found.values())
    points = [100 * made["teacher"]["metrics"][made["headline"]["test"]][made["headline"]["metric"]] for made in found.values()]
    rows = [["*the teacher*", f"{size / 1e6:.1f}", "1.0×", *(f"{value:.1f}" for value in points), ""]]
    for arm in _by_gain(found):
        tried = {task: (made, made["arms"][arm]) for task, made in found.items() if arm in ranked(made)}
        size = median(one["num_parameters"] for _, one in tried.values())
        speed = median(made["teacher"]["latency_ms"]["median"] / one["latency_ms"]["median"] for made, one in tried.values())
        cells = [_cell(made, arm) if task in tried else "–" for task, made in found.items()]
        rows.append([f"`{arm}`", f"{size / 1e6:.1f}", f"{speed:.1f}×", *cells, _unbeaten(found, arm)])
    lines = table(["arm", "parameters (M)", "speed", *head, "not beaten"], rows)
    return [line.replace(" |  |", " | |") for line in lines]


def _read(kept: Path) -> dict[str, Record]:
    """Task -> its comparison, those that are there, in the order of `TASKS`."""
    there = read(kept)
    return {task: there[task] for task in TASKS if task in there}


def _by_gain(found: dict[str, Record]) -> list[str]:
    """The arms, the one that gains most over the baseline first, as a mean of tasks."""

    def gain(arm: str) -> float:
        rows = [row for made in found.values() if (row := pair(made, arm, next(iter(found.values()))["baseline"]))]
        return fmean(row["difference"] for row in rows) if rows else 0.0

    return sorted(dict.fromkeys(name for made in found.values() for name in ranked(made)), key=lambda arm: (-gain(arm), arm))


def _unbeaten(found: dict[str, Record], arm: str) -> str:
    """On how many of the tasks that an arm was tried on no other arm is shown to be better."""
    tried = [made for made in found.values() if arm in ranked(made)]
    beaten = [any(said_of(made, other, arm) == "better" for other in ranked(made) if other != arm) for made in tried]
    return f"{beaten.count(False)} of {len(tried)}"


def _cell(made: Record, arm: str) -> str:
    """The mean score in points, ± its deviation over seeds; bold where it is better than the baseline's."""
    one = made["arms"][arm]["metrics"][made["headline"]["test"]][made["headline"]["metric"]]
    row = pair(made, arm, made["baseline"])
    said = f"{100 * one['mean']:.1f}" + (f" ± {100 * one['deviation']:.1f}" if one["deviation"] is not None else "")
    return f"**{said}**" if row and row["verdict"] == "better" else said


def _metric(made: Record) -> str:
    metric = made["headline"]["metric"]
    return DISPLAY.get(metric, metric)


def _gap(made: Record, arm: str, test: str | None = None, metric: str | None = None) -> str:
    """On a test set and a metric: the headline's, where none are named."""
    row: Any = pair(made, arm, made["baseline"], test, metric)
    if row is None:
        return "–"
    said = plain(row["difference"], row["metric"], sign=True)
    return said if row["verdict"] == "tie" else f"**{said}**"


def _one(task: str, made: Record) -> list[str]:
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    teacher, tests = made["teacher"], made["task"]["tests"]
    rows = []
    for name in ranked(made):
        arm = made["arms"][name]
        one, row = arm["metrics"][test][metric], pair(made, name, made["baseline"])
        deviation = f" ± {one['deviation']:.3f}" if one["deviation"] is not None else ""
        against = f"{plain(row['difference'], metric, sign=True)}, {row['verdict']} (p {row['p_holm']:.2g})" if row else "–"
        rows.append([
            name, score(one["mean"]) + deviation, f"{score(one['low'])} to {score(one['high'])}", against,
            milliseconds(arm["latency_ms"]["median"]), short(arm["num_parameters"]), short(arm["teacher_forwards"]),
            f"{arm['peak_memory_mb'] / 1000:.1f} GB", duration(arm["spent"]["seconds"]),
        ])  # fmt: skip
    against = f"against {made['baseline']}"
    head = ["arm", _metric(made), "95 % interval", against, "latency", "parameters", "teacher passes", "peak memory", "time"]
    others = [(t, m) for t in tests for m in made["task"]["metrics"] if (t, m) != (test, metric)]
    lines = [
        f"## {TASKS[task][0]}",
        "",
        (f"`{made['command']}`. {tests[test]:,} rows of {test}, {made['seeds']} seed{'s' if made['seeds'] > 1 else ''}, "
        f"{made['budget']['amount']:g} {made['budget']['unit']}. Teacher: {score(teacher['metrics'][test][metric])} "
        f"{_metric(made)}, {milliseconds(teacher['latency_ms']['median'])}, {short(teacher['num_parameters'])} parameters."),
        "",
        *circumstances(made),
        "",
        *table(head, rows),
    ]  # fmt: skip
    if others:  # what the headline leaves out, as differences to the baseline
        titles = [f"{DISPLAY.get(m, m)}, {t} ({tests[t]:,} rows)" for t, m in others]
        arms = [arm for arm in ranked(made) if arm != made["baseline"]]
        gaps = [[arm, *(_gap(made, arm, t, m) for t, m in others)] for arm in arms]
        lines += ["", *table([f"{against}, in points", *titles], gaps)]
    for name, arm in made["arms"].items():
        lines += [line for one in arm["failed"] for line in ("", f"{name}, seed {one['seed']}, failed: {one['reason']}")]
    return [*lines, "", made["verdict"], *(f"* {one['text']}" for one in made["recommendations"])]
