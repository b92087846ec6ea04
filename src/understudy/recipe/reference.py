"""What people read about recipes, made from the settings themselves: the commented recipe of `understudy init`, the
table of `understudy methods`, and docs/recipe.md (`python -m understudy.recipe.reference > docs/recipe.md`)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean
from understudy.recipe.adapter import ADAPTERS
from understudy.recipe.method import Method, methods
from understudy.recipe.objective import TermSettings, terms, written_out
from understudy.recipe.settings import (
    AnswerSettings,
    BudgetSettings,
    CacheSettings,
    ColumnSettings,
    EvaluateSettings,
    FileSettings,
    LatencySettings,
    PruneSettings,
    Recipe,
    Schedule,
    ServerSettings,
    StudentConfig,
    StudentSettings,
    TaskSettings,
    TeacherSettings,
    TrainSettings,
    VocabularySettings,
    WindowSettings,
)

FILE = "understudy.schema.json"
"""Where a new recipe says that its JSON Schema lies: beside it."""
_WIDTH = 110
_COLUMN = 44
# What a new recipe says where there is no default: something that runs as it is.
_EXAMPLE: dict[str, Any] = {
    "task.name": "demo/intent",
    "teacher.model": "google-bert/bert-base-uncased",
    "teacher.finetune": {"epochs": 3, "lr": 2e-5},
}


def template(method: str) -> str:
    """A recipe for `method` with every setting as a line: given, or commented out where null is the default.

    Raises `RecipeError` for a method that does not exist.
    """
    known = methods()
    if method not in known:
        raise RecipeError(f"there is no method '{method}'.{did_you_mean(method, known)} There are {', '.join(known)}.")
    how = known[method]
    head = (
        f"# yaml-language-server: $schema={FILE}\n# {method}: {how.summary}.\n# It needs {how.needs}.\n#\n"
        "# Lines that begin with `# key:` are settings left at null, their default; remove the `# ` to set them.\n"
        "# Check with `understudy check`, run with `understudy train`; keys can also be given on the command line.\n"
        f"# `understudy schema > {FILE}` beside this file lets an editor complete and check its keys.\n\n"
    )
    return head + "\n".join(_lines(Recipe, how, "", 0)) + "\n"


def methods_table() -> str:
    """One paragraph per method, for people."""
    width = max(map(len, methods()))
    paragraphs = []
    for name, method in methods().items():
        text = f"{method.summary[0].upper()}{method.summary[1:]}. Needs {method.needs}."
        wrapped = textwrap.wrap(text, _WIDTH - width - 2)
        paragraphs.append("\n".join(f"{name if not i else '':<{width}}  {line}" for i, line in enumerate(wrapped)))
    return "\n\n".join([*paragraphs, "`understudy init METHOD --full` prints a recipe with all settings of a method."])


def reference() -> str:
    """docs/recipe.md."""
    sections: list[tuple[str, type[BaseModel]]] = [
        ("task", TaskSettings), ("task.files", FileSettings), ("task.columns", ColumnSettings),
        ("teacher", TeacherSettings), ("teacher.columns", AnswerSettings),
        ("task.windows", WindowSettings), ("teacher.server", ServerSettings), ("student", StudentSettings),
        ("student.config", StudentConfig),
        ("student.prune", PruneSettings), ("student.prune.budget", BudgetSettings),
        ("student.vocabulary", VocabularySettings),
        *(section for name, one in methods().items() for section in _method_sections(name, one.Settings)),
        ("objective", type(Recipe.model_fields["objective"].default)),
        *((f"objective.{name}", term) for name, term in terms().items()),
        ("train", TrainSettings), *((f"train.adapter (kind: {name})", model) for name, model in ADAPTERS.items()),
        ("evaluate", EvaluateSettings), ("evaluate.latency", LatencySettings),
        ("cache", CacheSettings), ("schedules", Schedule),
    ]  # fmt: skip
    parts = [_PREFACE, _table(Recipe)]
    for name, model in sections:
        doc = " ".join((model.__doc__ or "").split())
        parts.append(f"## {name}\n\n{doc}\n\n{_table(model)}")
        parts += [_learned(one) for one in methods().values() if one.Settings is model]
    return "\n\n".join(parts) + "\n"


def _learned(method: Method) -> str:
    """A method's own objective, and the names under `method` that set it."""
    if method.objective({}, "classification") is None:
        return "Its objective is that of what is chosen."
    text = "\n".join(["What it learns where `objective` does not say:\n\n```yaml", *_objective(method, ""), "```"])
    keys = [f"`{key}` ({', '.join(sets.targets) or 'the whole'})" for key, sets in method.objective_keys.items()]
    more = f"\n\nUnderstood under `method` as well, and what they set in `objective`: {', '.join(keys)}." if keys else ""
    return text + more


def _method_sections(name: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """A method, and the sections inside it."""
    yield f"method (name: {name})", model
    for key, field in model.model_fields.items():
        inner = _section_of(field)
        if inner is not None:
            yield f"method.{key} (name: {name})", inner


_PREFACE = """\
# Recipe reference

This page is generated from the settings (`make docs`); do not edit it by hand.

A recipe is a YAML 1.2 file: `no` is a text, `1e-5` a number, `12:30` a text; keys may be given once, unknown keys are
errors. Relative paths start at the folder the command is run in. `understudy init METHOD --full` prints a recipe with all
settings of a method, and any key can be changed on the command line, through the same checks:

```bash
understudy train run.yaml train.lr=2e-5 'student.keep=[0, 2, 4]' 'objective.hidden={start: 1, end: 0}' --out runs/first
```

Short forms: `method: automm`, `task: glue/mrpc`, `teacher: NAME` and `student: NAME` stand for a section with just
that name or model; `objective: {hard: 0.1}` for a term with just that weight. The flags of the original
scripts of AutoMM, Pea-KD and MiniDisc (`--glue_task`, `--max_epochs`, `--hard_label_weight`, …) are understood as well, on the
command line and as keys at the top of a recipe.

The sections `compare` and `arms` make a recipe a comparison: [comparison](comparison.md).

## The whole"""


def _table(model: type[BaseModel]) -> str:
    rows = ["| key | default | accepted | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        accepted, meaning = _accepted(field.annotation, field.metadata), field.description or ""
        rows.append(f"| `{name}` | {_default(field)} | {accepted} | {meaning} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    return f"`{on_one_line(field.default)}`".replace("|", "\\|")


def on_one_line(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{on_one_line(name)}: {on_one_line(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(on_one_line, value)) + "]"
    if isinstance(value, str):
        plain = value[:1].isalpha() and all(c.isalnum() or c in "_-/." for c in value) and value not in ("null", "true", "false")
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        # JSON's shortest form; without the dot `1e-05` is a text to readers of YAML 1.1.
        mantissa, exponent, power = repr(value).partition("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(power)}" if exponent else repr(value)
    return json.dumps(value)


def _accepted(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """A type in words: `number above 0, or a schedule`."""
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        inner = [constraint for item in annotation.__metadata__ for constraint in _constraints(item)]
        return _accepted(arguments[0], [*metadata, *inner])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if issubclass(annotation, TermSettings):
            return "a weight, or a section"
        return "a schedule" if issubclass(annotation, Schedule) else "a section"
    if get_origin(annotation) is tuple:
        inner = _base(arguments[0])
        return f"a list of {_PLURALS.get(inner) or _accepted(inner)}"
    if get_origin(annotation) is dict:
        of = {float: "numbers", str: "what they stand for"}.get(_base(arguments[1]), "files")
        return f"a section of names and {of}"
    if arguments:
        return ", or ".join(dict.fromkeys(_accepted(argument, metadata) for argument in arguments))
    words = {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(annotation, "")
    return f"{words}{_bounds(metadata)}"


_PLURALS = {int: "whole numbers", str: "texts", float: "numbers"}


def _base(annotation: Any) -> Any:
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _constraints(item: Any) -> list[Any]:
    return list(item.metadata) if isinstance(item, FieldInfo) else [item]


def _bounds(metadata: list[Any] | tuple[Any, ...]) -> str:
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    given = [(name, item) for name in words for item in metadata if hasattr(item, name)]
    found = [f"{words[name]} {getattr(item, name):g}" for name, item in given]
    return f" {', '.join(found)}" if found else ""


def _lines(model: type[BaseModel], method: Method, path: str, depth: int) -> Iterator[str]:
    """The lines of one section of the template, a comment behind or above each."""
    indent = "  " * depth
    examples = _EXAMPLE | {f"student.{key}": value for key, value in method.student_example.items()}
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        comment = field.description or ""
        section = method.Settings if here == "method" else _section_of(field)
        if here in examples and isinstance(examples[here], dict):
            yield _line(f"{indent}{name}:", comment, indent)
            for key, value in examples[here].items():
                yield f"{indent}  {key}: {on_one_line(value)}"
        elif here == "objective":
            yield from ("", *_objective(method, comment))
        elif section is not None and (field.default is not None or here == "teacher"):
            if depth == 0:
                yield ""
            if name == "columns":
                continue
            yield _line(f"{indent}{name}:", comment, indent)
            yield from _lines(section, method, f"{here}.", depth + 1)
        elif here in examples:
            yield _line(f"{indent}{name}: {on_one_line(examples[here])}", comment, indent)
        elif field.default is None or field.default is PydanticUndefined:
            hint = " {train: train.csv, dev: dev.csv, test: test.csv}" if here == "task.files" else " null"
            yield _line(f"{indent}# {name}:{hint}", comment, indent)
            if here == "task.files":
                yield f"{indent}# columns: {{text: body, label: topic}}"
        else:
            yield _line(f"{indent}{name}: {on_one_line(field.default)}", comment, indent)


def _objective(method: Method, comment: str, kind: str = "classification") -> Iterator[str]:
    """A method's own objective: a line for each term, with all of its settings but those that are off or null."""
    own = method.objective({}, kind)
    if own is None:
        yield _line("# objective:", "that of what is chosen", "")
        return
    yield _line("objective:", comment, "")
    for name, given in own.items():
        term = terms()[name].model_validate(written_out(given))
        shown = {key: value for key, value in term.model_dump(mode="json").items() if value is not None}
        if not term.if_possible:
            del shown["if_possible"]
        yield f"  # {' '.join((term.__doc__ or '').split())}"
        yield f"  {name}: {{{', '.join(f'{key}: {on_one_line(value)}' for key, value in shown.items())}}}"
    yield f"  # and, if you list them: {', '.join(name for name in terms() if name not in own)} (docs/recipe.md)"


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    options = [field.annotation, *get_args(field.annotation)]
    found = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    return None if any(issubclass(model, Schedule) for model in found) or not found else found[0]


def _line(text: str, comment: str, indent: str) -> str:
    if not comment:
        return text
    if len(text) < _COLUMN and len(comment) <= _WIDTH - _COLUMN:
        return f"{text:<{_COLUMN}}# {comment}"
    return "\n".join([*(f"{indent}# {line}" for line in textwrap.wrap(comment, _WIDTH - len(indent) - 2)), text])


if __name__ == "__main__":
    print(reference(), end="")
