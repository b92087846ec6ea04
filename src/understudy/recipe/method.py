"""What the rest of the package knows of a distillation method, and where methods are found.

A method is a package with an object `METHOD` in it: `understudy.methods.<name>` here, or another package's, named in the
entry-point group `understudy.methods` of its distribution. Commands, checks, comparisons and reports ask that object;
none of them knows a method by name. The object and its settings import neither torch nor transformers, so that
`understudy --help` and `understudy init` answer at once; what is heavy is imported by the functions that need it.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from understudy.base.errors import RecipeError
from understudy.base.plugins import plugins
from understudy.recipe.objective import Sets
from understudy.recipe.types import Settings

GROUP = "understudy.methods"
"""The package of our own methods, and the entry-point group of other packages."""


class MethodSettings(Settings):
    """The section `method:` of a recipe. Each method narrows `name` to a `Literal` of its own."""

    name: str = Field(description="this method")


class Flags:
    """The flags of a method's original scripts, which people bring along.

    keys     flag -> the key of the recipe
    instead  flag -> what does its work here
    """

    keys: ClassVar[Mapping[str, str]] = {}
    instead: ClassVar[Mapping[str, str]] = {}

    def value(self, flag: str, value: Any, source: str) -> Any:
        """The value of the flag's key that means the same; raises RecipeError, naming `source`, for one that means nothing."""
        return value

    def meaning(self, flag: str, value: Any, source: str) -> tuple[str, Any] | None:
        """Key and value of the recipe; None for anything that is not a flag of these scripts."""
        return (self.keys[flag], self.value(flag, value, source)) if flag in self.keys else None


@dataclass(frozen=True)
class Facts:
    """What the cost of a method depends on beside its recipe.

    share   operations of the student's forward pass, in those of the teacher's
    layers  of the teacher
    rows    to learn from
    found   as `share`, for a student that is still to be found: the mean over all that may be
    """

    share: float
    layers: int
    rows: int
    found: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One training on the student's side.

    name     of it, and (up to what follows a dash) of its step in the run
    setting  the key that says for how many epochs
    wanted   epochs, where there is no budget
    passes   optimiser steps of one of these epochs, in those of an epoch of the recipe
    share    of the teacher's network that a step trains
    fits     how many trainings are meant
    """

    name: str
    setting: str
    wanted: float
    passes: float
    share: float
    fits: int = 1

    def cost(self, kind: str) -> float:
        """Of one epoch of all its trainings, in epochs of the recipe's student: of its `steps`, or of the whole teacher's
        `flops`."""
        return self.fits * self.passes * (self.share if kind == "flops" else 1.0)


def _answered_in(part: str) -> Callable[[Any], Any]:
    """A question that the method's package answers by a function of the same name in its module `part`, where it has one. The
    module is imported when it is asked."""

    def answered(default: Any) -> Any:
        @wraps(default)
        def ask(self: Method, *arguments: Any, **named: Any) -> Any:
            package = type(self).__module__
            there = hasattr(sys.modules[package], "__path__") and find_spec(f"{package}.{part}") is not None
            own = getattr(import_module(f"{package}.{part}"), default.__name__, None) if there else None
            return default(self, *arguments, **named) if own is None else own(*arguments, **named)

        return ask

    return answered


class Method:
    """A distillation method. A subclass says what it is by class variables, and answers what is not as it is here: by a method,
    or by a function of that name in a module beside it, `plan.py`, `distil.py` or `page.py`, which may import what is heavy.

    Rooms on higher floors hand over what this one cannot name: `recipe` is a `Recipe` and `settings` its section `method`,
    `lab` a `Lab`, `data` a `TaskData` or None where it is out of reach, `teacher` and `student` are `check.Sizes`.
    """

    Settings: ClassVar[type[MethodSettings]]
    summary: ClassVar[str]
    """What it does, as the end of a sentence: `understudy methods` prints it."""
    needs: ClassVar[str]
    """What it needs, as the end of a sentence."""
    needs_teacher: ClassVar[bool] = True
    """Without: it is its own baseline."""
    learns_from_answers: ClassVar[bool] = False
    """Whether a teacher will do of which only answers are known (`teacher.columns`, `teacher.server`)."""
    finds_student: ClassVar[bool] = False
    """Whether it makes the student, so that a recipe names none."""
    trains: ClassVar[str] = "all"
    """What `train.only: auto` stands for, for the teacher, the baseline and the student: all, adapter or head."""
    share: ClassVar[str] = "none"
    """What `student.share: auto` stands for."""
    parity: ClassVar[Mapping[str, Any]] = {}
    """What `parity: true` sets elsewhere in the recipe, where the recipe says nothing: {"train": {"lr": …}}."""
    objective_keys: ClassVar[Mapping[str, Sets]] = {}
    """Keys that a recipe may give under `method` and that set terms of `objective`, as papers and scripts have them."""
    elsewhere: ClassVar[tuple[str, ...]] = ()
    """Further keys that a recipe may give under `method`: `complete` or the settings know what they mean."""
    student_example: ClassVar[Mapping[str, Any]] = {"num_layers": 3}
    """What `understudy init` writes under `student`."""

    flags: ClassVar[Flags] = Flags()
    databases: ClassVar[tuple[str, ...]] = ()
    """Folders of a run that others may have open when it ends: no checksums are kept of them."""

    @property
    def name(self) -> str:
        return self.Settings.model_fields["name"].default

    @_answered_in("objective")
    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
        """What the student learns where the recipe does not say: terms and their settings; None for what the student is left
        to.

        Args:
            section: the recipe's `method`, as it was written.
            kind: of the task, by name.
        """
        return {"hard": 1.0}

    def complete(self, data: dict[str, Any]) -> dict[str, Any]:
        """A recipe as it was written, with what stands under `method` but belongs elsewhere put there."""
        return data

    @_answered_in("plan")
    def settle(
        self, settings: Any, recipe: Any, folder: Path | None, *, look: bool = False, task: Any = None
    ) -> tuple[Any, list[str]]:
        """The recipe that this one stands for, and why, in sentences; most stand for themselves.

        Args:
            folder: of the run. What was decided there is not decided again, since timings vary.
            look: write nothing.
            task: the recipe's `Task`, where its files have been read already.
        """
        return recipe, []

    @_answered_in("plan")
    def require(self, settings: Any, recipe: Any, data: Any, teacher: Any, student: Any) -> str | None:
        """Raise RecipeError for what could only fail after the teacher was trained. Returns what there is to say, in a sentence.

        Args:
            student: None where it is still to be found.
        """

    @_answered_in("plan")
    def stages(self, settings: Any, recipe: Any, facts: Facts) -> list[Stage]:
        """What is trained on the student's side, in order; the student itself last."""
        return [student_stage(recipe, facts)]

    def teacher_adapter(self, settings: Any) -> str | None:
        """The folder of the adapter that makes `teacher.model` a teacher, if there is one."""
        return None

    def teacher_training(self, settings: Any, training: Any) -> Any:
        """How the teacher is fine-tuned, given `teacher.finetune`."""
        return training

    def prunes_as_released(self, settings: Any) -> bool:
        """Whether `student.prune.parity`, left out, means yes."""
        return False

    @_answered_in("distil")
    def distil(self, settings: Any, lab: Any) -> Any:
        """Train the student in the steps of a `Lab`, and return it as a `Model`."""
        raise NotImplementedError

    @_answered_in("distil")
    def untrained(self, settings: Any, lab: Any) -> Any:
        """The student before training, as a `Model`: what the baseline starts from. A method that finds it has found it."""
        return lab.student()

    # -- in a comparison (docs/comparison.md) --------------------------------------------------------------------------

    @_answered_in("plan")
    def arm(self, own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
        """What this method's arm changes of the base recipe, with a student that suits it and is as large as the others', and
        what is to be said about it.

        Args:
            own: the section `method` so far.
            base: a `compare.arms.Base`.
        """
        return {"method": own}, []

    @_answered_in("plan")
    def affordable(
        self, settings: Any, own: Mapping[str, Any], recipe: Any, facts: Facts, kind: str, total: float
    ) -> tuple[dict[str, Any], list[str]]:
        """Changes after which a budget pays for what the method tries, and what is to be said about them.

        Args:
            own: what the file says under `method`.
            kind, total: of the budget.

        Raises:
            RecipeError: it cannot be made to.
        """
        return {}, []

    @_answered_in("plan")
    def expected_share(self, settings: Any, recipe: Any, teacher: Any) -> float:
        """Operations of a student that is still to be found, in those of the teacher: the mean over all that may be."""
        return 1.0

    @_answered_in("plan")
    def student_step(self, settings: Any, recipe: Any, kept: Mapping[str, Any]) -> str:
        """The name of the step that made the student of a finished run; `kept` is what the run decided, by step."""
        return "student"

    @_answered_in("plan")
    def spent(self, settings: Any, stage: Stage, kept: Mapping[str, Any], rows: int) -> tuple[int, float] | None:
        """Optimiser steps and seconds of a stage of a finished run, where its steps do not tell them."""

    # -- beside and after the run --------------------------------------------------------------------------------------

    @_answered_in("page")
    def search_result(self, kept: Mapping[str, Any]) -> dict[str, Any] | None:
        """`search` of result.json: what was found, where something was searched."""

    @_answered_in("page")
    def section(self, kept: Mapping[str, Any]) -> dict[str, Any] | None:
        """The method's part of the report, made by `figures.section` from what the run kept (`Lab.keep`), by step."""

    @_answered_in("page")
    def notes(self, folder: Path, costs: Mapping[str, Any]) -> list[str]:
        """Sentences for the report about a finished student, whose `costs` are those of result.json."""
        return []

    @_answered_in("distil")
    def join(self, settings: Any, lab: Any) -> int:
        """Work beside the run's own process until its search is over; returns how many candidates were tried in all."""
        raise RecipeError(f"{lab.folder} is a run of method {self.name}, which searches nothing.")


FROZEN = {"all": 1.0, "adapter": 2 / 3, "head": 1 / 3}
"""What a step costs where most weights are frozen: forward 1, backward to the inputs 1 unless only the head learns, and none
of the 1 for the weights."""


def student_stage(recipe: Any, facts: Facts) -> Stage:
    """The training of the student, of `train.epochs`."""
    return Stage("student", "train.epochs", recipe.train.epochs, 1.0, facts.share * FROZEN[recipe.train.trains(recipe.how)])


@cache
def methods() -> dict[str, Method]:
    """All methods by name: ours, then those of other installed packages.

    Raises:
        RecipeError: a package brings a method that cannot be imported, or a name that is taken.
    """
    ours = [found.name for found in pkgutil.iter_modules(import_module(GROUP).__path__) if found.ispkg]
    found = plugins(GROUP, {name: import_module(f"{GROUP}.{name}").METHOD for name in ours}, what="method")
    for name, method in found.items():
        if method.name != name:
            raise RecipeError(f"method '{name}' calls itself '{method.name}' in a recipe; its entry point must have that name.")
    return found
