"""From a file and `key=value` overrides to one validated recipe, its hash, and back to YAML."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from understudy.base import yaml
from understudy.base.errors import RecipeError
from understudy.recipe.flags import original_flags, translate
from understudy.recipe.objective import Changes, written_out
from understudy.recipe.problems import Origin, explain
from understudy.recipe.settings import Recipe, Settings, TaskSettings, complete, moved_keys

COMMAND_LINE = "command line"
R = TypeVar("R", bound=Settings)


class _TaskAlone(Settings):
    task: TaskSettings


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file `path`, changed by `key=value` overrides (`train.lr=2e-5`).

    Raises `RecipeError` naming the file, line and key of everything that is wrong.
    """
    return load_as(Recipe, path, overrides)


def load_as(kind: type[R], path: str | Path, overrides: Sequence[str] = ()) -> R:
    """`load_recipe` for a recipe with further sections."""
    document = read_document(Path(path))
    if not isinstance(document.data, dict):
        raise RecipeError(
            f"{path}: a recipe is made of keys such as `task`, `student` and `method`; see `understudy init`."
        )
    return _build(kind, document.data, overrides, source=str(path), lines=document.lines)


def read_document(path: Path) -> yaml.Document:
    """A YAML file as plain data; raises `RecipeError` where it cannot be read."""
    return yaml.parse(_read(path), str(path))


def recipe_from(data: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str = "recipe") -> Recipe:
    """The recipe in a mapping, changed and checked exactly as if it came from a file."""
    return _build(Recipe, copy.deepcopy(dict(data)), overrides, source=source, lines={})


def apply_changes(data: dict[str, Any], changes: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Plain data with `a.b: value` set as an override on the command line would set it; what is given is left as it is."""
    data = copy.deepcopy(data)
    for key, value in changes.items():
        target, value = translate(str(key), copy.deepcopy(value), source=source)
        _set(data, target, value, given=str(key), source=source, replace=True)
    return data


def task_from(data: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str) -> TaskSettings:
    """The `task` section in a mapping, changed by `task.key=value` overrides and checked as part of a recipe would be."""
    return _build(_TaskAlone, {"task": copy.deepcopy(dict(data))}, overrides, source=source, lines={}).task


def recipe_hash(recipe: Recipe) -> str:
    """16 hexadecimal digits that name everything the recipe says (equal recipes, equal hash, on every machine)."""
    canonical = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def to_yaml(recipe: Recipe) -> str:
    """The complete recipe, every default written out, as YAML that `load_recipe` reads back as an equal recipe."""
    return yaml.dump(recipe.model_dump(mode="json"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. `understudy init automm` prints a recipe to start from.") from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder; give the recipe file in it.") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8.") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}.") from None


def _build(
    kind: type[R], data: dict[str, Any], overrides: Sequence[str], *, source: str, lines: dict[yaml.Path, int]
) -> R:
    data = _translated(data, source)
    changed: list[yaml.Path] = []
    for text in overrides:
        changed.append(_apply(data, text))
    as_written = data
    try:
        data = complete(data)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        origin = Origin(source, lines, COMMAND_LINE, tuple(changed), moved_keys(as_written))
        raise RecipeError(explain(error, data, origin, kind)) from None


def _translated(data: dict[str, Any], source: str) -> dict[str, Any]:
    """Original flag names at the top level of a file, or under `distiller`, put where they belong."""
    known = original_flags()
    flags = {key: data.pop(key) for key in list(data) if key in known}
    distiller = data.get("distiller")
    if isinstance(distiller, dict):
        del data["distiller"]
        flags |= {f"distiller.{key}": value for key, value in distiller.items()}
    for key, value in flags.items():
        target, value = translate(key, value, source=source)
        _set(data, target, value, given=key, source=source, replace=False)
    return data


def _apply(data: dict[str, Any], text: str) -> yaml.Path:
    key, equals, value = text.partition("=")
    key = key.strip().removeprefix("--").replace("-", "_")
    if not equals or not key:
        raise RecipeError(f"{COMMAND_LINE}: '{text}': an override is written key=value, as in train.lr=2e-5.")
    parsed = yaml.parse(value, f"{COMMAND_LINE}: {key}").data
    target, parsed = translate(key, parsed, source=COMMAND_LINE)
    return _set(data, target, parsed, given=key, source=COMMAND_LINE, replace=True)


def _set(data: dict[str, Any], key: str, value: Any, *, given: str, source: str, replace: bool) -> yaml.Path:
    *parents, last = key.split(".")
    section = data
    for depth, name in enumerate(parents):
        if isinstance(section.get(name), str):
            section[name] = complete({name: section[name]})[name]
        inner = section.get(name)
        if parents[0] == "objective":  # `soft: 1` is a section with that weight; no section yet: the method's own
            inner = section[name] = Changes() if inner is None and depth == 0 else written_out(inner)
        if inner is None:
            inner = section[name] = {}
        if not isinstance(inner, dict):
            whole = ".".join(parents[: depth + 1])
            raise RecipeError(f"{source}: {given}: {whole} is {json.dumps(inner)}; set it as a whole.")
        section = inner
    if not replace and last in section:
        raise RecipeError(f"{source}: {given}: means {key}, which is given as well; keep one of them.")
    section[last] = value
    return (*parents, last)
