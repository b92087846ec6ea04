"""A comparison: one recipe, and the arms that are trained against each other on its data, its teacher and its budget.

    compare: {methods: [automm, minidisc], seeds: 3, budget: flops}
    arms:
      sps-rkd: {student.share: sps, method: {name: automm, rkd_distance_loss_weight: 1.0}}

An arm is a set of changes to the recipe above it, written and checked exactly as on the command line: `a.b: value` changes
one key, `a: {…}` gives the whole section anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from understudy.base.suggest import did_you_mean
from understudy.recipe.load import apply_changes, load_as, read_document, recipe_from
from understudy.recipe.method import methods
from understudy.recipe.settings import Recipe
from understudy.recipe.types import Name, PositiveCount, Settings

BASELINE = "finetune"
"""The arm that learns from the labels alone: always one of them, and what the others are compared with."""


def _several(value: Any) -> Any:
    """`automm,peakd` as on the command line."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class CompareSettings(Settings):
    """Which methods are compared, how often, and what counts as the same budget."""

    methods: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        default=(), description="methods, each with the student that suits it; finetune, without a teacher, always is one. "
        "Without `methods` and `arms`: the recipe's own method"
    )  # fmt: skip
    seeds: PositiveCount = Field(default=3, description="how often each arm is trained, from `seed` on")
    budget: Literal["steps", "flops", "seconds"] = Field(
        default="steps",
        description="what is the same for all arms, over all that a student goes through: steps = optimiser steps, those of "
        "`train.epochs`; flops = the same, a step counting as much as the share of the teacher it trains; seconds = "
        "`train.time_limit`",
    )
    sparsity: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = Field(
        default=None, description="of the students of minidisc and maxidisc; null = that with the parameters nearest to the "
        "recipe's student"
    )  # fmt: skip

    @field_validator("methods")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in methods():
                raise ValueError(f"there is no method '{name}'.{did_you_mean(name, methods())} There are {', '.join(methods())}.")
        return tuple(dict.fromkeys(names))


class Comparison(Recipe):
    """A recipe with what is compared."""

    compare: CompareSettings = Field(default=CompareSettings(), description="which methods are compared, and on what budget")
    arms: dict[Name, dict[str, Any]] = Field(default={}, description="further arms by name: changes to the recipe")

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.arms:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", name):
                raise ValueError(f"arm '{name}': a name is made of up to 40 letters, digits and any of . _ + -")
            if name in (*self.compare.methods, BASELINE, "teacher"):
                raise ValueError(f"arm '{name}': that is the name of another arm; give it one of its own.")
        if self.student.searched:
            raise ValueError(
                f"the recipe of a comparison has a student, and {self.method.name} finds its student: give `student` and "
                f"another `method`, and name {self.method.name} among `compare.methods`."
            )
        return self

    @property
    def base(self) -> Recipe:
        """The recipe that the arms change."""
        return Recipe.model_validate(self.model_dump(mode="json", exclude={"compare", "arms"}))


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """The comparison in a YAML file, changed by `key=value` overrides; any recipe is one.

    Raises `RecipeError` naming the file, line and key of everything that is wrong.
    """
    return load_as(Comparison, path, overrides)


def is_comparison(path: str | Path) -> bool:
    """Whether a file has the sections of a comparison."""
    data = read_document(Path(path)).data
    return isinstance(data, dict) and ("arms" in data or "compare" in data)


def changed(base: Mapping[str, Any], changes: Mapping[str, Any], *, source: str) -> Recipe:
    """A recipe as plain data with changes made to it, validated; `source` is named in errors."""
    data = apply_changes(dict(base), changes, source=source)
    return recipe_from(data, source=source)
