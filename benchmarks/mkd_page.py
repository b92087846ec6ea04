"""What docs/results.md says about mKD, made from results/mkd/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kept import circumstances
from mkd import STEPS, WAYS

from understudy.evaluate.compare import over_seeds

STUDENTS = {"match": "the teacher's own layers 0, 2 and 4", "other": "another student, half as wide"}
"""Regime -> who learns."""


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*-s*.json"))]
    if not records:
        return []
    lines = [
        "# mKD: which ways of moving an adapter help?",
        "",
        "Measured by `python benchmarks/mkd.py run`; kept in `results/mkd/`, each run with its command. Scores in points: those",
        "after so many steps on the selection rows, the end on the test rows. Intervals of 95 %: over the test rows where there",
        "is one seed, over seeds (Student's t) where there are several. The last column is the first look at which a student is",
        "as good on the selection rows as `scratch` ever gets, seed by seed, of the steps that both are trained.",
        "",
        *circumstances(records[0]),
    ]
    for task, regime, adapter in sorted({(r["task_name"], r["regime"], r["adapter"]) for r in records}):
        runs = [r for r in records if (r["task_name"], r["regime"], r["adapter"]) == (task, regime, adapter)]
        lines += ["", *_group(task, regime, adapter, runs)]
    return lines


def _group(task: str, regime: str, adapter: str, runs: list[dict[str, Any]]) -> list[str]:
    """One task with one student: a row for each way, and what can be said."""
    teacher = 100 * _end(runs[0], "teacher")["value"]
    lines = [
        f"## {task}, {STUDENTS[regime]}, {adapter}",
        "",
        f"Teacher with its adapter: {teacher:.1f} ({_metric(runs[0])}).",
        "",
    ]
    head = ["adapter", "seeds", *(f"{step} steps" for step in STEPS), "end (test)", "against scratch", "as good as scratch after"]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    verdicts: dict[str, list[str]] = {"helps": [], "does harm": [], "cannot be told from a fresh adapter": []}
    for way in ("scratch", *WAYS):
        one_each = {r["seed"]: r for r in runs}.values()  # all ways of a seed have the same baseline
        chosen = list(one_each) if way == "scratch" else [r for r in runs if r["way"] == way]
        if chosen:
            lines.append(_row(way, chosen))
        if chosen and way != "scratch":
            low, high = _gain(chosen)[1:]
            said = "helps" if low > 0 else "does harm" if high < 0 else "cannot be told from a fresh adapter"
            verdicts[said].append(f"`{way}`")
    said = [f"In the end {said}: {', '.join(ways)}." for said, ways in verdicts.items() if ways]
    return [*lines, "", " ".join([*said, *_against_chance(runs)])]


def _against_chance(runs: list[dict[str, Any]]) -> list[str]:
    """What finding the dimensions by correlation adds to choosing them at random, seed by seed; empty without both."""
    lsa, random = ({r["seed"]: 100 * _end(r, "student")["value"] for r in runs if r["way"] == way} for way in ("lsa", "random"))
    gaps = [lsa[seed] - random[seed] for seed in sorted(lsa.keys() & random.keys())]
    if not gaps:
        return []
    found = over_seeds(gaps)
    interval = "one seed" if found["low"] is None else f"{found['low']:+.1f} to {found['high']:+.1f} over {len(gaps)} seeds"
    return [f"Correlation (`lsa`) against chance (`random`): {found['mean']:+.1f} points ({interval})."]


def _row(way: str, runs: list[dict[str, Any]]) -> str:
    model = "baseline" if way == "scratch" else "student"
    cells = [way, str(len(runs))]
    for step in STEPS:
        values = [100 * value for r in runs if (value := _at(r, model, step)) is not None]
        cells.append(_over_seeds(values) if values else "–")
    cells.append(_shown(*_scores(runs, model)))
    cells.append("–" if way == "scratch" else _shown(*_gain(runs), signed=True))
    cells.append("–" if way == "scratch" else _caught_up(runs))
    return f"| {' | '.join(cells)} |"


def _at(record: dict[str, Any], model: str, step: int) -> float | None:
    """The selection score after so many steps; None where the training was shorter."""
    metric = _metric(record)
    return next((scores[metric] for at, scores in record["curves"][model] if at == step), None)


def _caught_up(runs: list[dict[str, Any]]) -> str:
    """The first looks, seed by seed, at which students are as good on the selection rows as the fresh adapter ever gets."""
    found = []
    for run in runs:
        metric, curves = _metric(run), run["curves"]
        goal = max(scores[metric] for _, scores in curves["baseline"])
        found.append(next((at for at, scores in curves["student"] if scores[metric] >= goal), None))
    last = runs[0]["curves"]["baseline"][-1][0]
    return f"{', '.join('never' if at is None else str(at) for at in found)} of {last}"


def _end(record: dict[str, Any], model: str) -> dict[str, float]:
    """The score on the first test set, with its interval over rows."""
    return next(iter(record[model]["metrics"].values()))[_metric(record)]


def _metric(record: dict[str, Any]) -> str:
    return record["task"]["select"]


def _scores(runs: list[dict[str, Any]], model: str) -> tuple[float, float | None, float | None]:
    return _interval([_end(run, model) for run in runs])


def _gain(runs: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Student minus fresh adapter."""
    mean, low, high = _interval([next(iter(run["gain"].values()))[_metric(run)] for run in runs])
    assert low is not None and high is not None
    return mean, low, high


def _interval(each: list[dict[str, float]]) -> tuple[float, float | None, float | None]:
    """Mean, low and high in points: over seeds, or of the one seed over rows."""
    if len(each) == 1:
        return 100 * each[0]["value"], 100 * each[0]["low"], 100 * each[0]["high"]
    found = over_seeds([100 * one["value"] for one in each])
    return found["mean"], found["low"], found["high"]


def _over_seeds(values: list[float]) -> str:
    found = over_seeds(values)
    return f"{found['mean']:.1f}" if found["low"] is None else _shown(found["mean"], found["low"], found["high"])


def _shown(mean: float, low: float | None, high: float | None, *, signed: bool = False) -> str:
    mark = "+" if signed else ""
    return f"{mean:{mark}.1f} [{low:{mark}.1f}, {high:{mark}.1f}]"
