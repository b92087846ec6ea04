"""What a fit is made of: who learns what from whom on which rows, what names it, and how its weights are judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.cache import LiveTeacher, content_digest
from understudy.data.encode import Encoded
from understudy.data.types import TaskData
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict
from understudy.evaluate.predictions import Predictions
from understudy.lab.bare import held_out_name, loss_by_row
from understudy.lab.encodings import require_same_masks, same_task
from understudy.lab.keys import VERSIONS, describe, settings_key
from understudy.lab.models import Source
from understudy.lab.saved import write_predictions
from understudy.models.model import Model, digest
from understudy.objective import Objective
from understudy.recipe.settings import TrainSettings
from understudy.train.devices import accelerator, resolve_precision
from understudy.train.learner import held_out_loss
from understudy.train.loop import Fit
from understudy.train.views import Views

if TYPE_CHECKING:
    from understudy.lab.lab import Lab


@dataclass(frozen=True)
class Job:
    """One fit: who learns what from whom, on which rows."""

    name: str
    model: Model
    objective: Objective
    teacher: Source | None
    settings: TrainSettings
    rows: TaskData
    train: list[Encoded]
    select: Encoded
    seed: int
    views: Views | None = None


def fit_key(lab: Lab, job: Job, about: dict[str, Any] | None) -> dict[str, Any]:
    """Everything that decides the result of a fit."""
    task = job.rows.task
    # Entries that came later are left out where they say nothing new, so that steps made before are still found.
    rounded = {"signals": lab.recipe.cache.dtype} if job.teacher and lab.recipe.cache.dtype != "fp32" else {}
    own_task = {} if same_task(task, lab.data.task) else {"task": [task.kind, *task.labels]}
    return {
        "kind": "fit",
        "version": VERSIONS["fit"],
        "name": job.name,
        "model": digest(job.model.net),
        "objective": describe(job.objective),
        "about": about or {},
        "teacher": job.teacher.digest if job.teacher else None,
        "train": [content_digest(part) for part in job.train],
        "select": [content_digest(job.select), task.select],
        "settings": settings_key(job.settings),
        "precision": resolve_precision(job.settings.precision, lab.device),
        "device": lab.device.type,
        "ranks": accelerator().num_processes,
        "seed": job.seed,
        **own_task,
        **rounded,
    }


def prepared(lab: Lab, job: Job, folder: Path) -> Fit:
    """A job with its teacher's signals at hand."""
    teachers = None
    if job.teacher is not None and job.objective.needs_teacher:
        if job.rows.task.kind == "text":
            require_same_masks(lab.encoded(job.teacher.model, job.rows.train, rows=job.rows), job.train)
        needs = job.objective.needs_teacher
        teachers = [lab.signals(job.teacher, needs, part, rows=job.rows) for part in range(len(job.train))]
    return Fit(
        folder=folder,
        name=job.name,
        model=job.model,
        data=job.train,
        objective=job.objective,
        settings=job.settings,
        seed=job.seed,
        teachers=teachers,
        score=lambda: _select_scores(lab, job),
        select="loss" if job.rows.task.kind == "text" else job.rows.task.select,
        trackers=lab.trackers,
        views=job.views,
    )


def _select_scores(lab: Lab, job: Job) -> dict[str, float]:
    """Selection metrics of the current weights. Plain text has no labels: the objective itself, held out."""
    task = job.rows.task
    if task.kind == "text":
        says = None
        if job.teacher is not None:
            says = lab.signals(job.teacher, job.objective.needs_teacher, split="select", rows=job.rows)
        return {"loss": held_out_loss(job.model, job.select, job.objective, says, job.settings)}
    precision = resolve_precision(job.settings.precision, lab.device)
    scale = lab.scale_of(job.rows)
    return compute(task, predict(job.model, job.rows.select, job.select, precision=precision, scale=scale))


def score_bare(lab: Lab, job: Job, folder: Path) -> None:
    """A model without outputs predicts nothing: its test scores are the objective itself, while it is at hand."""
    if not job.model.bare or job.rows is not lab.data:
        return
    for test, examples in lab.data.tests.items():
        encoded = lab.encoded(job.model, examples, max_length=lab.recipe.student.max_length)[0]
        says = None
        if job.teacher is not None and job.objective.needs_teacher:
            theirs = lab.encoded(job.teacher.model, examples)
            require_same_masks(theirs, [encoded])
            says = LiveTeacher(job.teacher.model, theirs[0], job.objective.needs_teacher, "fp32", lab.count)
        values = loss_by_row(job.model, encoded, job.objective, says)
        made = Predictions([example.id for example in examples], values, np.ones(len(values)))
        write_predictions(folder / held_out_name(test), made)
