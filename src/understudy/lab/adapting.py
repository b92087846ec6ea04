"""`train.only`: what is frozen before a fit, and what becomes of the adapted student after it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from understudy.adapters import active, extract, freeze, inject, installed, merge, mergeable, put
from understudy.adapters.files import read_adapter, write_adapter
from understudy.base.errors import RecipeError
from understudy.base.progress import say
from understudy.models.model import Model
from understudy.recipe.adapter import BottleneckAdapter, written_out
from understudy.recipe.method import Method
from understudy.recipe.settings import TrainSettings


def prepare(model: Model, settings: TrainSettings, method: Method, *, seed: int) -> None:
    """Freeze what is not to be trained, in place; with `only: adapter` put one in unless there is one already."""
    only = settings.trains(method)
    if only == "all":
        return
    if only == "adapter" and active(model.net) is None:
        adapter = settings.adapter or BottleneckAdapter.model_validate(written_out("pfeiffer"))
        inject(model.net, adapter, seed=seed)
    freeze(model.net, adapter=active(model.net) if only == "adapter" else None)


def with_given(model: Model, folder: str, *, headless: bool = False) -> Model:
    """A copy of a model with the adapter in a folder, and the head that came with it.

    Args:
        headless: it will be trained, so an untrained head will do.

    Raises:
        RecipeError: it does not fit, or there is no head, neither with it nor in the model.
    """
    adapted = replace(model, net=copy.deepcopy(model.net))
    adapter = read_adapter(Path(folder).expanduser(), adapted.net)
    for line in put(adapted.net, adapter):
        say(line)
    if model.fresh_head and not adapter.head and not headless:
        raise RecipeError(f"method.adapter: {folder} came without a head for the task, and the model has none either.")
    return adapted


def deliver(model: Model, folder: Path, *, base: str) -> Model:
    """Write the adapter of an adapted model, with its head, into `folder/adapter`; return the model as it is to be saved.

    What can be merged is: the student is then a stock model. A bottleneck stays, and is loaded after `understudy.register()`.
    """
    name = active(model.net)
    if name is None:
        return model
    write_adapter(folder / "adapter", extract(model.net, name, head=True), model.net, base=base)
    if not mergeable(installed(model.net)[name]):
        return model
    merged = replace(model, net=copy.deepcopy(model.net))
    merge(merged.net, name)
    return merged
