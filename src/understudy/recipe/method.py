"""What a distillation method is to the rest of the house, and where methods are found.

A method is a package with an object `METHOD` in it: `understudy.methods.<name>` here, or somebody else's, named in the
entry-point group `understudy.methods` of its distribution. Commands, checks, comparisons and reports ask that object;
none of them knows a method by name. The object and its settings import neither torch nor transformers, so that
`understudy --help` and `understudy init` answer at once; what is heavy is imported by the functions that need it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from typing import Any, ClassVar

from pydantic import Field

from understudy.base.errors import RecipeError
from understudy.recipe.types import Settings

GROUP = "understudy.methods"
"""The package of our own methods, and the entry-point group of everybody else's."""


class MethodSettings(Settings):
    """The section `method:` of a recipe. Each method narrows `name` to a `Literal` of its own."""

    name: str = Field(description="this method")


class Method:
    """A distillation method. Subclasses say what they are by class variables, and override what is not as it is here."""

    Settings: ClassVar[type[MethodSettings]]
    summary: ClassVar[str]
    """What it does, as the rest of a sentence: `understudy methods` prints it."""
    needs: ClassVar[str]
    """What it needs, as the rest of a sentence."""
    needs_teacher: ClassVar[bool] = True
    """Without: it is its own baseline."""
    finds_student: ClassVar[bool] = False
    """Whether it makes the student, so that a recipe names none."""
    trains: ClassVar[str] = "all"
    """What `train.only: auto` stands for, for the teacher, the baseline and the student: all, adapter or head."""
    share: ClassVar[str] = "none"
    """What `student.share: auto` stands for."""
    parity: ClassVar[Mapping[str, Any]] = {}
    """What `parity: true` sets elsewhere in the recipe, where the recipe says nothing: {"train": {"lr": …}}."""
    student_example: ClassVar[Mapping[str, Any]] = {"num_layers": 3}
    """What `understudy init` writes under `student`."""

    @property
    def name(self) -> str:
        return self.Settings.model_fields["name"].default

    def complete(self, data: dict[str, Any]) -> dict[str, Any]:
        """A recipe as it was written, with what stands under `method` but belongs elsewhere put there."""
        return data

    def teacher_adapter(self, settings: Any) -> str | None:
        """The folder of the adapter that makes `teacher.model` a teacher, if there is one."""
        return None

    def prunes_as_released(self, settings: Any) -> bool:
        """Whether `student.prune.parity`, left out, means yes."""
        return False

    def distil(self, settings: Any, lab: Any) -> Any:
        """Train the student in the steps of a `Lab`, and return it as a `Model`."""
        raise NotImplementedError

    def join(self, settings: Any, lab: Any) -> int:
        """Work beside the run's own process until its search is over; returns how many candidates were tried in all."""
        raise RecipeError(f"{lab.folder} is a run of method {self.name}, which searches nothing.")


@cache
def methods() -> dict[str, Method]:
    """All methods by name: ours, then those of other installed packages.

    Raises:
        RecipeError: a package brings a method that cannot be imported, or a name that is taken.
    """
    ours = import_module(GROUP)
    names = [found.name for found in pkgutil.iter_modules(ours.__path__) if found.ispkg]
    found: dict[str, Method] = {name: import_module(f"{GROUP}.{name}").METHOD for name in names}
    for point in metadata.entry_points(group=GROUP):
        try:
            method = point.load()
        except Exception as error:  # somebody else's code: anything can happen
            raise RecipeError(f"method '{point.name}' of {point.value} cannot be imported: {error}") from error
        if found.setdefault(method.name, method) is not method:
            raise RecipeError(f"method '{method.name}' of {point.value}: there is a method of that name already.")
    return found
