"""What docs/results.md says about methods against each other, made from results/compare/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kept import circumstances

from understudy.compare.advice import ranked
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.verdict import plain, score
from understudy.report.faceoff import pair
from understudy.report.words import duration, milliseconds, short


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))}
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
    arms = list(dict.fromkeys(name for made in found.values() for name in made["arms"]))
    baseline = next(iter(found.values()))["baseline"]
    lines = [
        f"Difference to `{baseline}`, in points; **bold** where the corrected comparison says that it is one:",
        "",
        f"| arm | {' | '.join(f'{task} ({_metric(made)})' for task, made in found.items())} |",
        "|---" * (1 + len(found)) + "|",
    ]
    for arm in arms:
        if arm != baseline:
            lines.append(f"| {arm} | {' | '.join(_gap(made, arm) for made in found.values())} |")
    return lines


def _metric(made: dict[str, Any]) -> str:
    metric = made["headline"]["metric"]
    return DISPLAY.get(metric, metric)


def _gap(made: dict[str, Any], arm: str) -> str:
    row = pair(made, arm, made["baseline"])
    if row is None:
        return "–"
    said = f"{100 * row['difference']:+.1f}"
    return said if row["verdict"] == "tie" else f"**{said}**"


def _one(task: str, made: dict[str, Any]) -> list[str]:
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    teacher = made["teacher"]
    rows = made["task"]["tests"][test]
    lines = [
        f"## {task}",
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
    for name, arm in made["arms"].items():
        lines += [line for one in arm["failed"] for line in ("", f"{name}, seed {one['seed']}, failed: {one['reason']}")]
    return [*lines, "", made["verdict"], *(f"* {one['text']}" for one in made["recommendations"])]
