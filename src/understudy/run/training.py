"""A recipe in, a finished run directory out."""

from __future__ import annotations

import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from understudy.base import progress
from understudy.base.errors import DataError, RecipeError
from understudy.base.lock import lock
from understudy.base.progress import say
from understudy.data.known import facts_of, sentences
from understudy.data.tasks import data_of
from understudy.evaluate.predict import predict as predict_examples
from understudy.evaluate.thresholds import best_thresholds, move_boundaries
from understudy.lab import Lab, Source
from understudy.lab.fits import Job, copy_of, labels_only
from understudy.models.load import reader_of
from understudy.recipe.load import load_recipe
from understudy.recipe.settings import Recipe
from understudy.run.claim import claim
from understudy.run.prove import prove
from understudy.train.devices import accelerator, set_determinism, start_trackers
from understudy.train.guard import StopSignals


def train(recipe: Recipe, folder: Path | str) -> dict[str, Any]:
    """Start the run in `folder`, or continue it if this run is there already. Returns the content of result.json.

    Raises:
        RecipeError: the folder holds a run with different settings; the message says which.
        Interrupted: after a signal, with everything done so far committed.
    """
    folder = Path(folder)
    set_determinism(recipe.determinism)
    main = accelerator().is_main_process
    if not main:  # one voice for all processes
        progress.quiet = True
        warnings.simplefilter("ignore")
    # The main process holds the lock for all: ranks of one run share its folder.
    with StopSignals() as stop, lock(folder) if main else nullcontext():
        asked = recipe
        data = data_of(recipe)
        recipe, _ = recipe.how.settle(recipe.method, recipe, folder, task=data.task)
        claim(recipe, folder, data)
        trackers = start_trackers(recipe.track, "understudy", str(folder / "tracking")) if main else []
        lab = Lab(recipe, folder, stop, trackers)
        if recipe.teacher is None or recipe.teacher.server is None:  # else the lab reads them with the server's answers
            lab.data = data
        data = lab.data
        known = facts_of(data, *(reader_of(recipe, words=data.task.kind.by_word) or ()))
        data.notes += sentences(known)
        for note in data.notes:
            say(note)
        models = _train_models(recipe, lab)
        if recipe.evaluate.thresholds == "select":
            models = _with_thresholds(lab, models)
        result = prove(recipe, lab, models, folder, asked.how, known)
        for tracker in trackers:
            tracker.finish()
    return result


def _train_models(recipe: Recipe, lab: Lab) -> dict[str, Source]:
    """Teacher, baseline and student, each in durable steps of its own."""
    models: dict[str, Source] = {}
    if recipe.teacher is not None and recipe.teacher.model and (recipe.how.needs_teacher or recipe.teacher.finetune is not None):
        models["teacher"] = lab.teacher()
    student = recipe.how.distil(recipe.method, lab) if recipe.student.searched else None  # found first
    asked = lab.data.task.kind
    known = asked.causal or any(row.label is not None for row in lab.data.train)
    if recipe.evaluate.baseline and recipe.how.needs_teacher and asked.labelled and not known:
        lab.data.notes.append("There is no baseline: no training row has a label that it could learn from.")
        say(lab.data.notes[-1])
    elif recipe.evaluate.baseline and recipe.how.needs_teacher and known and (asked.labelled or asked.causal):
        untrained = recipe.how.untrained(recipe.method, lab)
        model = lab.fit("baseline", untrained, labels_only(lab.data.task), rows=lab.data.labelled(), shared=True)
        models["baseline"] = Source.of(model)
    elif recipe.evaluate.baseline and asked.pooled:
        models["baseline"] = Source.of(recipe.how.untrained(recipe.method, lab))
    student = student or recipe.how.distil(recipe.method, lab)
    models["student"] = Source.of(student)
    return models


def _with_thresholds(lab: Lab, models: dict[str, Source]) -> dict[str, Source]:
    """All models with the boundaries that are best on the selection rows."""
    if lab.data.task.kind.distribution != "sigmoid":
        raise RecipeError(f"evaluate.thresholds: a task of kind {lab.data.task.kind} has none; they are for several labels.")
    rows = [row for row in lab.data.select if row.label is not None]
    gold = lab.data.task.kind.gold([row.label for row in rows])

    def find() -> dict[str, list[float]]:
        found = {}
        for name, source in models.items():
            length = None if name == "teacher" else lab.recipe.student.max_length
            source.model.net.to(lab.device)
            made = predict_examples(source.model, rows, lab.encoded(source.model, rows, max_length=length)[0])
            found[name] = best_thresholds(made.scores, gold)
        return found

    kept = lab.keep("thresholds", {"models": {name: source.digest for name, source in models.items()}}, find)
    moved = {name: copy_of(source.model) for name, source in models.items()}
    for name, model in moved.items():
        move_boundaries(model, kept[name])
    lab.data.notes.append(f"Thresholds chosen on {len(rows)} selection rows are part of the weights (evaluate.thresholds).")
    return {name: Source.of(model) for name, model in moved.items()}


class _Taught(Exception):
    """All that the student's first fit asks of the teacher is in the store."""


class _Teaching(Lab):
    """A lab that stops where a student would begin to train."""

    def taught(self, job: Job) -> Any:
        super().taught(job)
        raise _Taught


def teach(recipe: Recipe) -> int:
    """Fine-tune the teacher and store what it says about the training rows, as far as the first student of the recipe asks for
    it. Any number of processes that see the same store do this together, and beside runs. Returns on how many examples the
    teacher was run here.

    Raises:
        RecipeError: the recipe has no teacher that could be run.
    """
    if recipe.teacher is None or not recipe.teacher.model or not recipe.how.needs_teacher:
        raise RecipeError("`understudy teach` is for recipes whose student learns from a model: here no teacher is run.")
    set_determinism(recipe.determinism)
    with StopSignals() as stop, TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe, _ = recipe.how.settle(recipe.method, recipe, folder)
        lab = _Teaching(recipe, folder, stop)
        with suppress(_Taught):
            recipe.how.distil(recipe.method, lab)
        return lab.teacher_examples


def search_worker(folder: Path | str) -> int:
    """Work on the search of the run in `folder`, beside its own process or before it; returns the candidates tried in all."""
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise DataError(f"{folder} is not the folder of a run: it has no config.yaml. Start the run first.")
    recipe = load_recipe(folder / "config.yaml")
    set_determinism(recipe.determinism)
    with StopSignals() as stop:
        return recipe.how.join(recipe.method, Lab(recipe, folder, stop))
