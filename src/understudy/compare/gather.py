"""From the runs of a comparison to comparison.json (docs/comparison.md): scores, what they cost, and what may be concluded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from understudy.base import disk
from understudy.base.errors import DataError
from understudy.base.progress import say
from understudy.compare.advice import fronts, recommendations, verdict
from understudy.compare.arms import Plan
from understudy.compare.work import ArmRun
from understudy.data.tasks import data_of
from understudy.data.types import TaskData
from understudy.evaluate import measure
from understudy.evaluate.metrics import limits
from understudy.evaluate.predictions import Predictions
from understudy.evaluate.significance import RESAMPLES, compared, scores, summary
from understudy.lab.saved import read_predictions
from understudy.recipe.comparison import BASELINE, Comparison
from understudy.recipe.method import Stage
from understudy.steps import kept_by, read_done, read_mark, safe, step_folder
from understudy.train.record import recorded

VERSION = 1
_COSTS = ("num_parameters", "num_parameters_nonembedding", "size_mb", "flops")


def gather(comparison: Comparison, plan: Plan, runs: Sequence[ArmRun], folder: Path) -> dict[str, Any]:
    """The comparison of all runs that are finished; those that are not are named with their reasons.

    Raises:
        DataError: none is finished.
    """
    done = [run for run in runs if run.finished]
    if not done:
        first = runs[0].outcome.get("reason", "")
        raise DataError(f"No arm of {folder} has finished. {runs[0].name}: {first}")
    recipe = plan.arms[0].recipe
    data = data_of(recipe)
    results = {run.name: disk.read_json(run.folder / "result.json") for run in done}
    by_arm = {arm.name: [run for run in done if run.arm.name == arm.name] for arm in plan.arms}
    tested = _tested(data, by_arm, seed=recipe.seed)
    times = _latencies(data, {name: of[0] for name, of in by_arm.items() if of}, folder)
    kind = comparison.compare.budget
    arms = {}
    for arm in plan.arms:
        costs = [spent(run, results[run.name], rows=len(data.train), kind=kind) for run in by_arm[arm.name]]
        arms[arm.name] = {
            "method": arm.recipe.method.name,
            "changes": arm.changes,
            "epochs": _epochs(arm.recipe.model_dump(mode="json"), arm.stages),
            "planned": arm.spends,
            "notes": list(arm.notes),
            "failed": [
                {"seed": run.recipe.seed, "reason": run.outcome.get("reason") or "not finished"}
                for run in runs if run.arm is arm and not run.finished
            ],
            "seeds": [run.recipe.seed for run in by_arm[arm.name]],
            **_costs(by_arm[arm.name], costs, results),
            "latency_ms": times.get(arm.name),
            "metrics": {
                test: {
                    metric: summary(score, seed=recipe.seed, limits=limits(metric)) | {"values": score.values.tolist()}
                    for metric, score in found[arm.name].items()
                }
                for test, found in tested.items() if arm.name in found
            },
            "curve": curve(by_arm[arm.name][0], costs[0], data.task.select) if costs and data.task.kind.labelled else [],
        }  # fmt: skip
    first = results[done[0].name]
    metric = data.task.select if data.task.select in data.task.metrics else data.task.metrics[0]
    made: dict[str, Any] = {
        "version": VERSION,
        "task": first["task"],
        "headline": {"test": next(iter(data.tests)), "metric": metric},
        "budget": {"kind": kind, "amount": plan.total, "unit": UNITS[kind], "epochs": comparison.train.epochs},
        "seeds": comparison.compare.seeds,
        "baseline": BASELINE,
        "resamples": RESAMPLES,
        "teacher": _teacher(done, results, times.get("teacher")),
        "arms": arms,
        "comparisons": [
            {"test": test, "metric": metric, **row}
            for test, found in tested.items() for metric in data.task.metrics
            for row in compared({arm: by_metric[metric] for arm, by_metric in found.items()}, metric, seed=recipe.seed)
        ],
    }  # fmt: skip
    made["fronts"] = fronts(made)
    made["recommendations"] = recommendations(made)
    made["verdict"] = verdict(made)
    return made | {"notes": list(data.notes), "versions": measure.versions(), "machine": measure.machine()}


UNITS = {
    "steps": "epochs of optimiser steps",
    "flops": "epochs of the whole teacher's training work",
    "seconds": "seconds of training",
}


def _tested(data: TaskData, by_arm: Mapping[str, Sequence[ArmRun]], *, seed: int) -> dict[str, Any]:
    """test set -> arm -> metric -> Score, all on the same rows."""
    found = {}
    for test, examples in data.tests.items():
        made: dict[str, dict[int, Predictions]] = {}
        for arm, runs in by_arm.items():
            for run in runs:
                place = step_folder(run.folder, f"predict-student-{safe(test)}")
                made.setdefault(arm, {})[run.seed] = read_predictions(place, examples, data.task.kind)
        found[test] = scores(data.task, made, seed=seed)
    return found


def _epochs(recipe: Mapping[str, Any], stages: Sequence[Any]) -> dict[str, int]:
    """The settings that say how long, and what they are in this arm."""
    found = {}
    for key in dict.fromkeys(stage.setting for stage in stages):
        value: Any = recipe
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found


def _costs(runs: Sequence[ArmRun], costs: Sequence[dict[str, Any]], results: Mapping[str, Any]) -> dict[str, Any]:
    """Means over seeds of what an arm cost to make and costs to keep; the largest memory."""
    if not runs:
        return {"spent": None, "teacher_forwards": None, "peak_memory_mb": None, **dict.fromkeys(_COSTS)}
    found: dict[str, Any] = {
        "spent": {key: fmean(one[key] for one in costs) for key in ("amount", "steps", "seconds", "training_flops")}
        | {"stages": costs[0]["stages"]},
        "teacher_forwards": fmean(results[run.name]["teacher_forwards"] for run in runs),
        "peak_memory_mb": max(run.outcome.get("peak_memory_mb", 0.0) for run in runs),
    }
    return found | {key: fmean(results[run.name]["student"][key] for run in runs) for key in _COSTS}


def _teacher(done: Sequence[ArmRun], results: Mapping[str, Any], latency: Any) -> dict[str, Any] | None:
    """The teacher of most arms (mkd trains an adapter of it), and the seconds its training took, once for all."""
    for run in sorted(done, key=lambda run: run.recipe.how.trains != "all"):
        result = results[run.name]
        if result["teacher"] and result["teacher"]["flops"] is not None:
            found = result["teacher"]["metrics"]
            metrics = {test: {name: one["value"] for name, one in by.items()} for test, by in found.items()}
            about = {key: result["teacher"][key] for key in ("name", *_COSTS)}
            return about | {"metrics": metrics, "latency_ms": latency, "seconds": result["train_seconds"].get("teacher")}
    return None


def _latencies(data: TaskData, runs: Mapping[str, ArmRun], folder: Path) -> dict[str, Any]:
    """All students, and the teacher, in turns, by the protocol of every report; measured again only if one has changed.

    Each run has measured its own, but at another time, perhaps beside another worker: those are not comparable.
    """
    from understudy.models.load import load_model
    from understudy.train.devices import accelerator

    places = {name: run.folder / "student" for name, run in runs.items()}
    teacher = _teacher_folder(list(runs.values()))
    if teacher is not None:
        places["teacher"] = teacher
    settings = next(iter(runs.values())).recipe.evaluate.latency
    about = {"models": {name: disk.checksum(place / disk.MANIFEST) for name, place in places.items()}, **settings.model_dump()}
    kept = folder / "latencies.json"
    if kept.exists() and (before := disk.read_json(kept))["about"] == about:
        return before["latency_ms"]
    say(f"Measuring {len(places)} models, in turns.")
    device = accelerator().device
    nets = {name: load_model(str(place), task=data.task, key=name).net.to(device) for name, place in places.items()}
    found = measure.latency_of(nets, settings, device)
    disk.write_json(kept, {"about": about, "latency_ms": found})
    return found


def _teacher_folder(runs: Sequence[ArmRun]) -> Path | None:
    """The fine-tuned teacher as it was saved; None for one that is used as it came."""
    for run in sorted(runs, key=lambda run: run.recipe.how.trains != "all"):
        mark = run.folder / "steps" / "teacher" / "step.json"
        if mark.exists() and read_mark(mark):
            return step_folder(run.folder, "teacher") / "model"
    return None


def spent(run: ArmRun, result: dict[str, Any], *, rows: int, kind: str) -> dict[str, Any]:
    """{"amount", "steps", "seconds", "training_flops", "stages": [{"stage", "steps", "seconds", "amount"}]}.

    `amount` is in the units of the budget. `training_flops` counts three forward passes of what was trained for each row,
    at `evaluate.latency.length` tokens: more than were really computed, and for all arms alike.
    """
    recipe = run.recipe
    per_epoch = math.ceil(rows / recipe.train.batch_size)
    student, teacher = result["student"], result["teacher"]
    teacher = teacher if teacher and teacher["flops"] is not None else None
    lines, kept = [], kept_by(run.folder)
    for stage in run.arm.stages:
        steps, seconds = recipe.how.spent(recipe.method, stage, kept, rows) or _fits(run.folder, stage)
        share = stage.share
        if recipe.student.searched and stage.name == "student" and teacher:  # known now
            share = student["flops"] / teacher["flops"]
        amount = {"steps": steps / per_epoch, "flops": steps / per_epoch * share, "seconds": seconds}[kind]
        lines.append({"stage": stage.name, "steps": steps, "seconds": seconds, "amount": amount, "share": share})
    whole = teacher["flops"] if teacher else student["flops"] / max(run.arm.stages[-1].share, 1e-9)
    row = 3 * whole / recipe.evaluate.latency.batch_size * recipe.train.batch_size
    return {
        "amount": sum(line["amount"] for line in lines),
        "steps": sum(line["steps"] for line in lines),
        "seconds": sum(line["seconds"] for line in lines),
        "training_flops": sum(line["steps"] * line["share"] for line in lines) * row,
        "stages": [{key: line[key] for key in ("stage", "steps", "seconds", "amount")} for line in lines],
    }


def _fits(folder: Path, stage: Stage) -> tuple[int, float]:
    """Optimiser steps and seconds of the trainings of a stage."""
    names = [stage.name, *(f"{stage.name}-{number}" for number in range(2, stage.fits + 1))]
    done = [read_done(step_folder(folder, name)) for name in names if (folder / "steps" / name / "step.json").exists()]
    return sum(one["steps"] for one in done), sum(one["seconds"] for one in done)


def curve(run: ArmRun, cost: dict[str, Any], metric: str) -> list[list[float]]:
    """[[amount spent so far, score on held-out rows], …] of the training that made the student, what came before counted."""
    name = run.recipe.how.student_step(run.recipe.method, run.recipe, kept_by(run.folder))
    step = run.folder / "steps" / name / "step.json"
    if not step.exists():
        return []
    read_mark(step)
    own = next((line for line in cost["stages"] if line["stage"] == name), cost["stages"][-1])
    before = cost["amount"] - own["amount"]
    rows = recorded(step_folder(run.folder, name))
    scored = [row for row in rows if isinstance(row.get("select"), dict) and metric in row["select"]]
    return [[before + own["amount"] * row["step"] / max(1, own["steps"]), row["select"][metric]] for row in scored]
