"""The lab: what a method works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from understudy.base.lock import DAY, lock
from understudy.cache import Teacher, content_digest
from understudy.data.encode import Encoded
from understudy.data.tasks import load_task
from understudy.data.types import Example, TaskData
from understudy.evaluate.predict import predict
from understudy.evaluate.predictions import Predictions
from understudy.lab import models
from understudy.lab.adapting import prepare
from understudy.lab.bare import held_out_name, require_outputs
from understudy.lab.encodings import Encodings, same_task, scale_of
from understudy.lab.fits import Job, fit_key, prepared, score_bare
from understudy.lab.keys import VERSIONS, safe
from understudy.lab.models import Source
from understudy.lab.replay import Replay
from understudy.lab.saved import (
    read_arrays,
    read_predictions,
    read_projections,
    write_arrays,
    write_predictions,
    write_projections,
)
from understudy.lab.steps import finish, finish_fit, is_finished, load_fit, open_step, read_done
from understudy.lab.teaching import signals_of
from understudy.lab.together import best_models
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.objective import Objective
from understudy.recipe.settings import Recipe, TrainSettings
from understudy.train.devices import accelerator, any_process
from understudy.train.guard import StopSignals
from understudy.train.loop import fit
from understudy.train.views import Views


class Lab:
    """What a method works with: the task, the teacher, the untrained student, and durable steps."""

    def __init__(self, recipe: Recipe, folder: Path, stop: StopSignals, trackers: Sequence[Any] = ()) -> None:
        self.recipe, self.folder, self.stop, self.trackers = recipe, folder, stop, trackers
        self.device = accelerator().device
        self.seconds: dict[str, float] = {}
        """How long each step took, those before an interruption included."""
        self.teacher_examples = 0
        """On how many examples this process ran a teacher: 0 when everything was known already."""
        self.notes: list[str] = []
        """Sentences for the report: what was decided, left out or could not be learnt."""
        self._encodings = Encodings(recipe)
        self._made: dict[Any, Any] = {}
        self._bare: dict[str, Path] = {}
        self._replay: Replay | None = None

    def once(self, name: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call and kept in memory."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def replaying(self, name: str, folder: Path, steps: int) -> Replay:
        """Make the step `name` repeat the last steps of the finished step in `folder` instead of training."""
        self._replay = Replay(name, folder, steps)
        return self._replay

    @property
    def repeating(self) -> str | None:
        """The step that is only repeated to be compared, if there is one: nothing of it will be found on disk."""
        return None if self._replay is None else self._replay.name

    @property
    def repeated_run(self) -> Path:
        """The folder of the run whose step is repeated."""
        assert self._replay is not None
        return self._replay.folder.parent.parent

    # -- data ----------------------------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> TaskData:
        return load_task(self.recipe.task, seed=self.recipe.split_seed)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Mean and deviation of the training labels of a regression task: the units models train in."""
        return scale_of(self.data)

    def scale_of(self, rows: TaskData) -> tuple[float, float]:
        """The units of other rows: those of the run for the same task, so that models can be compared; else their own."""
        return self.scale if same_task(rows.task, self.data.task) else scale_of(rows)

    def encoded(
        self,
        model: Model,
        examples: Sequence[Example],
        *,
        rows: TaskData | None = None,
        max_length: int | None = None,
    ) -> list[Encoded]:
        """Examples in a model's own tokens. One encoding, or one for each masking of plain text.

        `rows`: what the examples belong to, if not to the run's task; its own task decides on labels, pairs and words.
        """
        rows = rows or self.data
        return self._encodings.of(model, rows, examples, scale=self.scale_of(rows), max_length=max_length)

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
        max_length: int | None = None,
        views: Views | None = None,
        shared: bool = False,
    ) -> Model:
        """Train a model in a durable step and return it with its best weights.

        Args:
            name: of the step; also what its randomness derives from.
            objective: what it learns. Terms that need a teacher get the signals of `teacher`, from disk if possible.
            about: the settings the objective was made from: part of the step's key.
            seed: of the order of rows and of dropout; the recipe's by default.
            rows: what it is trained and selected on; the task's by default. Its task may be another one than the run's:
                the model then has that task's outputs, is scored by its metric, and saved and loaded with its labels.
            max_length: of the inputs, in tokens; `student.max_length` by default, or else `task.max_length`.
            views: sub-networks of the model to train together. The best of each are what is saved (`fit_together` loads
                them); the model itself is given back as it is.
            shared: keep the step where other runs find it (for steps that do not depend on the method).

        Raises:
            RecipeError: a term needs outputs that model or teacher do not have; or the name is taken.
        """
        require_outputs(name, model, objective, teacher.model if teacher else None)
        prepare(model, settings or self.recipe.train, self.recipe.how, seed=self.recipe.seed if seed is None else seed)
        rows = rows or self.data
        length = max_length or self.recipe.student.max_length
        job = Job(
            name=name,
            model=model,
            objective=objective,
            teacher=teacher,
            settings=settings or self.recipe.train,
            rows=rows,
            train=self.encoded(model, rows.train, rows=rows, max_length=length),
            select=self.encoded(model, rows.select, rows=rows, max_length=length)[0],
            seed=self.recipe.seed if seed is None else seed,
            views=views,
        )
        if self._replay is not None and self._replay.name == name:
            return self._repeat(self._replay, job)
        folder, finished = self._open(name, fit_key(self, job, about), shared=shared)
        if not finished:
            wait = DAY if shared else 0
            with lock(folder, wait_seconds=wait) if accelerator().is_main_process else nullcontext():
                if not is_finished(folder):
                    outcome = fit(prepared(self, job, folder), self.stop)
                    if accelerator().is_main_process:
                        score_bare(self, job, folder)
                        write_projections(folder, objective)
                        scale, notes = self.scale_of(job.rows), [f"{name}: {note}" for note in objective.notes()]
                        made = {"model": model} if views is None else best_models(folder, model, views)
                        finish_fit(folder, made, outcome, notes=notes, scale=scale, shared=shared)
                    accelerator().wait_for_everyone()
        done = read_done(folder)
        self.seconds[name] = done["seconds"]
        self.notes += done.get("notes", [])
        if views is not None:
            return model
        read_projections(folder, objective)
        model = load_fit(name, folder, job.rows.task, scale=self.scale_of(job.rows))
        if model.bare:
            self._bare[digest(model.net)] = folder
        return model

    def _open(self, name: str, about: dict[str, Any], *, shared: bool) -> tuple[Path, bool]:
        """`open_step`, unless somebody wants the process to end before another step begins."""
        if any_process(self.stop.received is not None):
            raise self.stop.interruption("all finished steps are saved.")
        return open_step(self.folder, name, about, shared=shared)

    def _repeat(self, replay: Replay, job: Job) -> Model:
        """Train the end of a finished step again, in a scratch folder, and compare."""
        scratch = self.folder / "replay"
        fit(prepared(self, job, scratch), self.stop, start=replay.start())
        replay.compare(scratch)
        return job.model

    def signals(
        self,
        teacher: Source,
        needs: Needs,
        part: int = 0,
        *,
        split: Literal["train", "select"] = "train",
        rows: TaskData | None = None,
    ) -> Teacher:
        """What the teacher says about the training (or selection) rows, by row number.

        From disk, or live above the disk budget. `rows`, the run's by default, may have labels of another task: what is
        stored is named by what the teacher reads, so rows with the same texts share it.
        """
        rows = rows or self.data
        examples = rows.train if split == "train" else rows.select
        encoded = self.encoded(teacher.model, examples, rows=rows)[part]
        # Examples are kept by the encodings, so that their id names them for as long as this lab lives.
        about = (teacher.digest, needs, part, id(encoded))
        return self.once(about, lambda: signals_of(self, teacher, needs, encoded))

    def count(self, examples: int) -> None:
        """A teacher was run on so many examples."""
        self.teacher_examples += examples

    def predictions(self, name: str, source: Source, *, is_teacher: bool = False) -> dict[str, Predictions]:
        """What a finished model predicts on each test set, in fp32; durable, and shared for a teacher.

        A model without outputs has the value of its own objective for each row, written down at the end of its fit.
        """
        if source.model.bare:
            folder = self._bare[source.digest]
            tests = self.data.tests.items()
            return {test: read_predictions(folder / held_out_name(test), rows, self.data.task.kind) for test, rows in tests}
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
            folder, finished = self._open(f"predict-{name}-{safe(test)}", about, shared=is_teacher)
            if not finished and accelerator().is_main_process:
                source.model.net.to(self.device)
                if is_teacher:
                    self.count(len(examples))
                made = predict(source.model, examples, encoded, scale=self.scale)
                write_predictions(folder, made)
                finish(folder, {"rows": len(made)})
            accelerator().wait_for_everyone()
            found[test] = read_predictions(folder, examples, self.data.task.kind)
        return found

    def keep(self, name: str, about: dict[str, Any], make: Callable[[], Any]) -> Any:
        """A choice or a measurement, made once: a resumed run cannot decide otherwise. JSON in, JSON out."""
        about = {"kind": "keep", "version": VERSIONS["keep"], **about}
        folder, finished = self._open(name, about, shared=False)
        if not finished:
            if accelerator().is_main_process:
                finish(folder, {"value": make()})
            accelerator().wait_for_everyone()
        return read_done(folder)["value"]

    def keep_arrays(
        self, name: str, about: dict[str, Any], make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """What was found out about a model, as arrays by name: made once, and shared between runs."""
        about = {"kind": "arrays", "version": VERSIONS["arrays"], **about}
        folder, finished = self._open(name, about, shared=True)
        if not finished:
            with lock(folder, wait_seconds=DAY) if accelerator().is_main_process else nullcontext():
                if not is_finished(folder):
                    if accelerator().is_main_process:
                        start = perf_counter()
                        write_arrays(folder, make())
                        finish(folder, {"seconds": perf_counter() - start})
                    accelerator().wait_for_everyone()
        self.seconds[name] = read_done(folder)["seconds"]
        return read_arrays(folder)
