"""Which ways of moving an adapter help, and how much training they save.

Teacher: all-MiniLM-L6-v2 with a trained adapter. Regimes: `match`, its own layers 0, 2 and 4; `other`, a student of its own
kind but half the width, made from it on plain text (the first run, `narrow`). Ways: a fresh adapter, SKIP, the corrected
average, a random choice of dimensions, correlation, and correlation with the teacher's outputs in the loss. Scores after 0, 100
and 500 steps are those of the selection rows, the last those of the test rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from record import ENCODER, Record, Run, circumstances, extend, read, table

from understudy.evaluate.bootstrap import over_seeds

TASKS: dict[str, list[str]] = {
    "conll2003": ["task={name: conll2003}", "conll2003"],
    "wikineural-en": ["task={name: wikineural, languages: [en]}", "wikineural"],
    "mnli-3k": ["task={name: glue/mnli}", "glue_data/MNLI"],
    "pawsx-en": ["task={name: pawsx, languages: [en]}", "pawsx"],
}
"""Task -> its section, and its folder below --data."""
VARIANTS: dict[str, list[str]] = {
    "skip": ["method.layer_map=skip", "method.align=none"],
    "avg": ["method.layer_map=avg", "method.align=none"],
    "random": ["method.layer_map=skip", "method.align=random"],
    "lsa": ["method.layer_map=skip", "method.align=lsa"],
    "lsa-avg": ["method.layer_map=avg", "method.align=lsa"],
    "lsa-soft": ["method.layer_map=skip", "method.align=lsa", "method.soft_label_weight=1.0"],
}
"""The ways; `scratch`, a fresh adapter on the same rows and steps, is the baseline of every run."""
REGIMES = {"match": list(VARIANTS), "other": ["random", "lsa", "lsa-avg", "lsa-soft"]}
STUDENTS = {"match": "the teacher's own layers 0, 2 and 4", "other": "another student, half as wide"}
STEPS = (0, 100, 500)
ADAPTER = "pfeiffer[reduction_factor=8]"


def runs(given: argparse.Namespace) -> Iterator[Run]:
    """The narrower student, then every way of every task, regime and seed."""
    books = given.data / "text" / "books_en"
    files = f"task.files={{train: {books / 'train.txt'}, dev: {books / 'valid.txt'}, test: {books / 'test.txt'}}}"
    yield Run("narrow", ["recipes/text/minilm-192.yaml", files, f"teacher.model={ENCODER}"], {})
    small = given.out / "narrow" / "student"
    for seed in given.seeds or (0, 1, 2):
        for task in given.tasks or TASKS:
            section, folder = TASKS[task]
            for regime, ways in REGIMES.items():
                student = "student={keep: [0, 2, 4]}" if regime == "match" else f"student={{model: {small}}}"
                for way in (way for way in ways if way in (given.variants or VARIANTS)):
                    arguments = [
                        "recipes/ner/conll2003-mkd.yaml", section, f"task.path={given.data / folder}", "task.split_seed=0",
                        student, f"teacher.model={ENCODER}", "teacher.seed=0", f"seed={seed}", f"train.adapter={ADAPTER}",
                        f"train.evaluate_at={list(STEPS)}", *VARIANTS[way], *given.settings,
                    ]  # fmt: skip
                    about = {"task_name": task, "regime": regime, "way": way, "adapter": ADAPTER}
                    yield Run(f"{task}-{regime}-{ADAPTER.partition('[')[0]}-{way}-s{seed}", arguments, about, after=_after)


def _after(file: Path, folder: Path) -> None:
    """Add the selection scores by step of student and baseline to the record."""
    from understudy.steps import step_folder

    def curves() -> dict[str, Any]:
        found = {}
        for model in ("student", "baseline"):
            rows = [json.loads(line) for line in (step_folder(folder, model) / "metrics.jsonl").read_text().splitlines()]
            found[model] = [[row["step"], row["select"]] for row in rows if "select" in row]
        return found

    if folder.exists():
        extend(file, curves=curves)


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    records = list(read(kept, "*-s*.json").values())
    if not records:
        return []
    lines = [
        "# mKD: which ways of moving an adapter help?",
        "",
        "Measured by `python benchmarks/run.py mkd`; kept in `results/mkd/`, each run with its command. Scores in points: those",
        "after so many steps on the selection rows, the end on the test rows. Intervals of 95 %: over the test rows where there",
        "is one seed, over seeds (Student's t) where there are several. The last column is the first look at which a student is",
        "as good on the selection rows as `scratch` ever gets, seed by seed, of the steps that both are trained.",
        "",
        *circumstances(records[0]),
    ]
    for group in sorted({(r["task_name"], r["regime"], r["adapter"]) for r in records}):
        found = [r for r in records if (r["task_name"], r["regime"], r["adapter"]) == group]
        lines += ["", *_group(*group, found)]
    return lines


def _group(task: str, regime: str, adapter: str, runs: list[Record]) -> list[str]:
    """One task with one student: a row for each way, and what can be said."""
    rows, verdicts = [], {"helps": [], "does harm": [], "cannot be told from a fresh adapter": []}
    for way in ("scratch", *VARIANTS):
        one_each = {r["seed"]: r for r in runs}.values()  # all ways of a seed have the same baseline
        chosen = list(one_each) if way == "scratch" else [r for r in runs if r["way"] == way]
        if not chosen:
            continue
        rows.append(_row(way, chosen))
        if way != "scratch":
            gain = _gain(chosen)
            said = "helps" if gain["low"] > 0 else "does harm" if gain["high"] < 0 else list(verdicts)[2]
            verdicts[said].append(f"`{way}`")
    head = ["adapter", "seeds", *(f"{step} steps" for step in STEPS), "end (test)", "against scratch", "as good as scratch after"]
    said = [f"In the end {said}: {', '.join(ways)}." for said, ways in verdicts.items() if ways]
    return [
        f"## {task}, {STUDENTS[regime]}, {adapter}",
        "",
        f"Teacher with its adapter: {100 * _end(runs[0], 'teacher')['value']:.1f} ({runs[0]['task']['select']}).",
        "",
        *table(head, rows),
        "",
        " ".join([*said, *_against_chance(runs)]),
    ]


def _against_chance(runs: list[Record]) -> list[str]:
    """What finding the dimensions by correlation adds to choosing them at random, seed by seed; empty without both."""
    lsa, random = ({r["seed"]: 100 * _end(r, "student")["value"] for r in runs if r["way"] == way} for way in ("lsa", "random"))
    gaps = [lsa[seed] - random[seed] for seed in sorted(lsa.keys() & random.keys())]
    if not gaps:
        return []
    found = over_seeds(gaps)
    interval = "one seed" if found["low"] is None else f"{found['low']:+.1f} to {found['high']:+.1f} over {len(gaps)} seeds"
    return [f"Correlation (`lsa`) against chance (`random`): {found['mean']:+.1f} points ({interval})."]


def _row(way: str, runs: list[Record]) -> list[object]:
    scratch = way == "scratch"
    model = "baseline" if scratch else "student"
    looks = []
    for step in STEPS:
        values = [100 * value for run in runs if (value := _at(run, model, step)) is not None]
        looks.append(_shown(over_seeds(values)) if values else "–")
    end = _shown(_over([_end(run, model) for run in runs]))
    against = ["–", "–"] if scratch else [_shown(_gain(runs), "+"), _caught_up(runs)]
    return [way, len(runs), *looks, end, *against]


def _at(run: Record, model: str, step: int) -> float | None:
    """The selection score after so many steps; None where the training was shorter."""
    return next((scores[run["task"]["select"]] for at, scores in run["curves"][model] if at == step), None)


def _caught_up(runs: list[Record]) -> str:
    """The first looks, seed by seed, at which students are as good on the selection rows as the fresh adapter ever gets."""
    found = []
    for run in runs:
        metric, curves = run["task"]["select"], run["curves"]
        goal = max(scores[metric] for _, scores in curves["baseline"])
        found.append(next((at for at, scores in curves["student"] if scores[metric] >= goal), None))
    last = runs[0]["curves"]["baseline"][-1][0]
    return f"{', '.join('never' if at is None else str(at) for at in found)} of {last}"


def _end(run: Record, model: str) -> dict[str, float]:
    """The score on the first test set, with its interval over rows."""
    return next(iter(run[model]["metrics"].values()))[run["task"]["select"]]


def _gain(runs: list[Record]) -> dict[str, Any]:
    """Student minus fresh adapter."""
    return _over([next(iter(run["gain"].values()))[run["task"]["select"]] for run in runs])


def _over(each: list[dict[str, float]]) -> dict[str, Any]:
    """{"mean", "low", "high"} in points: over seeds, or of the one seed over rows."""
    if len(each) > 1:
        return over_seeds([100 * one["value"] for one in each])
    return {"mean": 100 * each[0]["value"], "low": 100 * each[0]["low"], "high": 100 * each[0]["high"]}


def _shown(found: Mapping[str, Any], mark: str = "") -> str:
    if found["low"] is None:
        return f"{found['mean']:.1f}"
    return f"{found['mean']:{mark}.1f} [{found['low']:{mark}.1f}, {found['high']:{mark}.1f}]"
