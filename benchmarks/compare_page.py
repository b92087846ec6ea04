"""What docs/results.md says about methods against each other, made from results/compare/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

from kept import circumstances

from understudy.compare.advice import ranked, said_of
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.verdict import plain, score
from understudy.report.faceoff import pair
from understudy.report.words import duration, milliseconds, short

TITLES = {
    "mrpc": "MRPC", "conll2003-5k": "CoNLL-2003, 5,000 sentences", "rte": "RTE", "cola": "CoLA",
    "sst2-10k": "SST-2, 10,000 rows", "stsb": "STS-B", "pawsx-en": "PAWS-X en",
}  # fmt: skip
"""File in results/compare/, and name, in the order of the page."""


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    found = _read(kept)
    if not found:
        return []
    lines = [
        "# Every method against every other",
        "",
        "Measured by `python benchmarks/compare.py`, which runs `understudy compare recipes/compare/methods.yaml`; kept in",
        "`results/compare/` with the command. On each task: one teacher, one split, one budget of optimiser steps for all that a",
        "student goes through. What `better` means: [comparison](comparison.md#what-may-be-concluded).",
        "",
        *_over_tasks(found),
    ]
    for task, made in found.items():
        lines += ["", *_one(task, made)]
    return lines


def _over_tasks(found: dict[str, Any]) -> list[str]:
    """Arm by task: the difference to the same budget without a teacher, in points; what is no tie is marked."""
    baseline = _baseline(found)
    lines = [
        (f"Difference to `{baseline}`, in points; **bold** where the corrected comparison says that it is one. *Not beaten*: "
        "tasks on which no other arm is shown to be better."),
        "",
        f"| arm | {' | '.join(f'{TITLES[task]} ({_metric(made)})' for task, made in found.items())} | not beaten |",
        "|---" * (2 + len(found)) + "|",
    ]  # fmt: skip
    for arm in _by_gain(found):
        cells = ["0" if arm == baseline else _gap(made, arm) for made in found.values()]
        lines.append(f"| {arm} | {' | '.join(cells)} | {_unbeaten(found, arm)} |")
    return lines


def short_table(kept: Path) -> list[str]:
    """The README's: teacher and arms, the one that gains most first, with size, speed and scores in points."""
    found = _read(kept)
    if not found:
        return ["Not measured yet: `python benchmarks/compare.py`."]
    titles = [f"{TITLES[task]}{' ¹' if made['seeds'] == 1 else ''}" for task, made in found.items()]
    size = median(made["teacher"]["num_parameters"] for made in found.values())
    scores = [_points(made, made["teacher"]["metrics"][made["headline"]["test"]]) for made in found.values()]
    lines = [
        f"| arm | parameters (M) | speed | {' | '.join(titles)} | not beaten |",
        "|---" * (4 + len(found)) + "|",
        f"| *the teacher* | {size / 1e6:.1f} | 1.0× | {' | '.join(scores)} | |",
    ]
    for arm in _by_gain(found):
        tried = {task: made for task, made in found.items() if arm in ranked(made)}
        each = [made["arms"][arm] for made in tried.values()]
        size = median(one["num_parameters"] for one in each)
        speed = median(
            made["teacher"]["latency_ms"]["median"] / one["latency_ms"]["median"]
            for made, one in zip(tried.values(), each, strict=True)
        )
        cells = [_cell(made, arm) if task in tried else "–" for task, made in found.items()]
        lines.append(f"| `{arm}` | {size / 1e6:.1f} | {speed:.1f}× | {' | '.join(cells)} | {_unbeaten(found, arm)} |")
    return lines


def _read(kept: Path) -> dict[str, Any]:
    """Task -> its comparison, those that are there, in the order of `TITLES`."""
    return {task: json.loads((kept / f"{task}.json").read_text()) for task in TITLES if (kept / f"{task}.json").exists()}


def _baseline(found: dict[str, Any]) -> str:
    return next(iter(found.values()))["baseline"]


def _by_gain(found: dict[str, Any]) -> list[str]:
    """The arms, the one that gains most over the baseline first, as a mean of tasks."""
    baseline = _baseline(found)

    def gain(arm: str) -> float:
        rows = [row for made in found.values() if (row := pair(made, arm, baseline))]
        return fmean(row["difference"] for row in rows) if rows else 0.0

    return sorted(dict.fromkeys(name for made in found.values() for name in ranked(made)), key=lambda arm: (-gain(arm), arm))


def _unbeaten(found: dict[str, Any], arm: str) -> str:
    """On how many of the tasks that an arm was tried on no other arm is shown to be better."""
    tried = [made for made in found.values() if arm in ranked(made)]
    beaten = [any(said_of(made, other, arm) == "better" for other in ranked(made) if other != arm) for made in tried]
    return f"{beaten.count(False)} of {len(tried)}"


def _points(made: dict[str, Any], metrics: dict[str, Any]) -> str:
    return f"{100 * metrics[made['headline']['metric']]:.1f}"


def _cell(made: dict[str, Any], arm: str) -> str:
    """The mean score in points, ± its deviation over seeds; bold where it is better than the baseline's."""
    one = made["arms"][arm]["metrics"][made["headline"]["test"]][made["headline"]["metric"]]
    row = pair(made, arm, made["baseline"])
    said = f"{100 * one['mean']:.1f}" + (f" ± {100 * one['deviation']:.1f}" if one["deviation"] is not None else "")
    return f"**{said}**" if row and row["verdict"] == "better" else said


def _other_scores(made: dict[str, Any]) -> list[str]:
    """What the headline leaves out: every other metric and test set, as differences to the baseline."""
    chosen = (made["headline"]["test"], made["headline"]["metric"])
    columns = [
        (test, metric) for test in made["task"]["tests"] for metric in made["task"]["metrics"] if (test, metric) != chosen
    ]
    if not columns:
        return []
    tests = made["task"]["tests"]
    titles = [f"{DISPLAY.get(metric, metric)}, {test} ({tests[test]:,} rows)" for test, metric in columns]
    lines = ["", f"| against {made['baseline']}, in points | {' | '.join(titles)} |", "|---" * (1 + len(columns)) + "|"]
    for arm in ranked(made):
        if arm != made["baseline"]:
            lines.append(f"| {arm} | {' | '.join(_gap(made, arm, test, metric) for test, metric in columns)} |")
    return lines


def _metric(made: dict[str, Any]) -> str:
    metric = made["headline"]["metric"]
    return DISPLAY.get(metric, metric)


def _gap(made: dict[str, Any], arm: str, test: str | None = None, metric: str | None = None) -> str:
    """On a test set and a metric: the headline's, where none are named."""
    row = pair(made, arm, made["baseline"], test, metric)
    if row is None:
        return "–"
    said = plain(row["difference"], row["metric"], sign=True)
    return said if row["verdict"] == "tie" else f"**{said}**"


def _one(task: str, made: dict[str, Any]) -> list[str]:
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    teacher = made["teacher"]
    rows = made["task"]["tests"][test]
    lines = [
        f"## {TITLES[task]}",
        "",
        (f"`{made['command']}`. {rows:,} rows of {test}, {made['seeds']} seed{'s' if made['seeds'] > 1 else ''}, "
        f"{made['budget']['amount']:g} {made['budget']['unit']}. Teacher: {score(teacher['metrics'][test][metric])} "
        f"{_metric(made)}, {milliseconds(teacher['latency_ms']['median'])}, {short(teacher['num_parameters'])} parameters."),
        "",
        *circumstances(made),
        "",
        (f"| arm | {_metric(made)} | 95 % interval | against {made['baseline']} | latency | parameters | teacher passes | "
        "peak memory | time |"),
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in ranked(made):
        arm = made["arms"][name]
        one, row = arm["metrics"][test][metric], pair(made, name, made["baseline"])
        deviation = f" ± {one['deviation']:.3f}" if one["deviation"] is not None else ""
        against = f"{plain(row['difference'], metric, sign=True)}, {row['verdict']} (p {row['p_holm']:.2g})" if row else "–"
        cells = [name, score(one["mean"]) + deviation, f"{score(one['low'])} to {score(one['high'])}", against,
                 milliseconds(arm["latency_ms"]["median"]), short(arm["num_parameters"]), short(arm["teacher_forwards"]),
                 f"{arm['peak_memory_mb'] / 1000:.1f} GB", duration(arm["spent"]["seconds"])]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += _other_scores(made)
    for name, arm in made["arms"].items():
        lines += [line for one in arm["failed"] for line in ("", f"{name}, seed {one['seed']}, failed: {one['reason']}")]
    return [*lines, "", made["verdict"], *(f"* {one['text']}" for one in made["recommendations"])]
