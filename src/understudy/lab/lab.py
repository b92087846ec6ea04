"""The lab: what a method works with."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from understudy.base import disk, seeds
from understudy.base.errors import Interrupted, RecipeError, VerifyError
from understudy.base.progress import say
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, Teacher, content_digest
from understudy.data.encode import Encoded, encode
from understudy.data.masking import mask_inputs
from understudy.data.tasks import load_task
from understudy.data.types import Example, TaskData
from understudy.evaluate.metrics import Predictions, compute
from understudy.evaluate.predict import predict
from understudy.lab.keys import (
    NOT_RESULT,
    VERSIONS,
    describe,
    difference,
    home,
    key_of,
    safe,
    tokenizer_digest,
)
from understudy.lab.replay import Replay
from understudy.lab.saved import read_predictions, write_predictions
from understudy.models.anatomy import anatomy
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.models.save import save_model
from understudy.models.scale import to_label_units, to_standard_units
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.settings import Recipe, TrainSettings
from understudy.students.fresh import fresh
from understudy.students.keep_layers import keep_layers
from understudy.train.checkpoint import PREFIX
from understudy.train.devices import accelerator, any_process, main_says, resolve_precision
from understudy.train.guard import StopSignals
from understudy.train.learner import held_out_loss
from understudy.train.loop import Fit, FitResult, fit


@dataclass(frozen=True)
class Source:
    """A teacher as a method sees it: the model, and the digest that names it in keys."""

    model: Model
    digest: str


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
        self._encoded: dict[Any, Any] = {}
        self._replay: Replay | None = None

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
        task, settings = self.data.task, self.recipe.task
        length = min(max_length or settings.max_length, anatomy(model.net).max_tokens(model.net))
        key = (tokenizer_digest(model.tokenizer), length, id(examples))
        if key not in self._encoded:
            whole = encode(examples, model.tokenizer, task, max_length=length)
            if task.kind == "regression" and whole.labels is not None:
                mean, deviation = self.scale
                whole = dataclasses.replace(whole, labels=((whole.labels - mean) / deviation).astype(np.float32))
            if task.kind == "text":
                variants = settings.mask_variants if examples is self.data.train else 1
                self._encoded[key] = [
                    mask_inputs(
                        whole,
                        model.tokenizer,
                        seed=self.recipe.seed,
                        variant=variant,
                        probability=settings.mask_probability,
                    )
                    for variant in range(variants)
                ]
            else:
                self._encoded[key] = [whole]
        return self._encoded[key]

    def same_tokens(self, one: Model, other: Model) -> bool:
        """Whether two models cut every text of this task into the same tokens."""
        lengths = {anatomy(model.net).max_tokens(model.net) for model in (one, other)}
        cut_alike = self.recipe.student.max_length in (None, self.recipe.task.max_length)
        cut_alike = cut_alike and (len(lengths) == 1 or min(lengths) >= self.recipe.task.max_length)
        return cut_alike and tokenizer_digest(one.tokenizer) == tokenizer_digest(other.tokenizer)

    # -- models --------------------------------------------------------------------------------------------------------

    def pretrained(self) -> Source:
        """The checkpoint `teacher.model` as it is, with a fresh head where it has none for this task."""
        settings = self.recipe.teacher
        if settings is None:
            raise RecipeError("This method needs a teacher: add `teacher: {model: …}` to the recipe.")
        return self._source("pretrained", settings.model, settings.revision, settings.trust_remote_code)

    def _source(self, name: str, ref: str, revision: str | None, trust: bool) -> Source:
        if name not in self._encoded:
            model = load_model(
                ref,
                task=self.data.task,
                key="student.model" if name == "student" else "teacher.model",
                revision=revision,
                trust_remote_code=trust,
                seed=seeds.derive(self._head_seed(name), "head"),
            )
            if self.data.task.kind == "text" and model.fresh_head:
                key = "student.model" if name == "student" else "teacher.model"
                raise RecipeError(
                    f"{key}: {ref} has no head on the vocabulary, which learning from plain text needs. Give a masked "
                    "language model (a checkpoint saved as …ForMaskedLM)."
                )
            if self.data.task.kind == "regression" and not model.fresh_head:
                to_standard_units(model.net, *self.scale)
            self._encoded[name] = Source(model, digest(model.net))
        return self._encoded[name]

    def _head_seed(self, name: str) -> int:
        teacher = self.recipe.teacher
        return teacher.seed if name == "pretrained" and teacher and teacher.seed is not None else self.recipe.seed

    def teacher(self) -> Source:
        """The teacher, ready to teach: as given, or fine-tuned on the task first. Shared between runs."""
        settings = self.recipe.teacher
        start = self.pretrained()
        assert settings is not None
        if settings.finetune is None:
            if start.model.fresh_head:
                raise RecipeError(
                    f"teacher.model: {settings.model} has no trained head for {self.data.task.name}. Give a checkpoint "
                    "that was fine-tuned for it, or add `teacher: {finetune: {epochs: 3}}` to fine-tune it here first."
                )
            return start
        if "teacher" not in self._encoded:
            model = self.fit(
                "teacher",
                copy_of(start.model),
                Objective(hard=hard_labels(self.data.task.kind)),
                settings=settings.finetune,
                seed=settings.seed,
                rows=self._teacher_rows(),
                shared=True,
            )
            self._encoded["teacher"] = Source(model, digest(model.net))
        return self._encoded["teacher"]

    def _teacher_rows(self) -> TaskData:
        """What the teacher is fine-tuned on: the task's rows, or those of `teacher.languages`."""
        languages = self.recipe.teacher.languages if self.recipe.teacher else None
        if languages is None:
            return self.data
        if "rows" not in self._encoded:
            task = self.recipe.task.model_copy(update={"train_languages": languages})
            seed = self.recipe.seed if task.split_seed is None else task.split_seed
            self._encoded["rows"] = load_task(task, seed=seed)
        return self._encoded["rows"]

    def student(self) -> Model:
        """The student before training: a checkpoint, some of the teacher's layers, or a fresh architecture."""
        settings = self.recipe.student
        if settings.model is not None:
            return copy_of(self._source("student", settings.model, None, False).model)
        if settings.config is not None:
            sizes = settings.config.model_dump(exclude_none=True)
            return fresh(self.pretrained().model, sizes, seed=self.recipe.seed)
        start = self.pretrained() if settings.init == "pretrained" else self.teacher()
        return keep_layers(start.model, settings.keep, num_layers=settings.num_layers)

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
        settings = settings or self.recipe.train
        seed = self.recipe.seed if seed is None else seed
        rows = rows or self.data
        length = self.recipe.student.max_length if rows is self.data else None
        job = _Job(
            name=name,
            model=model,
            objective=objective,
            teacher=teacher,
            settings=settings,
            rows=rows,
            train=self.encoded(model, rows.train, max_length=length),
            select=self.encoded(model, rows.select, max_length=length)[0],
            seed=seed,
        )
        key = {
            "kind": "fit",
            "version": VERSIONS["fit"],
            "name": name,
            "model": digest(model.net),
            "objective": describe(objective),
            "about": about or {},
            "teacher": teacher.digest if teacher else None,
            "train": [content_digest(part) for part in job.train],
            "select": [content_digest(job.select), self.data.task.select],
            "settings": settings.model_dump(mode="json", exclude=NOT_RESULT),
            "precision": resolve_precision(settings.precision, self.device),
            "device": self.device.type,
            "ranks": accelerator().num_processes,
            "seed": seed,
        }
        if self._replay is not None and self._replay.name == name:
            return self._repeat(self._replay, job)
        folder, finished = self._open(name, key, shared=shared)
        if not finished:
            wait = 24 * 3600 if shared else 0
            with disk.lock(folder, wait_seconds=wait) if accelerator().is_main_process else nullcontext():
                if not main_says(self._is_finished(folder)):
                    outcome = fit(self._prepared(job, folder), self.stop)
                    if accelerator().is_main_process:
                        self._finish(folder, model, outcome, shared=shared)
                    accelerator().wait_for_everyone()
        record = disk.read_json(folder / "done.json")
        self.seconds[name] = record["seconds"]
        return self._load_step(name, folder)

    def _prepared(self, job: _Job, folder: Path) -> Fit:
        """A job with its teacher's signals at hand."""
        teachers = None
        if job.teacher is not None and job.objective.needs_teacher:
            self._same_masks(job.teacher, job.train)
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

    def _same_masks(self, teacher: Source, data: list[Encoded]) -> None:
        """On plain text both must see the same words, hidden in the same places."""
        if self.data.task.kind != "text":
            return
        theirs = self.encoded(teacher.model, self.data.train)
        if [content_digest(part) for part in theirs] != [content_digest(part) for part in data]:
            raise RecipeError(
                "On plain text the teacher and the student must see the same masked tokens: give both the same tokenizer "
                "and the same longest input (task.max_length, student.max_length, and what the models can take)."
            )

    def _repeat(self, replay: Replay, job: _Job) -> Model:
        """Train the end of a finished step again, in a scratch folder, and compare."""
        scratch = self.folder / "replay"
        fit(self._prepared(job, scratch), self.stop, start=replay.start())
        replay.compare(scratch)
        return job.model

    def _finish(self, folder: Path, model: Model, outcome: FitResult, *, shared: bool) -> None:
        """Commit the trained model; only then is the step done. A run keeps its last checkpoints, for `verify --replay`."""
        self._in_label_units(model, lambda: save_model(model, folder / "model", card=""))
        disk.write_json(folder / "done.json", dataclasses.asdict(outcome))
        disk.remove(folder / "best")
        for old in folder.glob(f"{PREFIX}*") if shared else ():
            disk.remove(old)

    def _in_label_units(self, model: Model, save: Callable[[], Any]) -> None:
        if self.data.task.kind != "regression":
            save()
            return
        to_label_units(model.net, *self.scale)
        save()
        to_standard_units(model.net, *self.scale)

    def _load_step(self, name: str, folder: Path) -> Model:
        wrong = disk.problems(folder / "model")
        if wrong:
            raise VerifyError(f"The finished step {name} is damaged: {wrong[0]}. Delete {folder} and repeat the command.")
        model = load_model(str(folder / "model"), task=self.data.task)
        if self.data.task.kind == "regression":
            to_standard_units(model.net, *self.scale)
        model.net.to(self.device)
        return model

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
                with disk.lock(cache.folder, wait_seconds=24 * 3600):
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
            step = f"predict-{name}-{safe(test)}"
            folder, finished = self._open(step, about, shared=is_teacher)
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
        folder, finished = self._open(name, {"kind": "keep", "version": VERSIONS["keep"], **about}, shared=False)
        if not finished:
            if accelerator().is_main_process:
                disk.write_json(folder / "done.json", {"value": make()})
            accelerator().wait_for_everyone()
        return disk.read_json(folder / "done.json")["value"]

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _open(self, name: str, about: dict[str, Any], *, shared: bool) -> tuple[Path, bool]:
        """The folder of a step, and whether it is finished. Checks that the name is not taken by another key."""
        about = json.loads(json.dumps(about))
        key = key_of(about)
        own = self.folder / "steps" / safe(name)
        mark = own / "step.json"
        main = accelerator().is_main_process
        if main and not mark.exists():
            disk.write_json(mark, {"name": name, "key": key, "shared": shared, "about": about})
        accelerator().wait_for_everyone()
        before = disk.read_json(mark)
        if before["key"] != key:
            raise RecipeError(
                f"{own} holds this step with other settings: {difference(before['about'], about)}. "
                "Use another --out, or delete that folder to do the step again."
            )
        folder = home() / "steps" / key if shared else own
        if shared and main and not (folder / "step.json").exists():
            disk.write_json(folder / "step.json", {"name": name, "key": key, "about": about})
        return folder, main_says(self._is_finished(folder))

    @staticmethod
    def _is_finished(folder: Path) -> bool:
        return (folder / "done.json").exists()


def copy_of(model: Model) -> Model:
    """The same model with weights of its own, so that training one leaves the other alone."""
    return dataclasses.replace(model, net=copy.deepcopy(model.net))
