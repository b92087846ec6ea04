"""Validation errors as sentences: where, what, and the nearest thing that would have been right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from understudy.base.suggest import did_you_mean, nearest
from understudy.base.yaml import Path
from understudy.recipe.method import methods
from understudy.recipe.settings import Recipe

_SHOWN = 6
_SYNONYMS = {
    "learning_rate": "lr", "num_epochs": "epochs", "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "warmup_ratio": "warmup", "warmup_steps": "warmup", "lr_scheduler_type": "schedule", "max_seq_length": "max_length",
    "metric": "select", "early_stopping_patience": "patience", "gradient_clip_val": "max_grad_norm",
    "fp16": "precision",
    "bf16": "precision", "layers": "num_layers", "student_layers": "num_layers", "fine_tune": "finetune",
    "tau": "temperature", "directory": "path", "folder": "path", "data": "path", "wandb": "track", "report_to": "track",
}  # fmt: skip
_TYPES = {
    "int_type": "a whole number", "int_parsing": "a whole number", "float_type": "a number",
    "float_parsing": "a number", "finite_number": "a finite number", "bool_type": "true or false",
    "string_type": "text", "tuple_type": "a list", "dict_type": "a section", "model_type": "a section",
    "model_attributes_type": "a section", "none_required": "null",
}  # fmt: skip
_BOUNDS = {"greater_than": ("greater than", "gt"), "greater_than_equal": ("at least", "ge"),
           "less_than": ("less than", "lt"), "less_than_equal": ("at most", "le")}  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Where a key was written: a line of the file, or an override on the command line."""

    source: str
    lines: dict[Path, int]
    command_line: str
    overridden: tuple[Path, ...]
    moved: Mapping[Path, Path] = field(default_factory=dict)
    """Path in the complete recipe -> path under which it was written."""

    def written(self, path: Path) -> Path:
        """A path as its author knows it."""
        return (*self.moved[path[:3]], *path[3:]) if path[:3] in self.moved else path

    def of(self, path: Path) -> str:
        if any(path[: len(changed)] == changed for changed in self.overridden):
            return self.command_line
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}: line {self.lines[path]}" if path else self.source


@dataclass(frozen=True)
class _Sections:
    """The settings classes of a recipe: `method` is the one that the data names."""

    root: type[BaseModel]
    data: Any

    def at(self, path: Path) -> type[BaseModel] | None:
        """The settings class that the keys of `path` lead to."""
        model: type[BaseModel] | None = self.root
        for depth, part in enumerate(path):
            field = model.model_fields.get(str(part)) if model else None
            model = _model(field.annotation) if field else None
            if depth == 0 and part == "method" and isinstance(self.data.get("method"), dict):
                method = methods().get(str(self.data["method"].get("name")))
                model = method.Settings if method else model
        return model

    def description(self, path: Path) -> str:
        section = self.at(path[:-1])
        field = section.model_fields.get(str(path[-1])) if section else None
        return field.description or "" if field else ""


def explain(error: ValidationError, data: dict[str, Any], origin: Origin, root: type[BaseModel] = Recipe) -> str:
    """One line for each thing that is wrong (the first few), each naming file, line and key.

    `data` is what was validated, as a `root`; `origin` knows where its keys were written.
    """
    found: dict[Path, list[Any]] = {}
    for problem in error.errors(include_url=False):
        found.setdefault(_path(problem, data), []).append(problem)
    # A value with problems inside was meant to be a section or list: so its own type error would only distract.
    inside = {path[:depth] for path in found for depth in range(1, len(path))}
    lines = []
    for path, problems in found.items():
        if path in inside and all(problem["type"] in (*_TYPES, *_BOUNDS, "literal_error") for problem in problems):
            continue
        # teacher.finetune takes what it leaves out from train, where the same problem is reported already.
        if path[:2] == ("teacher", "finetune") and len(path) == 3 and origin.lines and ("train", path[2]) in found:
            continue
        written = origin.written(path)
        where = origin.of(written)
        key = ".".join(str(part) for part in written)
        lines.append(": ".join(part for part in (where, key, _sentence(path, problems, _Sections(root, data))) if part))
    lines = list(dict.fromkeys(lines))  # one key may set several terms
    more = len(lines) - _SHOWN
    return "\n".join(lines[:_SHOWN] + ([f"… and {more} more."] if more > 0 else []))


def _path(problem: Any, data: Any) -> Path:
    """The keys as the user wrote them: pydantic's location without the names of union branches."""
    path: list[str | int] = []
    location = problem["loc"]
    for position, part in enumerate(location):
        last = position == len(location) - 1
        in_list = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]
        elif not (last and problem["type"] in ("missing", "extra_forbidden")):
            continue
        path.append(part)
    return tuple(path)


def _sentence(path: Path, problems: list[Any], sections: _Sections) -> str:
    first = problems[0]
    kind = first["type"]
    if kind == "extra_forbidden":
        if path in (("arms",), ("compare",)):
            return "belongs to a comparison; run this file with `understudy compare`."
        return f"unknown key.{_nearest_key(path, sections)}"
    if kind == "missing":
        what = sections.description(path)
        return f"is missing{f' ({what})' if what else ''}."
    if kind == "union_tag_not_found":
        return f"needs a `name`, one of {', '.join(methods())}."
    if kind == "union_tag_invalid":
        tag = first["ctx"]["tag"]
        return f"unknown method '{tag}'.{did_you_mean(tag, methods())} There are {', '.join(methods())}."
    if kind == "value_error":
        return str(first["ctx"]["error"])
    value = first["input"]
    expected = list(dict.fromkeys(_expectation(problem) for problem in problems))
    hint = ""
    if isinstance(value, str):
        literals = [problem["ctx"]["expected"] for problem in problems if problem["type"] == "literal_error"]
        hint = did_you_mean(value, re.findall(r"'([^']*)'", literals[0])) if literals else ""
        if not hint and "a number" in expected and _is_number(value):
            hint = " Remove the quotes."
    return f"should be {' or '.join(expected)}, not {_shown(value)}.{hint}"


def _expectation(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"{words} {context[name]:g}"
    if kind == "literal_error":
        return f"one of {context['expected'].replace(' or ', ', ')}"
    if kind == "string_too_short":
        return "text that is not empty"
    if kind == "string_too_long":
        return f"at most {context['max_length']} character{'s' if context['max_length'] > 1 else ''} long"
    if kind == "too_short":
        return "a list that is not empty"
    return problem["msg"].removeprefix("Input should be ").rstrip(".")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{value[:60]}'"
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nearest_key(path: Path, sections: _Sections) -> str:
    """The nearest key of the same section; else of the same name in another section."""
    key = str(path[-1])
    section = sections.at(path[:-1])
    options = list(section.model_fields) if section else []
    if path[:1] == ("method",) and len(path) == 2:
        options += [key for one in methods().values() if one.Settings is section for key in one.objective_keys]
    if path[:1] == ("method",) and len(path) == 2:
        others = [name for name, one in methods().items() if key in one.Settings.model_fields or key in one.objective_keys]
        if others:
            return f" It is a key of method {' and '.join(others)}."
    found = nearest(key, options) or _synonym(key, options)
    if found:
        return f" Did you mean '{found}'?"
    elsewhere = [where for where in _sections() if _synonym(key, where[1]) or key in where[1]]
    if elsewhere:
        name, keys = elsewhere[0]
        return f" Did you mean '{name}.{key if key in keys else _synonym(key, keys)}'?"
    return f" Known here: {', '.join(options)}." if options else ""


def _synonym(key: str, options: Iterable[str]) -> str | None:
    close = nearest(key, _SYNONYMS)
    return _SYNONYMS[close] if close and _SYNONYMS[close] in options else None


def _sections() -> list[tuple[str, list[str]]]:
    named = [(name, _model(field.annotation)) for name, field in Recipe.model_fields.items()]
    sections = [(name, list(model.model_fields)) for name, model in named if model]
    return sections + [("method", [*one.Settings.model_fields, *one.objective_keys]) for one in methods().values()]


def _model(annotation: Any) -> type[BaseModel] | None:
    """The one settings class in an annotation such as `X | None`."""
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [model for argument in get_args(annotation) if (model := _model(argument))]
    return models[0] if models else None
