"""The models a method starts from: the checkpoint as it is, the teacher ready to teach, the student before training."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.data.tasks import load_task
from understudy.data.types import TaskData
from understudy.lab.adapting import with_given
from understudy.lab.pruning import pruned
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.scale import to_standard_units
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.students.fresh import fresh
from understudy.students.keep_layers import keep_layers
from understudy.students.share import share, shares

if TYPE_CHECKING:
    from understudy.lab.lab import Lab


FOUND = "found sizes"
"""What a searching method remembers its student's sizes under (`Lab.once`)."""


@dataclass(frozen=True)
class Source:
    """A teacher as a method sees it: the model, and the digest that names it in keys."""

    model: Model
    digest: str


def copy_of(model: Model) -> Model:
    """The same model with weights of its own, so that training one leaves the other alone."""
    return dataclasses.replace(model, net=copy.deepcopy(model.net))


def checkpoint(lab: Lab, key: str) -> Source:
    """The checkpoint that `teacher.model` or `student.model` names, with a fresh head where it has none for this task."""
    task = lab.data.task
    if key == "teacher.model":
        settings = lab.recipe.teacher
        if settings is None:
            raise RecipeError("This method needs a teacher: add `teacher: {model: …}` to the recipe.")
        ref, revision, trust = settings.model, settings.revision, settings.trust_remote_code
        seed = lab.recipe.seed if settings.seed is None else settings.seed
    else:
        assert lab.recipe.student.model is not None
        ref, revision, trust, seed = lab.recipe.student.model, None, False, lab.recipe.seed
    model = load_model(
        ref, task=task, key=key, revision=revision, trust_remote_code=trust, seed=seeds.derive(seed, "head")
    )
    if task.kind == "regression" and not model.fresh_head:
        to_standard_units(model.net, *lab.scale)
    return Source(model, digest(model.net))


def teacher(lab: Lab) -> Source:
    """The teacher as given, or fine-tuned on the task first, in a step that runs share."""
    settings = lab.recipe.teacher
    start = lab.pretrained()
    assert settings is not None
    if settings.finetune is None:
        if given := lab.recipe.how.teacher_adapter(lab.recipe.method):
            model = with_given(start.model, given)
            return Source(model, digest(model.net))
        if start.model.fresh_head and not start.model.bare:  # plain text: hidden states are there to be learnt
            raise RecipeError(
                f"teacher.model: {settings.model} has no trained head for {lab.data.task.name}. Give a checkpoint "
                "that was fine-tuned for it, or add `teacher: {finetune: {epochs: 3}}` to fine-tune it here first."
            )
        return start
    model = lab.fit(
        "teacher",
        copy_of(start.model),
        Objective(hard=hard_labels(lab.data.task.kind)),
        settings=lab.recipe.how.teacher_training(lab.recipe.method, settings.finetune),
        seed=settings.seed,
        rows=_teacher_rows(lab),
        max_length=lab.recipe.task.max_length,
        shared=True,
    )
    return Source(model, digest(model.net))


def _teacher_rows(lab: Lab) -> TaskData:
    """What the teacher is fine-tuned on: the task's rows, or those of `teacher.languages`."""
    languages = lab.recipe.teacher.languages if lab.recipe.teacher else None
    if languages is None:
        return lab.data
    task = lab.recipe.task.model_copy(update={"train_languages": languages})
    return load_task(task, seed=lab.recipe.split_seed)


def student(lab: Lab) -> Model:
    """The student before training: a checkpoint, some of the teacher's layers, or a fresh architecture; then its layers
    are used again, if they are to be."""
    model, settings = _built(lab), lab.recipe.student
    if not (lab.recipe.share == "none" or (settings.share == "auto" and shares(model.net))):
        model = share(model, lab.recipe.share, own_norms=settings.own_norms)
    return model if settings.adapter is None else with_given(model, settings.adapter, headless=True)


def _built(lab: Lab) -> Model:
    settings = lab.recipe.student
    if settings.model is not None:
        return copy_of(lab.once("student.model", lambda: checkpoint(lab, "student.model")).model)
    if settings.config is not None:
        sizes = settings.config.model_dump(exclude_none=True)
        return fresh(lab.pretrained().model, sizes, seed=lab.recipe.seed)
    if settings.searched:
        return fresh(lab.pretrained().model, lab.once(FOUND, _not_found_yet), seed=lab.recipe.seed)
    start = lab.pretrained() if settings.init == "pretrained" and not settings.prunes else lab.teacher()
    if settings.prunes and settings.num_layers is None and isinstance(settings.keep, str):
        return pruned(lab, start.model)
    kept = keep_layers(start.model, settings.keep, num_layers=settings.num_layers)
    return pruned(lab, kept) if settings.prunes else kept


def _not_found_yet() -> dict[str, int]:
    raise RecipeError("The student of this recipe is found by its method, which has not run yet.")
