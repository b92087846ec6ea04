"""From a comparison to its arms: for each a complete recipe that spends the same budget, or the reason why it cannot be made.

What is comparable is decided here and by the methods (`Method.arm`; docs/comparison.md says why): everybody has the teacher
of the base recipe, its rows and its seeds, a student of the same size, and as much to train it with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from understudy.base.errors import DataError, RecipeError, ResourceError, SafetyError, UnderstudyError
from understudy.check import Inspection, Sizes, look
from understudy.compare.budget import allot, planned
from understudy.kinds import kind
from understudy.lab.pruning import nearest_sparsity, pruned_parameters
from understudy.recipe.comparison import BASELINE, CompareSettings, Comparison, changed
from understudy.recipe.method import FROZEN, Facts, Stage, methods
from understudy.recipe.settings import Recipe

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
    seen: Inspection
    settings: CompareSettings

    def pruned_student(self) -> tuple[dict[str, Any], float]:
        """Changes that give an arm its teacher, pruned to about as many parameters as the base student, and its sparsity."""
        wanted, given = self.settings.sparsity, self.recipe.student
        if wanted is None and given.sparsity is not None and given.num_layers is None and isinstance(given.keep, str):
            return {}, given.sparsity
        if wanted is None:
            teacher, student = self.seen.teacher, self.seen.student
            if teacher is None or student is None:
                raise RecipeError("the sizes of teacher and student are not known here; set compare.sparsity.")
            wanted = nearest_sparsity(student.parameters, pruned_parameters(self.recipe, teacher.net.config))
        return {"student": {"sparsity": wanted, "max_length": given.max_length}}, wanted

    def searched_student(self) -> dict[str, Any]:
        """Changes that leave the student of an arm to its method."""
        return {"student": {"searched": True, "max_length": self.recipe.student.max_length}}

    def limited(self, given: dict[str, Any]) -> dict[str, Any]:
        """Settings with limits on the student: those of the base student, where they name none."""
        student = self.seen.student
        named = ("max_parameters", "max_flops", "max_latency_ms", "faster", "max_mb")
        if student is None or any(given.get(name) for name in named):
            return given
        operations = student.flops(self.recipe.evaluate.latency.length)
        limits = {"max_parameters": int(ROOM * student.parameters)}
        return {**given, **limits, **({"max_flops": int(ROOM * operations)} if operations else {})}


@dataclass(frozen=True)
class Arm:
    """One way to the student. `stages` say what it trains; `spends` how much that is, in the units of the budget."""

    name: str
    recipe: Recipe
    stages: tuple[Stage, ...]
    spends: float
    changes: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, seed: int) -> Recipe:
        """The recipe of a seed: order of rows, dropout and fresh weights differ; teacher and splits do not."""
        return self.recipe.model_copy(update={"seed": self.recipe.seed + seed})


@dataclass(frozen=True)
class Plan:
    """All arms, and what each may spend."""

    arms: tuple[Arm, ...]
    total: float


def make_plan(comparison: Comparison) -> Plan:
    """The arms of a comparison.

    Raises:
        RecipeError: naming every impossible arm and why, before anything is trained.
        UnderstudyError: what is wrong with data, teacher or student.
    """
    recipe = comparison.base
    data = _common(recipe, comparison)
    seen = look(_labels_alone(data))
    _complain(seen)
    if recipe.task.kind and kind(recipe.task.kind).on_vocabulary and seen.teacher is not None and not seen.teacher.on_vocabulary:
        raise RecipeError(
            "the students of this teacher say nothing about words, and each arm is scored by an objective of its own; compare on "
            "a task with labels, or with a teacher that was saved as …ForMaskedLM."
        )
    base = Base(recipe, data, seen, comparison.compare)
    draft = _Draft(base)
    arms, problems = [], []
    for name in (*_methods(comparison), *comparison.arms):
        try:
            arms.append(draft.arm(name, comparison.arms.get(name)))
        except UnderstudyError as error:
            said = str(error)
            problems.append(said if said.startswith(f"arm {name}: ") else f"arm {name}: {said}")
    if problems:
        raise RecipeError("\n".join(problems))
    return Plan(tuple(arms), draft.total)


def _methods(comparison: Comparison) -> tuple[str, ...]:
    settings = comparison.compare
    chosen = settings.methods or (() if comparison.arms else (comparison.method.name,))
    return (BASELINE, *(name for name in chosen if name != BASELINE))


def _common(base: Recipe, comparison: Comparison) -> dict[str, Any]:
    """The base recipe as plain data: one split and one teacher for all seeds, and no baseline within the runs. Of the method
    only what the file says, so that the rest can still be decided."""
    data = base.model_dump(mode="json")
    data["method"] = {"name": base.method.name, **comparison.method.model_dump(mode="json", exclude_unset=True)}
    if data["task"]["split_seed"] is None:
        data["task"]["split_seed"] = base.seed
    if data["teacher"] is not None and data["teacher"]["seed"] is None:
        data["teacher"]["seed"] = base.seed
    data["evaluate"]["baseline"] = False
    return data


def _labels_alone(data: dict[str, Any]) -> Recipe:
    """The base recipe without distillation: an `objective` that the file gives is for those who have a teacher."""
    return changed(data, {"method": BASELINE, "objective": None}, source="the base recipe")


def _complain(seen: Inspection) -> None:
    """Raise the first error among findings, as the kind of error it is."""
    for finding in seen.findings:
        if finding.level == "error":
            kinds = {kind.exit_code: kind for kind in (DataError, SafetyError, ResourceError)}
            raise kinds.get(finding.exit_code, RecipeError)(f"{finding.key}: {finding.text}")


class _Draft:
    """The budget, and arms that keep to it."""

    def __init__(self, base: Base) -> None:
        self.base, self.data, self.seen, self.kind = base, base.data, base.seen, base.settings.budget
        plain = _labels_alone(base.data)
        self.facts = self._facts(plain, base.seen)
        train = base.recipe.train
        self.total = float(train.epochs)
        if self.kind == "flops":
            self.total *= self.facts.share * FROZEN[plain.train.trains(plain.how)]
        if self.kind == "seconds":
            if train.time_limit is None:
                raise RecipeError("compare.budget: seconds needs `train.time_limit`, the seconds of each arm.")
            self.total = train.time_limit

    def arm(self, name: str, given: dict[str, Any] | None) -> Arm:
        """A complete recipe within the budget.

        Args:
            given: changes to the base recipe; None for the arm of the method of that name, which says itself what suits it, and
                of whose candidates the budget may cut off some.

        Raises:
            RecipeError: it is impossible, or it exceeds the budget.
        """
        source = f"arm {name}"
        own = self.data["method"] if name == self.base.recipe.method.name else {"name": name}
        changes, notes = methods()[name].arm(own, self.base) if given is None else (given, [])
        recipe = changed(self.data, changes, source=source)
        recipe, _ = recipe.how.settle(recipe.method, recipe, None)
        self._same(recipe)
        if recipe.evaluate.baseline:
            recipe = changed(recipe.model_dump(mode="json"), {"evaluate.baseline": False}, source=source)
        seen = look(recipe, data=self.seen.data)
        _complain(seen)
        facts = self._facts(recipe, seen)
        notes = self._sizes_apart(seen) + notes
        if given is None:
            fewer, more = recipe.how.affordable(recipe.method, own, recipe, facts, self.kind, self.total)
            recipe, notes = changed(recipe.model_dump(mode="json"), fewer, source=source), notes + more
        stages = recipe.how.stages(recipe.method, recipe, facts)
        if self.kind == "seconds":
            limit = self.total / sum(stage.fits for stage in stages)
            final = changed(recipe.model_dump(mode="json"), {"train.time_limit": limit}, source=source)
            return Arm(name, final, tuple(stages), self.total, changes, tuple(notes))
        epochs = allot(stages, self.kind, self.total)
        final = self._with_epochs(recipe, epochs, source)
        return Arm(name, final, tuple(stages), planned(stages, epochs, self.kind), changes, tuple(notes))

    def _sizes_apart(self, seen: Inspection) -> list[str]:
        """A note where a student is not as large as the recipe's: embeddings, for instance, cannot be pruned."""
        ours, theirs = self.seen.student, seen.student
        if ours is None or theirs is None or abs(theirs.parameters - ours.parameters) <= 0.1 * ours.parameters:
            return []
        return [f"Its student has {theirs.parameters:,} parameters, the recipe's {ours.parameters:,}."]

    def _same(self, recipe: Recipe) -> None:
        """Refuse an arm that learns another task or from another teacher: it would be another comparison."""
        for section in ("task", "teacher"):
            now = getattr(recipe, section)
            if (now.model_dump(mode="json") if now else None) != self.data[section]:
                raise RecipeError(f"it changes `{section}`, which is the same for all arms; compare in another folder.")

    def _with_epochs(self, recipe: Recipe, epochs: dict[str, int], source: str) -> Recipe:
        keys: dict[str, Any] = dict(epochs)
        if epochs["train.epochs"] != recipe.train.epochs:
            keys["train.planned_epochs"] = None  # belongs to the other number of epochs
        return changed(recipe.model_dump(mode="json"), keys, source=source)

    def _facts(self, recipe: Recipe, seen: Inspection) -> Facts:
        rows = len(seen.data.train) if seen.data else 1
        if seen.teacher is None:
            if self.kind == "flops":
                raise RecipeError("compare.budget: flops needs a teacher whose files are at hand; use steps.")
            return Facts(1.0, 1, rows)
        length = recipe.evaluate.latency.length
        found = recipe.how.expected_share(recipe.method, recipe, seen.teacher)
        share = share_of(seen.student, seen.teacher, length=length) if seen.student is not None else found
        return Facts(share, seen.teacher.layers, rows, found)


def share_of(student: Sizes, teacher: Sizes, *, length: int) -> float:
    """The operations of a student's forward pass over a row of `length` tokens, as a share of its teacher's."""
    ours, theirs = student.flops(length), teacher.flops(length)
    return ours / theirs if ours and theirs else student.parameters / teacher.parameters
