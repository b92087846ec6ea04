"""The section `objective:` of a recipe: what the student learns, term by term.

    objective:                        # left out: the method's own
      hard: 0.1                       # a number is the weight of a term, a section its settings
      soft: {weight: 1, temperature: 5}

What is listed is what is learned. A setting that a listed term leaves out is as in the method's own objective, or the term's
default. On the command line `objective.soft.temperature=3` changes one setting of what is there. Names that a paper uses under
`method` (`soft_label_weight`) set what they stand for here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, create_model, model_serializer

from understudy.base.errors import RecipeError
from understudy.base.plugins import plugins
from understudy.recipe.types import Flag, Schedule, Settings, Weight

GROUP = "understudy.terms"
"""The entry-point group in which other packages name their terms."""
_KINDS = {"stsb": "regression", "urgency": "regression", "conll2003": "tokens", "wikineural": "tokens", "entities": "tokens"}
"""What a row of a public task is, by the last part of its name, where it is no class."""


class TermSettings(Settings):
    """What the settings of every term begin with. A term subclasses this, adds its own, and builds itself."""

    weight: Weight = Field(default=1.0, description="factor of the term; a number or a schedule")
    if_possible: Flag = Field(
        default=False, description="where the models lack what it compares (common tokens, outputs), leave it out and say so"
    )

    of_outputs: ClassVar[bool] = False
    """Whether labels and outputs are all it compares, so that a teacher who is known by answers alone can teach it."""

    def build(self, pair: Any) -> Any:
        """The `Term` for two models (`objective.pair.Pair`). Raises RecipeError, with the reason, where it has no meaning."""
        raise NotImplementedError


class ObjectiveSettings(Settings):
    """What the student learns: a term for each key. A number is a term's weight, a section its settings."""

    of: str | None = Field(
        default=None,
        description="the method whose own objective this is, in recipes that runs write down; another method has its own instead",
    )

    def terms(self) -> dict[str, TermSettings]:
        """The terms that are listed, in the order in which they are added up."""
        return {name: getattr(self, name) for name in terms() if getattr(self, name) is not None}

    @model_serializer(mode="wrap")
    def _listed(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """A term that is not listed is not there: a new one must not change the hash of every recipe."""
        return {name: settings for name, settings in handler(self).items() if settings is not None}

    def lines(self) -> list[str]:
        """A line for each term that has a weight, for people: `soft 1.0 (temperature 5.0)`."""
        said = []
        for name, settings in self.terms().items():
            changed = {key: value for key, value in settings.model_dump(exclude_defaults=True).items() if key != "weight"}
            weight, more = settings.weight, ", ".join(f"{key} {_shown(value)}" for key, value in changed.items())
            if weight != 0:
                said.append(f"{name} {_shown(weight)}" + (f" ({more})" if more else ""))
        return said


@cache
def terms() -> dict[str, type[TermSettings]]:
    """All terms by name: ours, then those of other installed packages.

    Raises:
        RecipeError: a package brings a term that cannot be imported, or a name that is taken.
    """
    return plugins(GROUP, import_module("understudy.objective.vocabulary").TERMS, what="term")


@cache
def objective_section() -> type[ObjectiveSettings]:
    """`ObjectiveSettings` with a field for each term."""
    fields: dict[str, Any] = {}
    for name, term in terms().items():
        written = BeforeValidator(written_out, json_schema_input_type=float | Schedule | term | None)
        about = " ".join((term.__doc__ or "").split())
        fields[name] = (Annotated[term | None, written], Field(default=None, description=about))
    return create_model("ObjectiveSettings", __base__=ObjectiveSettings, __doc__=ObjectiveSettings.__doc__, **fields)


def written_out(value: Any) -> Any:
    """A term's settings: `0.5` and `{start: 1, end: 0}` are its weight.

    >>> written_out(0.5), written_out({"start": 1, "end": 0})
    ({'weight': 0.5}, {'weight': {'start': 1, 'end': 0}})
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"weight": value} if number or (isinstance(value, Mapping) and "start" in value) else value


class Changes(dict[str, Any]):
    """Single keys of `objective` from the command line, to a recipe without that section: they change the method's own."""


@dataclass(frozen=True, init=False)
class Sets:
    """What a key under `method` sets: settings of terms, as in `Sets("soft.temperature", "logit_kl.temperature")`.

    Without targets it shapes the method's own objective. `values` translates; a value of null leaves things as they are.
    """

    targets: tuple[str, ...]
    values: Mapping[Any, Any] = field(default_factory=dict)

    def __init__(self, *targets: str, values: Mapping[Any, Any] | None = None) -> None:
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "values", values or {})

    def of(self, value: Any) -> Any:
        """The value that the targets get."""
        return self.values.get(value, value) if isinstance(value, str | bool) else value


def kind_of(task: Any) -> str:
    """What a row of a task is, read off the recipe alone; classification where that cannot be told."""
    if not isinstance(task, Mapping):
        return "classification"
    return str(task.get("kind") or _KINDS.get(str(task.get("name")).rpartition("/")[2], "classification"))


def with_objective(data: dict[str, Any], own: Mapping[str, Any] | None, keys: Mapping[str, Sets]) -> dict[str, Any]:
    """A recipe with its objective written out, and the keys under `method` that set it put there.

    Args:
        own: the method's own objective; None for a method that has none of its own.
        keys: what keys under `method` set.

    Raises RecipeError for a key under `method` that stands for what `objective` says as well.
    """
    given, method = data.get("objective"), data["method"]
    name = str(method.get("name"))
    if isinstance(given, dict) and given.get("of") not in (None, name):
        given = None
    moved = {key: method[key] for key in keys if key in method}
    data = {**data, "method": {key: value for key, value in method.items() if key not in keys}}
    if own is None or not isinstance(given, dict | None):
        return data
    mine = {term: written_out(value) for term, value in own.items()}
    if not given or isinstance(given, Changes):
        found = {"of": name, **mine, **{term: _over(mine.get(term, {}), value) for term, value in (given or {}).items()}}
    elif given.get("of"):
        found = dict(given)
    else:
        for key in moved:
            _require_one(key, keys[key], given)
        found = {term: _over(_inherited(mine.get(term, {})), value) for term, value in given.items()}
    weights_first = sorted(moved, key=lambda key: not any(target.endswith(".weight") for target in keys[key].targets))
    for key in weights_first:
        for target in keys[key].targets if moved[key] is not None else ():
            term, setting = target.split(".")
            if len(keys[key].targets) == 1:
                found.setdefault(term, {"weight": 0.0})
            if isinstance(found.get(term), dict):
                found[term] = _over(found[term], {setting: keys[key].of(moved[key])})
    return {**data, "objective": found}


def changed(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """An objective with single settings of its terms changed.

    >>> changed({"hard": 0.1, "soft": {"weight": 1.0}}, {"hard": {"if_possible": True}})
    {'hard': {'weight': 0.1, 'if_possible': True}, 'soft': {'weight': 1.0}}
    """
    return {**own, **{name: {**written_out(own.get(name, {})), **settings} for name, settings in changes.items()}}


def of_outputs(own: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A method's own objective as far as it can be learnt from answers alone."""
    return own and {name: settings for name, settings in own.items() if terms()[name].of_outputs}


def _inherited(own: Mapping[str, Any]) -> dict[str, Any]:
    """What a term that is listed takes from the method's own: it is wanted, so neither a weight of 0 nor only if possible."""
    return {key: value for key, value in own.items() if key != "if_possible" and (key, value) != ("weight", 0.0)}


def _over(own: Mapping[str, Any], given: Any) -> Any:
    """The method's settings of a term with those that are given; one whose weight is given is wanted, not only if possible."""
    value = written_out(given)
    if not isinstance(value, Mapping):
        return value
    own = {key: setting for key, setting in own.items() if key != "if_possible" or "weight" not in value}
    return {**own, **value}


def _require_one(key: str, sets: Sets, given: Mapping[str, Any]) -> None:
    if not sets.targets:
        raise RecipeError(
            f"method.{key}: shapes the method's own objective, and `objective` is given; say it there, or leave `objective` out."
        )
    for target in sets.targets:
        name, setting = target.split(".")
        section = written_out(given.get(name))
        if isinstance(section, Mapping) and setting in section:
            raise RecipeError(f"method.{key}: means objective.{target}, which is given as well; keep one of them.")


def _shown(value: Any) -> str:
    if isinstance(value, Schedule):
        value = value.model_dump()
    if isinstance(value, dict) and "start" in value:
        return f"{value['start']:g} to {value['end']:g}"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
