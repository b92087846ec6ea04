"""The bench: rows in the tokens of any model, and the durable steps that a method is made of."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np

from understudy.base import disk, seeds
from understudy.base.errors import Interrupted, RecipeError
from understudy.base.home import home
from understudy.base.progress import say
from understudy.cache import CachedTeacher, LiveTeacher, Several, SignalCache, Teacher
from understudy.cache.aligned import AlignedTeacher, Cut, between_vocabularies, same_vocabulary
from understudy.cache.served import served_data
from understudy.data.encode import Encoded
from understudy.data.tasks import data_of
from understudy.data.types import Example, TaskData
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict
from understudy.evaluate.predictions import Predictions
from understudy.lab.adapting import prepare
from understudy.lab.encodings import Encodings, require_same_masks, same_task, scale_of
from understudy.lab.fits import Job, Source, Trained, held_out_name, load_fit, loss_by_row, require_outputs, save_models
from understudy.lab.replay import Replay
from understudy.lab.saved import read_arrays, read_projections, write_arrays, write_predictions, write_projections
from understudy.lab.told import Told
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.models.signals import vocabulary_head
from understudy.objective import Objective
from understudy.recipe.settings import Recipe, TrainSettings
from understudy.steps import Step, open_step
from understudy.train.checkpoint import BEST, PREFIX
from understudy.train.devices import accelerator, any_process, over_processes, resolve_precision
from understudy.train.guard import StopSignals
from understudy.train.learner import held_out_loss
from understudy.train.loop import Fit, fit
from understudy.train.task import Views

KEEP_VERSION = 1
"""Raised by hand whenever what is kept would come out differently."""


class Bench:
    """What every method works on and with: the rows of the task, a teacher's signals, and durable steps.

    Args:
        folder: of the run; its steps lie in `folder/steps`.
        stop: the process's signal handler.
        trackers: of accelerate; told about every fit.
        replay: repeat the end of one of the run's fits instead of finding it there; all else is read.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        stop: StopSignals,
        trackers: Sequence[Any] = (),
        replay: Replay | None = None,
    ) -> None:
        self.recipe, self.folder, self.stop = recipe, folder, stop
        self.device = accelerator().device
        self.seconds: dict[str, float] = {}
        """How long each step took, those before an interruption included."""
        self._asked = Counter[str]()
        self._trackers, self._replay = trackers, replay
        self._encodings = Encodings(recipe)
        self._samples: dict[str, list[Example]] = {}
        self._teachers: dict[Any, tuple[Encoded, Teacher]] = {}
        self._bare: dict[str, Path] = {}
        """Digest of a model without outputs -> the folder of its fit, which holds its values on the test sets."""
        self._said: set[str] = set()

    def until(self, stop: StopSignals) -> Self:
        """The same bench, whose work ends early when `stop` asks for it rather than the process's signals."""
        other = copy.copy(self)
        other.stop = stop
        return other

    @property
    def teacher_examples(self) -> int:
        """On how many examples a teacher was run, here and in the other ranks: 0 when everything was known already."""
        return self._asked["teacher"]

    # -- rows ----------------------------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> TaskData:
        data, given = data_of(self.recipe), self.recipe.teacher
        return served_data(given.server, data, self.stop) if given and given.server else data

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

    def sample(self, number: int | None, name: str, *, labelled: bool = False) -> list[Example]:
        """So many training rows (None: all), drawn by the split's seed and a name; the same list every time. `labelled`: of those
        with a label."""
        if name not in self._samples:
            rows = self.data.labelled().train if labelled else self.data.train
            drawn = seeds.permutation(len(rows), self.recipe.split_seed, name)[:number]
            self._samples[name] = [rows[i] for i in sorted(drawn)]
        return self._samples[name]

    def same_tokens(self, one: Model, other: Model) -> bool:
        """Whether two models cut every text of this task into the same tokens; with a smaller vocabulary: every training row,
        token by token, whatever their numbers."""
        if self._encodings.same_tokens(one, other) or self.recipe.student.vocabulary is None:
            return self._encodings.same_tokens(one, other)
        theirs = self.encoded(one, self.data.train)[0]
        ours = self.encoded(other, self.data.train, max_length=self.recipe.student.max_length)[0]
        pieces = other.tokenizer.convert_ids_to_tokens(range(len(other.tokenizer)))
        numbers = np.array([-1 if number is None else number for number in one.tokenizer.convert_tokens_to_ids(pieces)])
        alike = np.array_equal(theirs.offsets, ours.offsets)
        return alike and np.array_equal(theirs.input_ids, numbers[ours.input_ids])

    # -- the teacher's signals -----------------------------------------------------------------------------------------

    def signals(self, teacher: Source, needs: Needs, encoded: Encoded) -> Teacher:
        """What the teacher says about examples in its own tokens (see `encoded`), by their place among them.

        Read from disk, after what is missing there was computed and stored; live above `cache.budget_gb` or where
        `cache.mode` says so. What is stored is named by what the teacher reads: the same texts with other labels, or
        in another run, find it.
        """
        known = (teacher.digest, needs, id(encoded))
        if known not in self._teachers:  # the encoding is kept beside it, so that its id() is not used again
            self._teachers[known] = encoded, self._signals(teacher, needs, encoded)
        return self._teachers[known][1]

    def _signals(self, teacher: Source, needs: Needs, encoded: Encoded) -> Teacher:
        if teacher.others:
            first = self._signals(Source.of(teacher.model), needs, encoded)
            more = [self._signals(Source.of(other), Needs(logits=True), encoded) for other in teacher.others if needs.logits]
            return Several(first, more, teacher.model.kind)
        settings = self.recipe.cache
        precision = resolve_precision(self.recipe.train.precision, self.device)
        teacher.model.net.to(self.device).eval()
        live = LiveTeacher(teacher.model, encoded, needs, precision, self._count)
        if settings.mode != "auto":
            return live

        def stored(head: str) -> tuple[SignalCache, int]:
            cache = SignalCache(
                home() / "signals",
                model=teacher.model,
                digest=teacher.digest,
                encoded=encoded,
                precision=precision,
                dtype=settings.dtype,
                head=head,
            )
            return cache, cache.bytes_needed(needs)

        top = f"top-{settings.top_k}-{settings.draws}"
        cache, needed = stored(top if needs.head and settings.vocabulary == "top" else "head")
        if needs.head and settings.vocabulary == "top" and needs.whole:
            raise RecipeError(
                "cache.vocabulary: top keeps the most likely ids, and a temperature other than 1 asks for the whole tail; set "
                "objective.soft.temperature to 1, or cache.vocabulary to hidden."
            )
        if needs.head:
            if settings.vocabulary == "auto" and not needs.whole and needed > settings.budget_gb * 1e9:
                cache, needed = stored(top)
            self._say_once(cache.in_words(needs, needed))
        if needed > settings.budget_gb * 1e9:
            self._say_once(
                f"The teacher's outputs would take {needed / 1e9:.1f} GB, more than cache.budget_gb allows "
                f"({settings.budget_gb:g}): the teacher is run in every epoch instead."
            )
            return live
        interrupted, ran = None, Counter[str]()
        try:
            cache.fill(needs, lambda examples: ran.update(teacher=examples), self.stop)  # with all other processes
        except Interrupted as error:
            interrupted = error
        self._count(over_processes(ran["teacher"]))
        if any_process(interrupted is not None):
            raise interrupted or self.stop.interruption("the teacher's outputs so far are saved.")
        return CachedTeacher(cache, needs)

    def _count(self, examples: int) -> None:
        self._asked["teacher"] += examples

    def _say_once(self, sentence: str) -> None:
        """Not once for each masking of the rows."""
        if sentence not in self._said:
            self._said.add(sentence)
            say(sentence)

    # -- durable steps -------------------------------------------------------------------------------------------------

    def _step(self, name: str, about: dict[str, Any], *, shared: bool = False) -> Step:
        """Open a step, unless the process was asked to stop."""
        if any_process(self.stop.received is not None):
            raise self.stop.interruption("all finished steps are saved.")
        if self._replay is not None:
            self._replay.require_step(self.folder, name)
        return open_step(self.folder, name, about, shared=shared)

    def fit(
        self,
        name: str,
        model: Model,
        objective: Objective,
        *,
        teacher: Source | Told | None = None,
        settings: TrainSettings | None = None,
        about: dict[str, Any] | None = None,
        seed: int | None = None,
        rows: TaskData | None = None,
        max_length: int | None = None,
        shared: bool = False,
    ) -> Model:
        """Train a model in a durable step and return it with its best weights.

        Args:
            name: of the step; also what its randomness derives from.
            objective: what it learns. Terms that need a teacher get the signals of `teacher`, from disk if possible.
            settings: in place of the recipe's `train`.
            about: the settings the objective was made from: part of the step's key.
            seed: of the order of rows and of dropout; the recipe's by default.
            rows: what it is trained and selected on; the task's by default. Its task may be another one than the run's:
                the model then has that task's outputs, is scored by its metric, and saved and loaded with its labels.
            max_length: of the inputs, in tokens; `student.max_length` by default, or else `task.max_length`.
            shared: keep the step where other runs find it (for steps that do not depend on the method).

        Raises:
            RecipeError: a term needs outputs that model or teacher do not have; or the name is taken.
        """
        job = self._job(name, model, objective, teacher, settings, seed, rows, max_length)
        step, done = self._fitted(job, about, shared=shared)
        read_projections(step.folder, objective)
        found = load_fit(name, step.folder, job.rows.task, scale=self.scale_of(job.rows))
        if found.bare:
            self._bare[digest(found.net)] = step.folder
        return dataclasses.replace(found, notes=(*model.notes, *done.get("notes", ())))

    def fit_together(
        self,
        name: str,
        model: Model,
        views: Views,
        objective: Objective,
        teacher: Source,
        *,
        about: dict[str, Any] | None = None,
        shared: bool = False,
    ) -> dict[str, Trained]:
        """`fit` of all sub-networks of a model at once: view -> how it went; each becomes a model of its own when loaded."""
        job = self._job(name, model, objective, teacher, views=views)
        step, done = self._fitted(job, about, shared=shared)
        task, scale = job.rows.task, self.scale

        def load(view: str) -> Model:
            return load_fit(name, step.folder, task, scale=scale, view=view)

        return {
            view: Trained(of["best_value"], of["best_step"], of["values"], lambda view=view: load(view))
            for view, of in done["views"].items()
        }

    def _job(
        self,
        name: str,
        model: Model,
        objective: Objective,
        teacher: Source | Told | None,
        settings: TrainSettings | None = None,
        seed: int | None = None,
        rows: TaskData | None = None,
        max_length: int | None = None,
        *,
        views: Views | None = None,
    ) -> Job:
        """What is to be trained, once all is known, with the parts of the model frozen that are not."""
        require_outputs(name, objective, student=model, teacher=teacher.model if isinstance(teacher, Source) else None)
        settings, rows = settings or self.recipe.train, rows or self.data
        seed = self.recipe.seed if seed is None else seed
        prepare(model, settings, self.recipe.how, seed=seed)
        length = max_length or self.recipe.student.max_length
        train, select = (
            self.encoded(model, part, rows=rows, max_length=length) for part in (rows.train, rows.select)
        )
        return Job(name, model, objective, teacher, settings, rows, train, select[0], seed, views)

    def _fitted(self, job: Job, about: dict[str, Any] | None, *, shared: bool) -> tuple[Step, dict[str, Any]]:
        """The step of a fit, finished, and what it says about itself (`FitResult`, `notes`)."""

        keep_end = not shared and job.settings.open_ended

        def train(folder: Path) -> dict[str, Any] | None:
            outcome = fit(dataclasses.replace(self._prepared(job, folder), keep_end=keep_end), self.stop)
            if not accelerator().is_main_process:
                return None
            self._score_bare(job, folder)
            write_projections(folder, job.objective)
            save_models(folder, job, self.scale_of(job.rows))
            return {**dataclasses.asdict(outcome), "notes": [f"{job.name}: {note}" for note in job.objective.notes()]}

        step = self._step(job.name, self._key(job, about), shared=shared)
        if self._replay is not None and self._replay.name == job.name:
            self._replay.repeat(step.folder, lambda folder, start: fit(self._prepared(job, folder), self.stop, start=start))
        # Checkpoints prove a fit and are no part of it. A run keeps its last ones, for `verify --replay`.
        done = step.once(train, without=(PREFIX, f"{BEST}/"), wait=shared)
        if accelerator().is_main_process:
            if not keep_end:
                # The model that was saved holds the same weights.
                disk.remove(step.folder / BEST)
            for old in step.folder.glob(f"{PREFIX}*") if shared else ():
                disk.remove(old)
        self.seconds[job.name] = done["seconds"]
        return step, done

    def _key(self, job: Job, about: dict[str, Any] | None) -> dict[str, Any]:
        task = job.rows.task
        more: dict[str, Any] = {
            "precision": resolve_precision(job.settings.precision, self.device),
            "device": self.device.type,
        }
        # Entries that came later are left out where they say nothing new, so that steps made before are still found.
        if job.teacher and self.recipe.cache.dtype != "fp32":
            more["signals"] = self.recipe.cache.dtype
        if task.weights:
            more["class_weights"] = list(task.weights)
        kept = self.recipe.cache
        if job.teacher and job.objective.needs_teacher.head and kept.mode == "auto" and kept.vocabulary != "hidden":
            budget = [kept.budget_gb] if kept.vocabulary == "auto" else []  # which decides what is kept
            more["vocabulary"] = [kept.vocabulary, kept.top_k, kept.draws, *budget]
        if not same_task(task, self.data.task):
            more["task"] = [task.kind, *task.labels]
        return job.key(about, **more)

    def taught(self, job: Job) -> list[Teacher]:
        """What the teacher says about the training rows, once for each encoding of them."""
        if isinstance(job.teacher, Told):
            return [job.teacher.signals_of(job.rows.train)]
        assert job.teacher is not None
        theirs = self.encoded(job.teacher.model, job.rows.train, rows=job.rows)
        if job.rows.task.kind.masked:
            require_same_masks(theirs, job.train)
        needs = job.objective.needs_teacher
        said = [self.signals(job.teacher, needs, part) for part in theirs]
        tokenizer = job.model.tokenizer
        if not needs.head:
            return said
        if same_vocabulary(job.teacher.model.tokenizer, tokenizer):
            sizes = {vocabulary_head(one.net).weight.shape[0] for one in (job.teacher.model, job.model)}
            return said if len(sizes) == 1 else [Cut(one, len(tokenizer)) for one in said]
        words = between_vocabularies(job.teacher.model.tokenizer, tokenizer)
        parts = zip(said, job.train, theirs, strict=True)
        aligned = [AlignedTeacher(one, ours, other, words, strict=needs.strict) for one, ours, other in parts]
        for teacher in aligned:
            self._say_once(teacher.in_words())
        return [*aligned]

    def _prepared(self, job: Job, folder: Path) -> Fit:
        """A job with its teacher's signals at hand."""
        teachers = None
        if job.is_taught:
            teachers = self.taught(job)
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
            select="loss" if job.rows.task.kind.by_objective else job.rows.task.select,
            trackers=self._trackers,
            views=job.views,
        )

    def _select_scores(self, job: Job) -> dict[str, float]:
        """Selection metrics of the current weights; where no label says what is right, the objective itself, held out."""
        task = job.rows.task
        if task.kind.by_objective:
            teacher = job.teacher if isinstance(job.teacher, Source) else None
            return {"loss": self.held_out(job.model, job.objective, teacher, job.rows, job.select, job.settings)}
        precision = resolve_precision(job.settings.precision, self.device)
        scale = self.scale_of(job.rows)
        return compute(task, predict(job.model, job.rows.select, job.select, precision=precision, scale=scale))

    def held_out(
        self, model: Model, objective: Objective, teacher: Source | None, rows: TaskData, select: Encoded, settings: TrainSettings
    ) -> float:
        """The objective on selection rows; `select`: the rows in the model's own tokens."""
        says = None
        if teacher is not None:
            theirs = self.encoded(teacher.model, rows.select, rows=rows)[0]
            says = self.signals(teacher, objective.needs_teacher, theirs)
        return held_out_loss(model, select, objective.to(self.device), says, settings)

    def _score_bare(self, job: Job, folder: Path) -> None:
        """A model without outputs predicts nothing: its test scores are the objective itself, while it is at hand."""
        if not job.model.bare or job.rows is not self.data:
            return
        for test, examples in self.data.tests.items():
            encoded = self.encoded(job.model, examples, max_length=self.recipe.student.max_length)[0]
            says = None
            if job.is_taught:
                assert isinstance(job.teacher, Source)
                theirs = self.encoded(job.teacher.model, examples)
                require_same_masks(theirs, [encoded])
                says = LiveTeacher(job.teacher.model, theirs[0], job.objective.needs_teacher, "fp32", self._count)
            values = loss_by_row(job.model, encoded, job.objective, says)
            made = Predictions([example.id for example in examples], values, np.ones(len(values)))
            write_predictions(folder / held_out_name(test), made)

    def keep(self, name: str, about: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """A choice or a measurement, made once: a resumed run cannot decide otherwise. JSON in, JSON out."""
        step = self._step(name, {"kind": "keep", "version": KEEP_VERSION, **about})
        return step.once(lambda _: {"value": make()} if accelerator().is_main_process else None)["value"]

    def keep_arrays(
        self, name: str, about: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """What was found out about a model, as arrays by name: made once, and shared between runs."""

        def work(folder: Path) -> dict[str, Any] | None:
            if not accelerator().is_main_process:
                return None
            start = perf_counter()
            write_arrays(folder, make())
            return {"seconds": perf_counter() - start}

        step = self._step(name, {"kind": "arrays", "version": KEEP_VERSION, **about}, shared=True)
        self.seconds[name] = step.once(work)["seconds"]
        return read_arrays(step.folder)
