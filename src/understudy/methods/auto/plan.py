"""`method: auto`: from what a student may cost to a complete recipe, by what the comparisons have shown.

    FORMS      the kinds of students, the one that learns best at equal cost first   (docs/auto.md)
    OBJECTIVE  what it learns, and on which schedule

Of the first kind that has a student within all limits, the largest is taken. The choice is made once and kept in `auto.json`
of the run's folder; the recipe it stands for becomes the run's `config.yaml`, which runs without `auto` as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.base import disk
from understudy.base.errors import RecipeError, UnderstudyError
from understudy.base.progress import say
from understudy.figures.words import megabytes, milliseconds, short
from understudy.methods.auto.settings import Auto
from understudy.models.source import hub_reachable
from understudy.recipe.load import apply_changes, recipe_from, recipe_hash
from understudy.recipe.settings import Recipe
from understudy.train.devices import accelerator

if TYPE_CHECKING:
    from understudy.data.types import Task
    from understudy.models.anatomy import Net
    from understudy.models.model import Model

FILE = "auto.json"
OBJECTIVE: dict[str, Any] = {"name": "automm"}
FORMS = ("pruned", "layers")
SMALL_FORMS = ("stock", "pruned", "layers")
"""The kinds of students where a speed or a size is asked for: first those that run at their speed anywhere."""
DEFAULT_SHARE = 0.51
"""Of the teacher's operations, where a recipe names no limit: half, and a little for what lies outside the layers."""
RESERVE = 0.9
"""Of a limit in milliseconds is what a student may need when it is looked at: finished, it has other heads than those that
were taken for it, and a clock does not say the same twice."""
CANDIDATES = 8
"""In a round of a search."""


@dataclass(frozen=True)
class Option:
    """A student that could be made of the teacher: its section of the recipe, and what it costs. `latency_ms` is None where
    time is not limited."""

    student: dict[str, Any]
    parameters: int
    flops: int
    latency_ms: float | None
    size_mb: float = 0.0
    time_share: float | None = None
    """Of the teacher's time, measured in turns with it."""

    def within(self, limits: Mapping[str, float]) -> bool:
        """Whether it costs no more than any of the limits."""
        return all(getattr(self, cost) <= limit for cost, limit in limits.items())


@dataclass(frozen=True)
class Choice:
    """What was chosen: the limits, changes to the recipe, the reason as a sentence, and all that was looked at."""

    limits: dict[str, float]
    changes: dict[str, Any]
    reason: str
    options: tuple[Option, ...]


def settle(
    method: Auto, recipe: Recipe, folder: Path | None, *, look: bool = False, task: Task | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe that `method: auto` stands for, and why it is that one.

    Args:
        folder: of the run: what was chosen there before is not chosen again. None in a comparison, where nothing is kept.
        task: the recipe's, where its files have been read already.
        look: choose, and write nothing down; where the teacher is out of reach the recipe stays as it is.

    Raises:
        RecipeError: nothing fits the limits, or the folder holds a choice for other settings.
    """
    path = folder / FILE if folder is not None else None
    if look and (path is None or not path.exists()):
        try:
            teacher = _teacher(recipe, task)
        except UnderstudyError:
            ref = recipe.teacher.model if recipe.teacher else ""
            if ref.startswith("package:") or Path(ref).expanduser().is_dir() or hub_reachable():
                raise
            return recipe, ["auto chooses as soon as the teacher can be read."]
        choice = choose(recipe, method, teacher)
        return changed(recipe, choice.changes), [choice.reason]
    if folder is None or path is None:
        if method.max_latency_ms is not None or method.faster is not None:
            raise RecipeError(
                "auto with max_latency_ms or faster would measure, and perhaps choose another student, each time the comparison "
                "is continued; give max_flops or max_parameters."
            )
        choice = choose(recipe, method, _teacher(recipe, task))
        return changed(recipe, choice.changes), [choice.reason]
    train = recipe.train.model_copy(update={"epochs": 1, "planned_epochs": None})  # may be raised later; decides nothing here
    asked = recipe_hash(recipe.model_copy(update={"train": train}))
    if accelerator().is_main_process and not look and not (path.exists() and (folder / "steps").is_dir()):
        choice = choose(recipe, method, _teacher(recipe, task))
        say(choice.reason)
        disk.write_json(path, {"asked": asked, **asdict(choice)})
    accelerator().wait_for_everyone()
    kept = disk.read_json(path)
    if kept["asked"] != asked:
        raise RecipeError(f"{folder} holds a run that was chosen with different settings; use another --out for this one.")
    return changed(recipe, kept["changes"]), [kept["reason"]]


def arm(own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
    """What it chooses for the costs of the base student, so that it can be paid for like any other arm."""
    return {**base.searched_student(), "method": base.limited(own)}, []


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe of `auto` with what was chosen in it."""
    return recipe_from(apply_changes(recipe.model_dump(mode="json"), changes, source="method auto"), source="method auto")


def choose(recipe: Recipe, method: Auto, teacher: Model) -> Choice:
    """Student, objective and schedule within the limits of the method.

    Raises:
        RecipeError: no student that can be made of this teacher is within the limits.
    """
    looked: list[Option] = []
    timed = method.max_latency_ms is not None or method.faster is not None

    def look(student: dict[str, Any], net: Net) -> Option:
        looked.append(_option(recipe, student, net, beside=teacher.net if timed else None))
        return looked[-1]

    whole = look({}, teacher.net)
    named = {"parameters": method.max_parameters, "flops": method.max_flops, "latency_ms": method.max_latency_ms,
             "size_mb": method.max_mb, "time_share": 1 / method.faster if method.faster else None}  # fmt: skip
    limits = {cost: limit for cost, limit in named.items() if limit is not None} or {"flops": int(DEFAULT_SHARE * whole.flops)}
    if method.search:
        found = _search(method, limits)
        tried = found["method"]["episodes"] * found["method"]["candidates"]  # whole rounds
        return Choice(limits, found, f"auto: {tried} architectures are tried by kdnas.", tuple(looked))
    aims = {cost: RESERVE * limit if cost in ("latency_ms", "time_share") else limit for cost, limit in limits.items()}
    small = method.faster is not None or method.max_mb is not None
    start, vocabulary = _with_vocabulary(recipe, teacher, asked=small)
    smallest = []
    for kind in SMALL_FORMS if small else FORMS:
        options = [cache(lambda student=student, make=make: look(student, make())) for student, make in STUDENTS[kind](start)]
        if (found := _largest(options, aims)) is not None:
            own = recipe.student
            stays = {"max_length": own.max_length, "vocabulary": vocabulary, "embedding_rank": own.embedding_rank}
            reason = f"auto: {_said(found)}; the teacher: {_costs(whole, limits)}. It learns with {OBJECTIVE['name']}."
            return Choice(limits, {"student": {**found.student, **stays}, "method": OBJECTIVE}, reason, tuple(looked))
        smallest += [_said(options[-1]())] if options else []
    asked = " and ".join(bound(cost, limit) for cost, limit in limits.items())
    raise RecipeError(
        f"method auto: {asked}: no student made from this teacher ({_costs(whole, limits)}) is that small. The smallest: "
        f"{'; '.join(smallest)}. Raise the limit, search for another architecture (`method.search: 64`), or give a small "
        "checkpoint as `student.model` with `method: automm`."
    )


# -- students that can be made of a teacher, the largest first ---------------------------------------------------------


def _pruned(teacher: Model) -> list[tuple[dict[str, Any], Callable[[], Net]]]:
    """All layers, with fewer heads and neurons in them. Which ones costs nothing, so here they all count alike."""
    from understudy.models.restructure import cut, num_units
    from understudy.students.allocation import Scores, allocate

    def net(sparsity: float) -> Net:
        smaller = copy.deepcopy(teacher.net)
        kept = allocate(Scores.alike(*num_units(smaller)), sparsity)
        cut(smaller, heads=kept.heads, neurons=kept.neurons)
        return smaller

    sparsities = [round(0.05 * number, 2) for number in range(1, 20)]
    return [({"sparsity": sparsity}, lambda sparsity=sparsity: net(sparsity)) for sparsity in sparsities]


def _layers(teacher: Model) -> list[tuple[dict[str, Any], Callable[[], Net]]]:
    """Some of the layers, as they are; none for a family whose layers are one."""
    from understudy.models.anatomy import anatomy
    from understudy.students.keep_layers import keep_layers

    row = anatomy(teacher.net)
    numbers = range(row.num_layers(teacher.net) - 1, 0, -1) if row.family != "albert" else ()
    return [({"num_layers": n}, lambda n=n: keep_layers(teacher, num_layers=n).net) for n in numbers]


def _stock(teacher: Model) -> list[tuple[dict[str, Any], Callable[[], Net]]]:
    """Stock shapes: one head less each time, width and neurons with it, and layers in the same proportion."""
    from understudy.models.anatomy import anatomy
    from understudy.models.restructure import num_units
    from understudy.students.allocation import Scores
    from understudy.students.keep_layers import keep_layers
    from understudy.students.stock import StockScores, cut_to_sizes

    row, net = anatomy(teacher.net), teacher.net
    layers, heads, width = row.num_layers(net), row.num_heads(net), row.head_dim(net)
    alike = np.ones(row.width(net))

    def make(sizes: dict[str, int], depth: int) -> Net:
        kept = teacher if depth == layers else keep_layers(teacher, num_layers=depth)
        return cut_to_sizes(kept, sizes, StockScores(Scores.alike(*num_units(kept.net)), alike, alike)).net

    found = []
    for number in range(heads - 1, 0, -1):
        share = number / heads
        sizes = {"hidden_size": number * width, "intermediate_size": max(8, 8 * round(share * row.num_neurons(net) / 8))}
        if row.family == "electra" and sizes["hidden_size"] == net.config.embedding_size:
            continue  # see students/stock.py
        depth = layers if row.family == "albert" else max(1, round(share * layers))
        deep = {} if row.family == "albert" else {"num_hidden_layers": depth}
        student = {"config": {**sizes, **deep}, "init": "teacher", **({"keep": "best"} if depth < layers else {})}
        found.append((student, lambda sizes=sizes, depth=depth: make(sizes, depth)))
    return found


STUDENTS = {"pruned": _pruned, "layers": _layers, "stock": _stock}


def _with_vocabulary(recipe: Recipe, teacher: Model, *, asked: bool) -> tuple[Model, dict[str, Any] | None]:
    """What students are made of, with the tokens that they will have: those in use, where a student is to be small and the
    recipe says nothing; and `student.vocabulary` as it is from now on."""
    from understudy.data.encode import encode
    from understudy.data.tasks import data_of
    from understudy.lab.vocabulary import trimmed

    own = recipe.student.vocabulary
    if own is None and (not asked or teacher.kind.on_vocabulary):
        return teacher, None
    wanted = apply_changes(recipe.model_dump(mode="json"), {"student.vocabulary": "used"}, source="method auto")
    data, length = data_of(recipe), recipe.student.max_length or recipe.task.max_length

    def encoded(rows: Sequence[Any]) -> Any:
        return encode(rows, teacher.tokenizer, data.task, max_length=length)

    try:
        made = trimmed(recipe if own else recipe_from(wanted, source="method auto"), data, teacher, encoded)
    except RecipeError:
        if own is not None:
            raise
        return teacher, None  # a tokenizer that knows whole words only
    return made, {} if own is None else own.model_dump(mode="json")


def _search(method: Auto, limits: Mapping[str, float]) -> dict[str, Any]:
    """A search within the limits, of students that are cut out of the teacher: its activation, its layers to begin with."""
    space = {"activations": None, **{f"max_{cost}": limit for cost, limit in limits.items()}}
    each = min(CANDIDATES, method.search)
    search = {"name": "kdnas", "init": "teacher", "space": space, "episodes": method.search // each, "candidates": each}
    return {"student": {"searched": True}, "method": search}


# -- what they cost ----------------------------------------------------------------------------------------------------


def _teacher(recipe: Recipe, task: Task | None = None) -> Model:
    from understudy.data.tasks import data_of
    from understudy.models.load import load_model

    given = recipe.teacher
    assert given is not None  # the method needs one
    task = task or data_of(recipe).task
    return load_model(
        given.model, task=task, key="teacher.model", revision=given.revision, trust_remote_code=given.trust_remote_code,
        among=recipe.task.labels is not None,
    )


def _option(recipe: Recipe, student: dict[str, Any], net: Net, *, beside: Net | None) -> Option:
    """What a network costs; its time only beside another one, in turns with it, as the report of a run measures it."""
    from understudy.evaluate import measure
    from understudy.models.anatomy import anatomy

    run, latency, share = recipe.evaluate.latency, None, None
    if beside is not None:
        device = accelerator().device
        times = measure.latency_of({"teacher": beside.to(device), "it": net.to(device)}, run, device)
        latency = times["it"]["median"]
        share = latency / times["teacher"]["median"]
    flops = measure.flops(net, length=min(run.length, anatomy(net).max_tokens(net)))
    return Option(student, measure.num_parameters(net), flops, latency, measure.size_mb(net), share)


def _largest(options: Sequence[Callable[[], Option]], limits: Mapping[str, float]) -> Option | None:
    """The first of the options, of which each costs less than the one before it, that is within the limits."""
    if not options or not options[-1]().within(limits):
        return None
    low, high = 0, len(options) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if options[middle]().within(limits) else (middle + 1, high)
    return options[low]()


# -- in words ----------------------------------------------------------------------------------------------------------


def bound(cost: str, limit: float) -> str:
    return f"at least {amount(cost, limit)}" if cost == "time_share" else f"at most {amount(cost, limit)}"


def amount(cost: str, value: float) -> str:
    if cost == "latency_ms":
        return milliseconds(value)
    if cost == "time_share":
        return f"{1 / value:.1f} times as fast as the teacher"
    if cost == "size_mb":
        return megabytes(value)
    return f"{short(value)} {'parameters' if cost == 'parameters' else 'operations'}"


def _costs(option: Option, limits: Mapping[str, float]) -> str:
    return ", ".join(amount(cost, getattr(option, cost)) for cost in limits)


def _said(option: Option) -> str:
    said = {**option.student.get("config", {}), **{key: value for key, value in option.student.items() if key != "config"}}
    shape = ", ".join(f"student.{'config.' if key in option.student.get('config', {}) else ''}{key} {value}"
                      for key, value in said.items())  # fmt: skip
    costs = [f"{short(option.parameters)} parameters", f"{short(option.flops)} operations"]
    costs += [milliseconds(option.latency_ms)] if option.latency_ms is not None else []
    costs += [amount("time_share", option.time_share)] if option.time_share is not None else []
    return f"{shape} ({', '.join(costs)})"
