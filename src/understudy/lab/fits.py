"""One fit: who learns what from whom on which rows, what names it, and what is left of it on disk."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.base import disk
from understudy.base.errors import RecipeError, VerifyError
from understudy.cache import Teacher, content_digest
from understudy.data.encode import Encoded, collate
from understudy.data.types import Task, TaskData
from understudy.lab.told import Told
from understudy.models.heads import to_label_units, to_standard_units
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.save import save_model
from understudy.models.signals import forward
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.settings import TrainSettings
from understudy.steps import safe
from understudy.train.devices import accelerator
from understudy.train.learner import count_step
from understudy.train.select import Best
from understudy.train.task import Views

VERSION = 2
"""Raised by hand whenever a fit would give other results."""

NOT_RESULT = {"checkpoint_seconds", "checkpoint_steps", "max_tokens"}
"""Training settings that never change the result: they are not part of a step's key."""

_LATER = ("optimizer", "clip", "shuffle", "planned_epochs", "only", "adapter", "evaluate_at", "checkpoint_activations",
          "batch_tokens", "tokens")
"""Training settings that came after the first release: at their defaults they are left out of keys, so that steps made
before are still found."""


@dataclass(frozen=True)
class Source:
    """A teacher as a method sees it: the model, and the digest that names it in keys.

    others: models of the same shape that teach with it. Outputs are the mean of all; all else is the first one's.
    """

    model: Model
    digest: str
    others: tuple[Model, ...] = ()

    @classmethod
    def of(cls, model: Model) -> Source:
        """A model as it is now; its weights must not change any more."""
        return cls(model, digest(model.net))

    @classmethod
    def of_several(cls, models: Sequence[Model]) -> Source:
        """Models that teach together."""
        if len(models) == 1:
            return cls.of(models[0])
        seen = hashlib.blake2b("".join(digest(model.net) for model in models).encode(), digest_size=16)
        return cls(models[0], seen.hexdigest(), tuple(models[1:]))


def copy_of(model: Model) -> Model:
    """The same model with weights of its own, so that training one leaves the other alone."""
    return dataclasses.replace(model, net=copy.deepcopy(model.net))


def labels_only(task: Task) -> Objective:
    """The loss on the true labels, whatever a recipe's objective says; masked words for plain text. It makes teachers, and the
    baseline that every distilled student is compared with."""
    return Objective(hard=hard_labels(task.kind, class_weights=task.weights))


@dataclass(frozen=True)
class Job:
    """One fit: who learns what from whom, on which rows."""

    name: str
    model: Model
    objective: Objective
    teacher: Source | Told | None
    settings: TrainSettings
    rows: TaskData
    train: list[Encoded]
    select: Encoded
    seed: int
    views: Views | None = None

    @property
    def is_taught(self) -> bool:
        """Whether a term of the objective listens to the teacher."""
        return self.teacher is not None and bool(self.objective.needs_teacher)

    def key(self, about: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        """Everything that decides the result; `more` is what the lab knows (precision, device)."""
        return {
            "kind": "fit",
            "version": VERSION,
            "name": self.name,
            "model": digest(self.model.net),
            "objective": {name: [repr(term.weight), term.unit] for name, term in self.objective.terms.items()},
            "about": about or {},
            "teacher": self.teacher.digest if self.teacher else None,
            "train": [content_digest(part) for part in self.train],
            "select": [content_digest(self.select), self.rows.task.select],
            "settings": settings_key(self.settings),
            "ranks": accelerator().num_processes,
            "seed": self.seed,
            **more,
        }


def settings_key(settings: TrainSettings) -> dict[str, Any]:
    """Training settings as part of a step's key."""
    named = settings.model_dump(mode="json", exclude=NOT_RESULT)
    defaults = TrainSettings().model_dump(mode="json", include=set(_LATER))
    return {name: value for name, value in named.items() if name not in defaults or value != defaults[name]}


# -- what a fit leaves -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """One of several sub-networks after their fit.

    `best_value` of the selecting metric was reached in step `best_step`; `values` are all of them, as [step, value].
    """

    best_value: float
    best_step: int
    values: list[list[float]]
    load: Callable[[], Model]


def model_folder(view: str | None) -> str:
    """The folder, inside a fit's, of the model or of one of its sub-networks."""
    return "model" if view is None else f"model-{safe(view)}"


def save_models(folder: Path, job: Job, scale: tuple[float, float]) -> None:
    """The trained model, or the best of each of its sub-networks, in the label's own units."""
    if job.views is None:
        _save(job.model, folder / model_folder(None), scale)
        return
    best = Best(folder)
    best.load(0)
    for view in job.views.all:
        net = job.views.small(view)
        best.put_back(net, view)
        _save(dataclasses.replace(job.model, net=net), folder / model_folder(view), scale)


def _save(model: Model, folder: Path, scale: tuple[float, float]) -> None:
    if model.kind.standardise:
        to_label_units(model.net, *scale)
    save_model(model, folder, card="")
    if model.kind.standardise:
        to_standard_units(model.net, *scale)


def load_fit(name: str, folder: Path, task: Task, *, scale: tuple[float, float], view: str | None = None) -> Model:
    """The model of a finished fit, or one of the several it left, in the units models train in.

    Raises:
        VerifyError: a bit of it has changed.
    """
    place = folder / model_folder(view)
    wrong = disk.problems(place)
    if wrong:
        raise VerifyError(f"The finished step {name} is damaged: {wrong[0]}. Delete {folder} and repeat the command.")
    model = load_model(str(place), task=task)
    if task.kind.standardise:
        to_standard_units(model.net, *scale)
    model.net.to(accelerator().device)
    return model


# -- models without outputs --------------------------------------------------------------------------------------------
# Backbones, as sentence encoders are, have hidden states and nothing to predict with. On plain text they can learn states,
# relations and features. There is no label and no metric for them: they are chosen and scored by the objective itself, on
# rows that were not trained on.


def held_out_name(test: str) -> str:
    """The folder, inside a fit's, with the values on a test set."""
    return f"held-out-{safe(test)}"


def require_outputs(name: str, objective: Objective, *, student: Model, teacher: Model | None) -> None:
    """Refuse terms on outputs that are not there.

    Raises:
        RecipeError: naming the terms, the model and the remedy.
    """
    for who, of in (("student", student), ("teacher", teacher)):
        if of is None or not of.bare:
            continue
        terms = objective.terms.items()
        asking = [term for term, of_it in terms if getattr(of_it, f"needs_{who}").logits]
        if asking:
            raise RecipeError(
                f"{name}: {of.source} has no head on the vocabulary, which {', '.join(asking)} needs. Give a masked "
                "language model (a checkpoint saved as …ForMaskedLM), or learn from hidden states, relations or features "
                "alone."
            )


@torch.inference_mode()
def loss_by_row(model: Model, encoded: Encoded, objective: Objective, teacher: Teacher | None) -> np.ndarray:
    """(N,) float64: what each row adds to the objective, times N, so that their mean is the objective on all rows.

    With the weights of the end of training, in fp32. Terms that compare rows are left out.
    """
    objective = objective.separable_part()
    net = model.net.eval()
    device = next(net.parameters()).device
    counts = count_step(encoded, np.arange(len(encoded)))
    values = np.zeros(len(encoded))
    for i in range(len(encoded)):
        batch = collate(encoded, [i]).to(device)
        says = None if teacher is None else teacher.signals([i]).map(lambda tensor: tensor.to(device))
        said = forward(net, batch, objective.needs_student, kind=model.kind)
        values[i] = float(objective.compute(said, says, batch.labels, progress=1.0, counts=counts)[0])
    return values * len(encoded)
