"""What a finished run really cost on the student's side, read off its steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from understudy.compare.work import ArmRun
from understudy.recipe.method import Stage
from understudy.steps import kept_by, read_done, read_mark, step_folder
from understudy.train.record import recorded


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
