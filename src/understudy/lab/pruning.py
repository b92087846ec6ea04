"""The pruned student: importance as a durable step, how much is cut to reach a sparsity or a budget, and the cut."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from understudy.cache import content_digest
from understudy.evaluate import measure
from understudy.lab.bench import Bench
from understudy.models.anatomy import Net
from understudy.models.model import Model, digest
from understudy.models.restructure import cut, num_units
from understudy.recipe.settings import Recipe
from understudy.students.allocation import Allocation, Scores, allocate, fit_budget
from understudy.students.importance import channel_importance, importance
from understudy.students.sparsify import parameters_of, sparsify
from understudy.students.stock import StockScores, complete_sizes, cut_to_sizes

EXACT, MEASURED = 14, 7
"""Steps of the bisection over sparsities: where costs are counted exactly, and where times are noisy."""


def pruned(lab: Bench, model: Model, *, name: str = "importance") -> Model:
    """The recipe's student, cut from the fine-tuned teacher or from what was made of it, with the recipe's sparsity or budget.

    `name`: of the step with the importance of the model's parts; models that a run cuts have different ones.
    """
    found = allocation(lab, model, lab.recipe.student.sparsity, name=name)
    student = sparsify(model, found)
    return dataclasses.replace(student, notes=(*student.notes, f"student: {describe(model.net, found)}"))


def allocation(lab: Bench, model: Model, sparsity: float | None, *, name: str = "importance") -> Allocation:
    """What stays of a model at a sparsity; None: at the recipe's budget. The larger contains the smaller."""
    at = rule(lab.recipe, scores_of(lab, model, name))
    found = counted(lab.recipe, model.net, at, sparsity)
    return at(_measured(lab, model, at)) if found is None else found


def rule(recipe: Recipe, scores: Scores) -> Callable[[float], Allocation]:
    """Sparsity -> what stays, as the recipe wants it cut."""
    settings = recipe.student.prune
    return partial(
        allocate,
        scores,
        min_heads=settings.min_heads,
        min_neurons=settings.min_neurons,
        uniform=settings.uniform,
        multiple=settings.multiple,
        parity=_parity(recipe),
    )


def counted(recipe: Recipe, net: Net, at: Callable[[float], Allocation], sparsity: float | None) -> Allocation | None:
    """What stays at a sparsity, or within a number of parameters; None for budgets that can only be measured.

    Raises:
        RecipeError: so few parameters that heads and neurons alone cannot make up for it.
    """
    settings = recipe.student.prune
    if sparsity is not None and settings.count == "encoder":
        return at(sparsity)
    cost = parameters_of(net, count=settings.count)
    if sparsity is not None:
        limit = (1 - sparsity) * cost(at(0.0))
        return fit_budget(at, cost, limit, what=f"student.sparsity {sparsity:g} of all parameters: the limit")
    assert settings.budget is not None
    if settings.budget.parameters is not None:
        return fit_budget(at, cost, settings.budget.parameters, what=f"{_KEY}.parameters")
    return None


def nearest_sparsity(parameters: int, sizes_at: Callable[[float], int]) -> float:
    """The sparsity, in whole hundredths, whose student has the number of parameters that is nearest.

    Args:
        sizes_at: sparsity -> parameters; never more for a larger sparsity.

    >>> nearest_sparsity(700, lambda s: round(1000 - 500 * s))
    0.6
    """
    low, high = 1, 99
    while low < high:  # the first hundredth with at most as many
        middle = (low + high) // 2
        low, high = (low, middle) if sizes_at(middle / 100) <= parameters else (middle + 1, high)
    options = [low / 100] if low == 1 else [(low - 1) / 100, low / 100]
    return min(options, key=lambda s: (abs(sizes_at(s) - parameters), -s))


def pruned_parameters(recipe: Recipe, config: Any) -> Callable[[float], int]:
    """Sparsity -> parameters of the recipe's teacher cut to it, all heads and neurons counting alike."""
    from transformers import AutoModel

    def parameters(sparsity: float) -> int:
        with torch.device("meta"):
            net = AutoModel.from_config(copy.deepcopy(config))  # cutting changes it
        kept = allocate(Scores.alike(*num_units(net)), sparsity, multiple=recipe.student.prune.multiple)
        cut(net, heads=kept.heads, neurons=kept.neurons)
        return measure.num_parameters(net)

    return parameters


def cut_to_shape(lab: Bench, kept: Model, sizes: Mapping[str, Any], *, name: str = "importance") -> Model:
    """The student of stock shape: the fine-tuned teacher, or some of its layers, cut to sizes by importance.

    Args:
        name: of the step with the importance of its heads and neurons, as for `pruned`.

    Raises:
        RecipeError: sizes that no network of the family has; see `students.stock`.
    """
    complete_sizes(kept.net, sizes)
    units = scores_of(lab, kept, name)
    rows = lab.encoded(kept, lab.sample(lab.recipe.student.prune.importance_rows, "importance", labelled=True))[0]
    about = {"what": "channels", "model": digest(kept.net), "examples": content_digest(rows), "device": lab.device.type}

    def make() -> dict[str, np.ndarray]:
        kept.net.to(lab.device)
        return dict(zip(("channels", "pooled"), channel_importance(kept, rows), strict=True))

    arrays = lab.keep_arrays(f"{name}-channels", about, make)
    return cut_to_sizes(kept, sizes, StockScores(units, arrays["channels"], arrays["pooled"]))


def scores_of(lab: Bench, model: Model, name: str) -> Scores:
    """Importance of a model's heads and neurons, measured once: it does not depend on the method, so runs share it."""
    settings, parity = lab.recipe.student.prune, _parity(lab.recipe)
    rows = lab.data.select if parity else lab.sample(settings.importance_rows, "importance", labelled=True)
    encoded = lab.encoded(model, rows)[0]
    granularity = settings.granularity or ("batch" if parity else "example")
    about = {
        "what": "importance",
        "model": digest(model.net),
        "examples": content_digest(encoded),
        "granularity": granularity,
        "device": lab.device.type,
    }

    def make() -> dict[str, np.ndarray]:
        model.net.to(lab.device)
        scores = importance(model, encoded, granularity=granularity)
        kinds = {"heads": scores.heads, "neurons": scores.neurons}
        return {f"{kind}.{layer}": array for kind, arrays in kinds.items() for layer, array in enumerate(arrays)}

    arrays = lab.keep_arrays(name, about, make)
    layers = range(len(arrays) // 2)
    return Scores(tuple(arrays[f"heads.{i}"] for i in layers), tuple(arrays[f"neurons.{i}"] for i in layers))


def describe(net: Net, kept: Allocation) -> str:
    """What is kept of a model, in numbers of the encoder and of the whole, so that the two are not confused."""
    all_heads, all_neurons = (tuple(tuple(range(number)) for number in each) for each in num_units(net))
    whole = Allocation(0.0, all_heads, all_neurons)
    heads, neurons = (
        f"{sum(map(len, some)):,} of {sum(map(len, each)):,}"
        for some, each in ((kept.heads, whole.heads), (kept.neurons, whole.neurons))
    )
    shares = []
    for count in ("encoder", "total"):
        cost = parameters_of(net, count=count)
        shares.append(f"{cost(kept) / 1e6:,.2f} of {cost(whole) / 1e6:,.2f} million ({cost(kept) / cost(whole):.1%})")
    return (
        f"{heads} heads and {neurons} neurons are kept. That is {shares[0]} parameters of its "
        f"layers, and {shares[1]} of all, embeddings included, which are not cut."
    )


def _measured(lab: Bench, model: Model, at: Callable[[float], Allocation]) -> float:
    """The least sparsity within a budget of operations or time; decided once, since timings vary."""
    budget = lab.recipe.student.prune.budget
    assert budget is not None
    run = lab.recipe.evaluate.latency

    def milliseconds(allocation: Allocation) -> float:
        return measure.latency_of({"student": sparsify(model, allocation).net}, run, lab.device)["student"]["median"]

    def operations(allocation: Allocation) -> float:
        return measure.flops(sparsify(model, allocation).net, batch_size=run.batch_size, length=run.length)

    def search() -> float:
        if budget.flops is not None:
            return fit_budget(at, operations, budget.flops, what=f"{_KEY}.flops", steps=EXACT).sparsity
        assert budget.latency_ms is not None
        return fit_budget(at, milliseconds, budget.latency_ms, what=f"{_KEY}.latency_ms", steps=MEASURED).sparsity

    model.net.to(lab.device)
    about = {"model": digest(model.net), "prune": lab.recipe.student.prune.model_dump(mode="json"), **run.model_dump()}
    return lab.keep("sparsity", about, search)


_KEY = "student.prune.budget"


def _parity(recipe: Recipe) -> bool:
    """Whether to prune as MiniDisc was released: said by itself, or with the method."""
    own = recipe.student.prune.parity
    return own if own is not None else recipe.how.prunes_as_released(recipe.method)
