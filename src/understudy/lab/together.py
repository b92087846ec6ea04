"""A fit of several sub-networks at once: one durable step, the best of each as a model of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.lab.keys import safe, step_folder
from understudy.lab.models import Source
from understudy.lab.steps import load_fit, read_done
from understudy.models.model import Model
from understudy.objective import Objective
from understudy.train.best import Best
from understudy.train.views import Views

if TYPE_CHECKING:
    from understudy.lab.lab import Lab


@dataclass(frozen=True)
class Trained:
    """One sub-network after the fit.

    `best_value` of the selecting metric was reached in step `best_step`; `values` are all of them, as [step, value].
    """

    best_value: float
    best_step: int
    values: list[list[float]]
    load: Callable[[], Model]


def best_models(folder: Path, model: Model, views: Views) -> dict[str, Model]:
    """The sub-networks with the best weights that a fit left in its folder, by the names of their models there."""
    best = Best(folder)
    best.load(0)
    found = {}
    for name in views.all:
        net = views.small(name)
        best.put_back(net, name)
        found[model_name(name)] = dataclasses.replace(model, net=net)
    return found


def model_name(view: str) -> str:
    """The folder of a sub-network's model within its step."""
    return f"model-{safe(view)}"


def fit_together(
    lab: Lab,
    name: str,
    model: Model,
    views: Views,
    objective: Objective,
    teacher: Source,
    *,
    about: dict[str, Any],
    shared: bool,
) -> dict[str, Trained]:
    """`Lab.fit` of all views of a model at once; each ends as a model of its own, loaded when it is asked for."""
    task, scale = lab.data.task, lab.scale
    lab.fit(name, model, objective, teacher=teacher, about=about, views=views, shared=shared)
    if lab.repeating == name:  # nothing was finished: the last steps were repeated
        return {view: Trained(0.0, 0, [], lambda: model) for view in views.all}
    folder = step_folder(lab.folder, name)
    done = read_done(folder)

    def load(view: str) -> Model:
        return load_fit(name, folder, task, scale=scale, part=model_name(view))

    return {
        view: Trained(of["best_value"], of["best_step"], of["values"], lambda view=view: load(view))
        for view, of in done["views"].items()
    }
