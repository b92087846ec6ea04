"""The lab: what a method works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from understudy.base import disk
from understudy.base.errors import Interrupted
from understudy.base.lock import lock
from understudy.base.progress import say
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, Teacher, content_digest
from understudy.data.encode import Encoded
from understudy.data.tasks import load_task
from understudy.data.types import Example, TaskData
from understudy.evaluate.metrics import Predictions, compute
from understudy.evaluate.predict import predict
from understudy.lab import models
from understudy.lab.encodings import Encodings, require_same_masks
from understudy.lab.keys import VERSIONS, describe, home, safe, settings_key
from understudy.lab.models import Source
from understudy.lab.replay import Replay
from understudy.lab.saved import read_predictions, write_predictions
from understudy.lab.steps import finish_fit, is_finished, load_fit, open_step
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.objective import Objective
from understudy.recipe.settings import Recipe, TrainSettings
from understudy.train.devices import accelerator, any_process, resolve_precision
from understudy.train.guard import StopSignals
from understudy.train.learner import held_out_loss
from understudy.train.loop import Fit, fit

DAY = 24 * 3600
"""How long to wait, in seconds, for another process that makes what is shared."""


@dataclass(frozen=True)
class _Job:
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


class Lab:
    """What a method works with: the task, the teacher, the untrained student, and durable steps."""

    def __init__(self, recipe: Recipe, folder: Path, stop: StopSignals, trackers: Sequence[Any] = ()) -> None:
        self.recipe, self.folder, self.stop, self.trackers = recipe, folder, stop, trackers
        self.device = accelerator().device
        self.seconds: dict[str, float] = {}
        """How long each step took, those before an interruption included."""
        self.teacher_examples = 0
        """On how many examples this process ran a teacher: 0 when everything was known already."""
        self._encodings = Encodings(recipe)
        self._made: dict[str, Any] = {}
        self._replay: Replay | None = None

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call and kept in memory."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def replaying(self, name: str, folder: Path, steps: int) -> Replay:
        """Make the step `name` repeat the last steps of the finished step in `folder` instead of training."""
        self._replay = Replay(name, folder, steps)
        return self._replay

    # -- data ----------------------------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> TaskData:
        split_seed = self.recipe.task.split_seed
        return load_task(self.recipe.task, seed=self.recipe.seed if split_seed is None else split_seed)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Mean and deviation of the training labels of a regression task: the units models train in."""
        if self.data.task.kind != "regression":
            return 0.0, 1.0
        labels = np.array([example.label for example in self.data.train], dtype=np.float64)
        return float(labels.mean()), float(labels.std()) or 1.0

    def encoded(self, model: Model, examples: Sequence[Example], *, max_length: int | None = None) -> list[Encoded]:
        """Examples in a model's own tokens. One encoding, or one for each masking of plain text."""
        return self._encodings.of(model, self.data, examples, scale=self.scale, max_length=max_length)

    def same_tokens(self, one: Model, other: Model) -> bool:
        """Whether two models cut every text of this task into the same tokens."""
        return self._encodings.same_tokens(one, other)

    # -- models --------------------------------------------------------------------------------------------------------

    def pretrained(self) -> Source:
        """The checkpoint `teacher.model` as it is, with a fresh head where it has none for this task."""
        return self.once("pretrained", lambda: models.checkpoint(self, "teacher.model"))

    def teacher(self) -> Source:
        """The teacher, ready to teach: as given, or fine-tuned on the task first. Shared between runs."""
        return self.once("teacher", lambda: models.teacher(self))

    def student(self) -> Model:
        """The student before training: a checkpoint, some of the teacher's layers, or a fresh architecture."""
        return models.student(self)

    # -- durable steps -------------------------------------------------------------------------------------------------

    def fit(
        self,
        name: str,
        model: Model,
        objective: Objective,
        *,
        teacher: Source | None = None,
        settings: TrainSettings | None = None,
        about: dict[str, Any] | None = None,
        seed: int | None = None,
        rows: TaskData | None = None,
        shared: bool = False,
    ) -> Model:
        """Train a model in a durable step and return it with its best weights.

        Args:
            name: of the step; also what its randomness derives from.
            objective: what it learns. Terms that need a teacher get the signals of `teacher`, from disk if possible.
            about: the settings the objective was made from: part of the step's key.
            seed: of the order of rows and of dropout; the recipe's by default.
            rows: what it is trained and selected on; the task's by default.
            shared: keep the step where other runs find it (for steps that do not depend on the method).
        """
        job = self._job(name, model, objective, teacher, settings, seed, rows)
        if self._replay is not None and self._replay.name == name:
            return self._repeat(self._replay, job)
        folder, finished = open_step(self.folder, name, self._key(job, about), shared=shared)
        if not finished:
            wait = DAY if shared else 0
            with lock(folder, wait_seconds=wait) if accelerator().is_main_process else nullcontext():
                if not is_finished(folder):
                    outcome = fit(self._prepared(job, folder), self.stop)
                    if accelerator().is_main_process:
                        finish_fit(folder, model, outcome, scale=self.scale, shared=shared)
                    accelerator().wait_for_everyone()
        self.seconds[name] = disk.read_json(folder / "done.json")["seconds"]
        return load_fit(name, folder, self.data.task, scale=self.scale)

    def _job(
        self,
        name: str,
        model: Model,
        objective: Objective,
        teacher: Source | None,
        settings: TrainSettings | None,
        seed: int | None,
        rows: TaskData | None,
    ) -> _Job:
        rows = rows or self.data
        length = self.recipe.student.max_length if rows is self.data else None
        return _Job(
            name=name,
            model=model,
            objective=objective,
            teacher=teacher,
            settings=settings or self.recipe.train,
            rows=rows,
            train=self._encodings.of(model, rows, rows.train, scale=self.scale, max_length=length),
            select=self._encodings.of(model, rows, rows.select, scale=self.scale, max_length=length)[0],
            seed=self.recipe.seed if seed is None else seed,
        )

    def _key(self, job: _Job, about: dict[str, Any] | None) -> dict[str, Any]:
        """Everything that decides the result of a fit."""
        return {
            "kind": "fit",
            "version": VERSIONS["fit"],
            "name": job.name,
            "model": digest(job.model.net),
            "objective": describe(job.objective),
            "about": about or {},
            "teacher": job.teacher.digest if job.teacher else None,
            "train": [content_digest(part) for part in job.train],
            "select": [content_digest(job.select), self.data.task.select],
            "settings": settings_key(job.settings),
            "precision": resolve_precision(job.settings.precision, self.device),
            "device": self.device.type,
            "ranks": accelerator().num_processes,
            "seed": job.seed,
        }

    def _prepared(self, job: _Job, folder: Path) -> Fit:
        """A job with its teacher's signals at hand."""
        teachers = None
        if job.teacher is not None and job.objective.needs_teacher:
            if self.data.task.kind == "text":
                require_same_masks(self.encoded(job.teacher.model, self.data.train), job.train)
            teachers = [self.signals(job.teacher, job.objective.needs_teacher, part) for part in range(len(job.train))]
        return Fit(
            folder=folder,
            name=job.name,
            model=job.model,
            data=job.train,
            objective=job.objective,
            settings=job.settings,
            seed=job.seed,
            teachers=teachers,
            score=lambda: self._select_scores(job),
            select=self.data.task.select,
            trackers=self.trackers,
        )

    def _repeat(self, replay: Replay, job: _Job) -> Model:
        """Train the end of a finished step again, in a scratch folder, and compare."""
        scratch = self.folder / "replay"
        fit(self._prepared(job, scratch), self.stop, start=replay.start())
        replay.compare(scratch)
        return job.model

    def _select_scores(self, job: _Job) -> dict[str, float]:
        """Selection metrics of the current weights. Plain text has no labels: the objective itself, held out."""
        if self.data.task.kind == "text":
            says = None
            if job.teacher is not None:
                says = self.signals(job.teacher, job.objective.needs_teacher, 0, split="select")
            return {"loss": held_out_loss(job.model, job.select, job.objective, says, job.settings)}
        precision = resolve_precision(job.settings.precision, self.device)
        predictions = predict(job.model, job.rows.select, job.select, precision=precision, scale=self.scale)
        return compute(self.data.task, predictions)

    def signals(self, teacher: Source, needs: Needs, part: int = 0, *, split: str = "train") -> Teacher:
        """What the teacher says about the training (or selection) rows: from disk, or live above the disk budget."""
        settings, train = self.recipe.cache, self.recipe.train
        examples = self.data.train if split == "train" else self.data.select
        encoded = self.encoded(teacher.model, examples)[part]
        precision = resolve_precision(train.precision, self.device)
        teacher.model.net.to(self.device).eval().requires_grad_(False)
        live = LiveTeacher(teacher.model, encoded, needs, precision, self._count)
        if settings.mode != "auto":
            return live
        cache = SignalCache(
            home() / "signals", model=teacher.model, digest=teacher.digest, encoded=encoded, precision=precision
        )
        needed = cache.bytes_needed(needs)
        if needed > settings.budget_gb * 1e9:
            say(
                f"The teacher's outputs would take {needed / 1e9:.1f} GB, more than cache.budget_gb allows "
                f"({settings.budget_gb:g}): the teacher is run in every epoch instead."
            )
            return live
        interrupted = None
        if accelerator().is_main_process:
            try:
                with lock(cache.folder, wait_seconds=DAY):
                    cache.fill(needs, self._count, self.stop)
            except Interrupted as error:
                interrupted = error
        if any_process(interrupted is not None):
            raise interrupted or self.stop.interruption("the teacher's outputs so far are saved.")
        return CachedTeacher(cache, needs)

    def _count(self, examples: int) -> None:
        self.teacher_examples += examples

    def predictions(self, name: str, source: Source, *, is_teacher: bool = False) -> dict[str, Predictions]:
        """What a finished model predicts on each test set, in fp32; durable, and shared for a teacher."""
        found = {}
        for test, examples in self.data.tests.items():
            own_length = None if is_teacher else self.recipe.student.max_length
            encoded = self.encoded(source.model, examples, max_length=own_length)[0]
            about = {
                "kind": "predict",
                "version": VERSIONS["predict"],
                "model": source.digest,
                "examples": content_digest(encoded),
                "scale": list(self.scale),
                "device": self.device.type,
            }
            folder, finished = open_step(self.folder, f"predict-{name}-{safe(test)}", about, shared=is_teacher)
            if not finished and accelerator().is_main_process:
                source.model.net.to(self.device)
                if is_teacher:
                    self._count(len(examples))
                made = predict(source.model, examples, encoded, scale=self.scale)
                write_predictions(folder, made)
            accelerator().wait_for_everyone()
            found[test] = read_predictions(folder, examples, self.data.task.kind)
        return found

    def keep(self, name: str, about: dict[str, Any], make: Callable[[], Any]) -> Any:
        """A choice or a measurement, made once: a resumed run cannot decide otherwise. JSON in, JSON out."""
        about = {"kind": "keep", "version": VERSIONS["keep"], **about}
        folder, finished = open_step(self.folder, name, about, shared=False)
        if not finished:
            if accelerator().is_main_process:
                disk.write_json(folder / "done.json", {"value": make()})
            accelerator().wait_for_everyone()
        return disk.read_json(folder / "done.json")["value"]
