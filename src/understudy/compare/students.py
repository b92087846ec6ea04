"""Who learns: what the arm of a method changes of the base recipe, so that its student suits it and is as large as the others.

Automm, mkd and finetune take the recipe's student as it is; peakd too; minidisc and maxidisc prune the teacher to as many
parameters; kdnas finds and auto chooses one with no more parameters and operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from understudy.auto import choose
from understudy.base.errors import RecipeError
from understudy.check import Seen
from understudy.compare.sizes import flops_of, nearest_sparsity, pruned_parameters
from understudy.methods.peakd.settings import PeaKD
from understudy.objective.ptp import WHY_NOT
from understudy.recipe.comparison import CompareSettings, changed
from understudy.recipe.settings import Recipe
from understudy.recipe.staged import GRID

ROOM = 1.01
"""A searched student may exceed the base student by 1 %: heads differ a little between networks."""


@dataclass(frozen=True)
class Base:
    """What all arms start from.

    recipe    the base recipe
    data      the same as plain data, as all arms have it; of the method only what the file says
    seen      of its task, its teacher and its student
    settings  of the comparison
    """

    recipe: Recipe
    data: dict[str, Any]
    seen: Seen
    settings: CompareSettings


def changes_of(name: str, base: Base) -> dict[str, Any]:
    """What a method's arm changes of the base recipe: the method, and a student that suits it."""
    own = base.data["method"] if name == base.recipe.method.name else {"name": name}
    return MAKERS[name](own, base) if name in MAKERS else {"method": own}


def left_out(recipe: Recipe, seen: Seen) -> list[str]:
    """What the method does without on this task, and why, in sentences."""
    kind = seen.data.task.kind if seen.data else ""
    if isinstance(recipe.method, PeaKD) and recipe.method.ptp is None and kind in WHY_NOT:
        return [f"Without PTP, which is for classes: {WHY_NOT[kind]}."]
    return []


def _peakd(own: dict[str, Any], base: Base) -> dict[str, Any]:
    kind = base.seen.data.task.kind if base.seen.data else "classification"
    off = {"ptp": "off"} if kind in WHY_NOT and "ptp" not in own else {}
    return {"method": {**own, **off}}


def _minidisc(own: dict[str, Any], base: Base) -> dict[str, Any]:
    student, sparsity = _pruned(base)
    # The published least sparsity of an assistant suits students of a tenth: for larger ones half their own.
    room = {} if "min_assistant_sparsity" in own or sparsity > 0.5 else {"min_assistant_sparsity": sparsity / 2}
    return {**student, "method": {**own, **room}}


def _maxidisc(own: dict[str, Any], base: Base) -> dict[str, Any]:
    student, sparsity = _pruned(base)
    if "path" in own or "assistants" in own:
        return {**student, "method": own}
    least = min(0.5, sparsity / 2)
    names = [f"{100 * s:g}S" for s in GRID if least <= s < sparsity]
    return {**student, "method": {**own, **({"assistants": names} if names else {"path": []})}}


def _pruned(base: Base) -> tuple[dict[str, Any], float]:
    """The student of minidisc and maxidisc, and its sparsity."""
    wanted, given = base.settings.sparsity, base.recipe.student
    whole = given.num_layers is None and isinstance(given.keep, str)
    if wanted is None and given.sparsity is not None and whole:
        return {}, given.sparsity
    if wanted is None:
        teacher, student = base.seen.teacher, base.seen.student
        if teacher is None or student is None:
            raise RecipeError("the sizes of teacher and student are not known here; say compare.sparsity.")
        wanted = nearest_sparsity(student.parameters, pruned_parameters(base.recipe, teacher.net.config))
    return {"student": {"sparsity": wanted, "max_length": given.max_length}}, wanted


def _kdnas(own: dict[str, Any], base: Base) -> dict[str, Any]:
    space = _limits(dict(own.get("space") or {}), base)
    mini = {"batch_size": base.recipe.train.batch_size, **dict(own.get("mini_kd") or {})}
    return {**_made_by_the_method(base), "method": {**own, "space": space, "mini_kd": mini}}


def _auto(own: dict[str, Any], base: Base) -> dict[str, Any]:
    """What it chooses, so that it can be paid for like any other arm."""
    asked = {**_made_by_the_method(base), "method": _limits(own, base)}
    return choose(changed(base.data, asked, source="arm auto")).changes


def _made_by_the_method(base: Base) -> dict[str, Any]:
    return {"student": {"searched": True, "max_length": base.recipe.student.max_length}}


def _limits(given: dict[str, Any], base: Base) -> dict[str, Any]:
    """Settings with limits: those of the base student, where they name none."""
    student = base.seen.student
    if student is None or any(given.get(name) for name in ("max_parameters", "max_flops", "max_latency_ms")):
        return given
    operations = flops_of(student, length=base.recipe.evaluate.latency.length)
    limits = {"max_parameters": int(ROOM * student.parameters)}
    return {**given, **limits, **({"max_flops": int(ROOM * operations)} if operations else {})}


MAKERS: Mapping[str, Callable[[dict[str, Any], Base], dict[str, Any]]] = {
    "peakd": _peakd, "minidisc": _minidisc, "maxidisc": _maxidisc, "kdnas": _kdnas, "auto": _auto,
}  # fmt: skip
"""(what the method's settings are so far, the base) -> changes, for the methods whose arm is not just the method's name."""
