"""The lab: what a method works with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.base.progress import say
from understudy.cache import LiveTeacher, content_digest
from understudy.data.answers import answer_columns
from understudy.data.tasks import load_task
from understudy.data.types import Example, TaskData
from understudy.evaluate.measure import num_parameters_nonembedding
from understudy.evaluate.predict import outputs, predict
from understudy.evaluate.predictions import Predictions
from understudy.kinds import sign_of
from understudy.lab.adapting import with_given
from understudy.lab.bench import Bench
from understudy.lab.fits import Source, copy_of, held_out_name, labels_only
from understudy.lab.layers import best_layers
from understudy.lab.pruning import cut_to_shape, pruned
from understudy.lab.saved import read_predictions, write_predictions
from understudy.lab.told import Told
from understudy.lab.vocabulary import with_embeddings
from understudy.models.heads import to_standard_units
from understudy.models.load import load_model
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.recipe.settings import FinetuneSettings, TeacherSettings, TrainSettings
from understudy.steps import safe
from understudy.students.fresh import fresh
from understudy.students.keep_layers import keep_layers
from understudy.students.share import share, shares
from understudy.train.devices import accelerator

PREDICT_VERSION = 1
"""Raised by hand whenever predictions would come out differently."""
SMALL = 30_000_000
"""Parameters outside the embeddings of the largest teacher for which rates are the higher ones."""
RATES = ((5e-5, 1e-4, 2e-4), (1e-5, 2e-5, 5e-5))
"""Learning rates that `auto` tries: of small teachers (MiniLM's size learns little at BERT-base's rate), and of others."""
TRIAL_STEPS = 200


class Lab(Bench):
    """The bench, and on it the models a method starts from: the teacher ready to teach, the student before training."""

    _why_this_rate: tuple[str, ...] = ()

    @cached_property
    def _pretrained(self) -> Source:
        settings = self.recipe.teacher
        if settings is None:
            raise RecipeError("This method needs a teacher: add `teacher: {model: …}` to the recipe.")
        seed = self.recipe.seed if settings.seed is None else settings.seed
        return self._checkpoint_of(settings, seed)

    def _checkpoint_of(self, settings: TeacherSettings, seed: int) -> Source:
        return self._checkpoint(
            settings.model, "teacher.model", seed, revision=settings.revision, trust_remote_code=settings.trust_remote_code,
            replace_head=settings.finetune is not None, among=self.recipe.task.labels is not None,
        )  # fmt: skip

    def pretrained(self) -> Source:
        """The checkpoint `teacher.model` as it is, with a fresh head where it has none for this task."""
        return self._pretrained

    def _checkpoint(self, ref: str, key: str, seed: int, **options: Any) -> Source:
        task = self.data.task
        model = load_model(ref, task=task, key=key, seed=seeds.derive(seed, "head"), **options)
        for note in model.notes:
            say(note)
        if task.kind.standardise and not model.fresh_head:
            to_standard_units(model.net, *self.scale)
        return Source.of(model)

    def teacher(self) -> Source:
        """The teacher, ready to teach: as given, or fine-tuned on the task first in a step that runs share."""
        return self._teacher

    def answers(self) -> Told | None:
        """What the teacher said, where the recipe has its answers and not the teacher."""
        given = self.recipe.teacher
        if given is None or given.model:
            return None
        name = given.server.model if given.server else ", ".join(answer_columns(given.columns)) if given.columns else ""
        return Told(self.data, self.scale, name)

    @cached_property
    def _teacher(self) -> Source:
        start, settings = self.pretrained(), self.recipe.teacher
        assert settings is not None
        if settings.finetune is None:
            if given := self.recipe.how.teacher_adapter(self.recipe.method):
                return Source.of(with_given(start.model, given))
            if start.model.fresh_head and not start.model.bare:  # plain text: hidden states can still be learnt
                raise RecipeError(
                    f"teacher.model: {settings.model} has no trained head for {self.data.task.name}. Give a checkpoint "
                    "that was fine-tuned for it, or add `teacher: {finetune: {epochs: 3}}` to fine-tune it here first."
                )
            return start
        model = self._finetuned("teacher", start.model, settings.seed)
        models = [dataclasses.replace(model, notes=(*model.notes, *self._why_this_rate))]
        for number in range(2, settings.ensemble + 1):
            seed = seeds.derive(self.recipe.seed if settings.seed is None else settings.seed, "teacher", number)
            models.append(self._finetuned(f"teacher-{number}", self._checkpoint_of(settings, seed).model, seed))
        if settings.ensemble > 1:
            models[0].notes += (f"The teacher is the mean of {settings.ensemble} models; size and speed are those of one.",)
        return Source.of_several(models)

    def _finetuned(self, name: str, start: Model, seed: int | None) -> Model:
        return self.fit(
            name,
            copy_of(start),
            labels_only(self.data.task),
            settings=self.teaching,
            seed=seed,
            rows=self._teacher_rows,
            max_length=self.recipe.task.max_length,
            shared=True,
        )

    @cached_property
    def _teacher_rows(self) -> TaskData:
        languages = self.recipe.teacher.languages if self.recipe.teacher else None
        if languages is None:
            return self.data.labelled()
        return load_task(self.recipe.task.model_copy(update={"train_languages": languages}), seed=self.recipe.split_seed)

    @cached_property
    def teaching(self) -> TrainSettings:
        """How the teacher is fine-tuned. `lr: auto` stands for the best of three rates on the selection rows, each tried for as
        many epochs as `TRIAL_STEPS` need; the trials are steps that runs share."""
        settings = self.recipe.teacher
        assert settings is not None and settings.finetune is not None
        training: FinetuneSettings = self.recipe.how.teacher_training(self.recipe.method, settings.finetune)
        if training.lr != "auto":
            return training
        start, rows = self.pretrained().model, self._teacher_rows
        per_epoch = -(-len(rows.train) // training.batch_size)
        epochs = min(training.epochs, -(-TRIAL_STEPS // per_epoch))
        rates = RATES[num_parameters_nonembedding(start.net) > SMALL]
        found = {}
        for rate in rates:
            job = self._job(
                f"teacher-lr-{rate:.0e}", copy_of(start), labels_only(self.data.task), None,
                training.model_copy(update={"lr": rate, "epochs": epochs}), settings.seed, rows, self.recipe.task.max_length,
            )  # fmt: skip
            found[rate] = self._fitted(job, None, shared=True)[1]["best_metrics"][rows.task.select]
        best = max(rates, key=lambda rate: (sign_of(rows.task.select) * found[rate], rate))
        tried = ", ".join(f"{rate:.0e}: {value:.4f}" for rate, value in found.items())
        many = f"{epochs} epoch{'s' if epochs > 1 else ''}"
        why = f"teacher.finetune.lr: auto took {best:.0e} ({rows.task.select} on the selection rows after {many}: {tried})."
        self._why_this_rate = (why,)
        say(why)
        return training.model_copy(update={"lr": best})

    def student(self, sizes: Mapping[str, Any] | None = None) -> Model:
        """The student before training: a checkpoint, some of the teacher's layers, or a fresh architecture; then its layers
        are used again, if they are to be.

        `sizes`: of a fresh architecture, where the recipe leaves them to a search.
        """
        model, settings = self._built(sizes), self.recipe.student
        if not (self.recipe.share == "none" or (settings.share == "auto" and shares(model.net))):
            model = share(model, self.recipe.share, own_norms=settings.own_norms)
        model = with_embeddings(self, model)
        if model.kind.causal and settings.model is None:  # made of the teacher, it stops where the teacher stops
            model.net.generation_config = copy.deepcopy(self.pretrained().model.net.generation_config)
        return model if settings.adapter is None else with_given(model, settings.adapter, headless=True)

    @cached_property
    def _given_student(self) -> Source:
        assert self.recipe.student.model is not None
        return self._checkpoint(self.recipe.student.model, "student.model", self.recipe.seed, replace_head=True)

    def _built(self, sizes: Mapping[str, Any] | None) -> Model:
        settings, seed = self.recipe.student, self.recipe.seed
        if settings.model is not None:
            return copy_of(self._given_student.model)
        if settings.config is not None and settings.init == "teacher":
            sizes, whole = settings.config.model_dump(exclude_none=True), self.teacher()
            number = sizes.pop("num_hidden_layers", None)
            if number is None:
                return cut_to_shape(self, whole.model, sizes)
            kept = keep_layers(whole.model, self.layers_of(whole, number), num_layers=number)
            return cut_to_shape(self, kept, sizes, name="importance-student")
        if settings.config is not None:
            sizes = settings.config.model_dump(exclude_none=True)
        elif settings.searched and sizes is None:
            raise RecipeError("The student of this recipe is found by its method, which has not run yet.")
        if sizes is not None:
            return fresh(self.pretrained().model, sizes, seed=seed)
        start = self.pretrained() if settings.init == "pretrained" and not settings.prunes else self.teacher()
        if settings.prunes and settings.num_layers is None and isinstance(settings.keep, str):
            return pruned(self, start.model)
        kept = keep_layers(start.model, self.layers_of(start), num_layers=settings.num_layers)
        return pruned(self, kept, name="importance-student") if settings.prunes else kept

    def layers_of(self, whole: Source, number: int | None = None) -> str | tuple[int, ...]:
        """What `student.keep` says, its `best` found out for a model and a number of layers (the recipe's)."""
        settings = self.recipe.student
        number = number or settings.num_layers
        return settings.keep if settings.keep != "best" or number is None else best_layers(self, whole, number)

    def _vectors(self, teacher: Source, examples: Sequence[Example]) -> list[np.ndarray]:
        """A teacher's vectors of the texts of some rows, in fp32; computed once in a process."""
        if id(examples) not in self._known_vectors:
            teacher.model.net.to(self.device)
            made = outputs(teacher.model, self.encoded(teacher.model, examples)[0])
            self._known_vectors[id(examples)] = examples, made
        return self._known_vectors[id(examples)][1]

    @cached_property
    def _known_vectors(self) -> dict[int, tuple[Sequence[Example], list[np.ndarray]]]:
        return {}

    def predictions(
        self, name: str, source: Source, *, is_teacher: bool = False, beside: Source | None = None
    ) -> dict[str, Predictions]:
        """What a finished model predicts on each test set, in fp32; durable, and shared for a teacher. `beside`: a teacher that
        reads the same tokens, which the model's outputs are compared with.

        A model without outputs has the value of its own objective for each row, written down at the end of its fit.
        """
        tests, kind = self.data.tests, self.data.task.kind
        if source.model.bare:
            folder = self._bare[source.digest]
            return {test: read_predictions(folder / held_out_name(test), rows, kind) for test, rows in tests.items()}
        found = {}
        for test, examples in tests.items():
            own_length = None if is_teacher else self.recipe.student.max_length
            encoded = self.encoded(source.model, examples, max_length=own_length)[0]
            compared = self._teacher if kind.pooled and self.recipe.teacher is not None else None
            about: dict[str, Any] = {
                "kind": "predict",
                "version": PREDICT_VERSION,
                "model": source.digest,
                "examples": content_digest(encoded),
                "scale": list(self.scale),
                "device": self.device.type,
            }
            if compared is not None:
                about["teacher"] = compared.digest
            if beside is not None:
                about["beside"] = beside.digest

            def work(folder, test=test, examples=examples, encoded=encoded, compared=compared):
                if not accelerator().is_main_process:
                    return None
                source.model.net.to(self.device)
                if is_teacher:
                    self._count(len(examples) * (1 + len(source.others)))
                taught = None if compared is None else self._vectors(compared, examples)
                teacher = None
                if beside is not None:
                    beside.model.net.to(self.device)
                    teacher = LiveTeacher(beside.model, encoded, Needs(logits=True), "fp32", lambda _: None)
                made = predict(
                    source.model, examples, encoded, scale=self.scale, taught=taught, teacher=teacher, others=source.others
                )
                write_predictions(folder, made)
                return {"rows": len(made)}

            step = self._step(f"predict-{name}-{safe(test)}", about, shared=is_teacher)
            step.once(work)
            found[test] = read_predictions(step.folder, examples, kind)
        return found
