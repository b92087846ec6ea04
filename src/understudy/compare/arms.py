"""From a comparison to its arms: for each a complete recipe that spends the same budget, or the reason why it cannot.

What is comparable is decided here and in students.py (docs/comparison.md says why): everybody has the teacher of the base
recipe, its rows and its seeds, a student of the same size, and as much to train it with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.auto import settled
from understudy.base.errors import DataError, RecipeError, ResourceError, SafetyError, UnderstudyError
from understudy.check import Seen, look
from understudy.compare.budget import Facts, Stage, allot, planned, stages_of, trained_part
from understudy.compare.sizes import mean_share, share_of
from understudy.compare.students import Base, changes_of, left_out
from understudy.methods.auto.settings import Auto
from understudy.methods.kdnas.settings import KDNAS
from understudy.methods.maxidisc.settings import MaxiDisc
from understudy.recipe.comparison import BASELINE, Comparison, changed
from understudy.recipe.settings import Recipe


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
        RecipeError: naming every arm that cannot be, and why, before anything is trained.
        UnderstudyError: what is wrong with data, teacher or student.
    """
    recipe = comparison.base
    data = _common(recipe, comparison)
    plain = changed(data, {"method": BASELINE}, source="the base recipe")
    seen = look(plain)
    _complain(seen)
    if recipe.task.kind == "text" and seen.teacher is not None and not seen.teacher.on_vocabulary:
        raise RecipeError(
            "the students of this teacher say nothing about words, and each arm is scored by an objective of its own; compare on "
            "a task with labels, or with a teacher that was saved as …ForMaskedLM."
        )
    base = Base(recipe, data, seen, comparison.compare)
    draft = _Draft(base)
    arms, problems = [], []
    for name in (*_methods(comparison), *comparison.arms):
        shaped = name not in comparison.arms
        try:
            changes = changes_of(name, base) if shaped else comparison.arms[name]
            arms.append(draft.arm(name, changes, shaped=shaped))
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


def _complain(seen: Seen) -> None:
    """Raise the first error among findings, as the kind of error it is."""
    for finding in seen.findings:
        if finding.level == "error":
            kinds = {kind.exit_code: kind for kind in (DataError, SafetyError, ResourceError)}
            raise kinds.get(finding.exit_code, RecipeError)(f"{finding.key}: {finding.text}")


class _Draft:
    """How long who learns: the budget, and arms that keep to it."""

    def __init__(self, base: Base) -> None:
        self.base, self.data, self.seen, self.kind = base.recipe, base.data, base.seen, base.settings.budget
        plain = changed(base.data, {"method": BASELINE}, source="the base recipe")
        self.facts = self._facts(plain, base.seen)
        train = base.recipe.train
        self.total = float(train.epochs)
        if self.kind == "flops":
            self.total *= self.facts.share * trained_part(plain)
        if self.kind == "seconds":
            if train.time_limit is None:
                raise RecipeError("compare.budget: seconds needs `train.time_limit`, the seconds of each arm.")
            self.total = train.time_limit

    def arm(self, name: str, changes: dict[str, Any], *, shaped: bool) -> Arm:
        """A complete recipe within the budget.

        Args:
            shaped: the arm is a method by name, so that how many candidates it tries is also for the budget to say.

        Raises:
            RecipeError: it cannot be, or it cannot be paid.
        """
        source = f"arm {name}"
        recipe = changed(self.data, changes, source=source)
        if isinstance(recipe.method, Auto):
            recipe = _settled(recipe)
        self._same(recipe)
        if recipe.evaluate.baseline:
            recipe = changed(recipe.model_dump(mode="json"), {"evaluate.baseline": False}, source=source)
        seen = look(recipe, data=self.seen.data)
        _complain(seen)
        facts = self._facts(recipe, seen)
        notes = self._sizes_apart(seen) + left_out(recipe, seen)
        if shaped and isinstance(recipe.method, KDNAS) and self.kind != "seconds":
            recipe, more = self._fewer_candidates(recipe, facts, source)
            notes += more
        if shaped and isinstance(recipe.method, MaxiDisc) and self.kind != "seconds":
            recipe, more = self._fewer_assistants(recipe, facts, source)
            notes += more
        stages = stages_of(recipe, facts)
        if self.kind == "seconds":
            if isinstance(recipe.method, KDNAS):
                raise RecipeError("a search for architectures has no clock; compare it on the budget steps or flops.")
            limit = self.total / sum(stage.fits for stage in stages)
            final = changed(recipe.model_dump(mode="json"), {"train.time_limit": limit}, source=source)
            return Arm(name, final, tuple(stages), self.total, changes, tuple(notes))
        epochs = allot(stages, self.kind, self.total)
        final = self._with_epochs(recipe, epochs, source)
        return Arm(name, final, tuple(stages), planned(stages, epochs, self.kind), changes, tuple(notes))

    def _sizes_apart(self, seen: Seen) -> list[str]:
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

    def _facts(self, recipe: Recipe, seen: Seen) -> Facts:
        rows = len(seen.data.train) if seen.data else 1
        if seen.teacher is None:
            if self.kind == "flops":
                raise RecipeError("compare.budget: flops needs a teacher that can be looked at from here; use steps.")
            return Facts(1.0, 1, rows)
        length = recipe.evaluate.latency.length
        found = mean_share(recipe, seen) if isinstance(recipe.method, KDNAS) else 1.0
        share = share_of(seen.student, seen.teacher, length=length) if seen.student is not None else found
        return Facts(share, seen.teacher.layers, rows, found)

    def _fewer_assistants(self, recipe: Recipe, facts: Facts, source: str) -> tuple[Recipe, list[str]]:
        """As many assistants, evenly spread, as leave every training two epochs; one is the least, with or without the way
        straight from the teacher."""
        method = recipe.method
        assert isinstance(method, MaxiDisc)
        among = method.assistants
        if isinstance(among, str) or (self.base.method.name == "maxidisc" and "assistants" in self.data["method"]):
            return recipe, []
        epochs = 2
        for number in (*range(len(among), 0, -1), 0):
            some = _spread(among, max(1, number))
            sizes = {"method.assistants": list(some), "method.direct": method.direct and number > 0}
            smaller = changed(recipe.model_dump(mode="json"), sizes, source=source)
            price = sum(stage.cost(self.kind) for stage in stages_of(smaller, facts))
            if price * (epochs if number > 1 else 1) <= self.total * (1 + 1e-9):
                break
        left_out = len(among) - len(some)
        note = f"{len(some)} of {len(among)} assistants are tried: more would leave each training less than two epochs."
        return smaller, [note] if left_out else []

    def _fewer_candidates(self, recipe: Recipe, facts: Facts, source: str) -> tuple[Recipe, list[str]]:
        """A search that half of the budget pays for: two epochs for each candidate where that leaves eight, else one."""
        method = recipe.method
        assert isinstance(method, KDNAS)
        search = stages_of(recipe, facts)[0]
        one = search.cost(self.kind) / search.fits
        half = self.total / 2
        tried = next((n for n in (int(half / (2 * one) + 1e-9), int(half / one + 1e-9)) if n >= 8), int(half / one + 1e-9))
        tried = min(method.trials, tried)
        if tried < 2:
            raise RecipeError(
                f"half of the budget pays for {half / one:.1f} candidates, and a search needs two; raise train.epochs, or leave "
                "this arm out."
            )
        episodes = max(1, tried // method.candidates)
        each = min(method.candidates, tried)
        sizes = {"method.episodes": episodes, "method.candidates": each}
        note = f"{episodes * each} candidates instead of {method.trials}: the search spends about half of the budget."
        return changed(recipe.model_dump(mode="json"), sizes, source=source), [note] if episodes * each < method.trials else []


def _settled(recipe: Recipe) -> Recipe:
    """What `method: auto` stands for, which has to be the same whenever a comparison is continued."""
    assert isinstance(recipe.method, Auto)
    if recipe.method.max_latency_ms is not None:
        raise RecipeError(
            "auto with max_latency_ms would measure, and perhaps choose another student, each time the comparison is continued; "
            "give max_flops or max_parameters."
        )
    return settled(recipe)


def _spread(names: Sequence[str], number: int) -> tuple[str, ...]:
    """So many of the names, evenly spread.

    >>> _spread(["30S", "40S", "50S", "60S"], 2)
    ('30S', '50S')
    """
    return tuple(names[round((place + 0.5) * len(names) / number - 0.5)] for place in range(number))
