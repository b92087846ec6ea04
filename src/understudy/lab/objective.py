"""The recipe's objective for two models of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from understudy.data.types import TaskData
from understudy.lab.fits import Source
from understudy.lab.lab import Lab
from understudy.lab.told import Told
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.objective import Objective
from understudy.objective.pair import ANSWERS, Pair, side_of
from understudy.objective.vocabulary import build
from understudy.steps import key_of

Variances = Callable[[Sequence[int]], Mapping[int, torch.Tensor]]


def objective_for(
    lab: Lab, student: Model, teacher: Source | Told | None, *, without: Collection[str] = (), variances: Variances | None = None
) -> Objective:
    """What the recipe says is learned, for a student and whoever teaches it.

    Args:
        without: terms of the recipe to leave out.
        variances: teacher layers -> (D_t,) variance of each dimension of their states; by default over the training rows.

    Terms that are left out are told in the student's notes. Raises RecipeError, with the reason, for a term that has no meaning
    for these two.
    """
    said = teacher.model if isinstance(teacher, Source) else None
    pair = Pair(
        kind=lab.data.task.kind,
        student=side_of(student.net, outputs=not student.bare, head=False),
        teacher=side_of(said.net, outputs=not said.bare) if said else ANSWERS if teacher else None,
        num_labels=max(1, len(lab.data.task.labels)),
        class_weights=lab.data.task.weights,
        seed=lab.recipe.seed,
        same_tokens=said is not None and lab.same_tokens(said, student),
        variances=variances
        or ((lambda layers: variances_of(lab, teacher, layers, lab.data)) if isinstance(teacher, Source) else None),
    )
    terms = {name: settings for name, settings in lab.recipe.objective.terms().items() if name not in without}
    objective, notes = build(terms, pair)
    student.notes = (*student.notes, *notes)
    return objective


def about(lab: Lab, **more: Any) -> dict[str, Any]:
    """The recipe's objective as part of a step's key."""
    return {"objective": lab.recipe.objective.model_dump(mode="json", exclude={"of"}), **more}


def learn(lab: Lab, name: str, student: Model, teacher: Source | Told | None, **options: Any) -> Model:
    """`lab.fit` on the recipe's objective: what a method does that trains once, or in stages of the same kind."""
    return lab.fit(name, student, objective_for(lab, student, teacher), teacher=teacher, about=about(lab), **options)


def variances_of(lab: Lab, teacher: Source, layers: Sequence[int], rows: TaskData) -> dict[int, torch.Tensor]:
    """Teacher layer (from 1) -> (D_t,) variance of its hidden states over the tokens of the training rows; made once."""
    about = {"teacher": teacher.digest, "layers": list(layers), "rows": [row.id for row in rows.train]}

    def make() -> dict[str, list[float]]:
        """All layers in one pass, in double precision."""
        theirs = lab.encoded(teacher.model, rows.train, rows=rows)[0]
        says = lab.signals(teacher, Needs(hidden=tuple(layers)), theirs)
        number = len(rows.train)
        count = 0
        total, squares = ({layer: torch.zeros(()) for layer in layers} for _ in range(2))
        for start in range(0, number, 64):
            signals = says.signals(range(start, min(start + 64, number)))
            count += sum(signals.sizes)
            for layer in layers:
                states = signals.hidden[layer].double().cpu()
                total[layer] = total[layer] + states.sum(0)
                squares[layer] = squares[layer] + states.square().sum(0)
        return {
            str(layer): (squares[layer] / count - (total[layer] / count).square()).clamp_min(0).tolist() for layer in layers
        }

    found: Mapping[str, list[float]] = lab.keep(f"variances-{key_of(about)[:8]}", about, make)
    return {int(layer): torch.tensor(values) for layer, values in found.items()}
