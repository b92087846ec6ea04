"""From a recipe's `task` section to data that is ready to encode: what is learned, chosen and reported on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import did_you_mean, few
from understudy.data.crosslingual import load_pawsx, load_xnli
from understudy.data.custom import load_custom, read_rows, windowed, with_metric
from understudy.data.demo_sets import load_demo
from understudy.data.glue import GLUE, load_glue
from understudy.data.hub import load_hub
from understudy.data.ner import load_conll2003, load_wikineural
from understudy.data.split import hold_out, subset
from understudy.data.types import Example, Splits, Task, TaskData
from understudy.kinds import Kind, kind
from understudy.recipe.settings import AnswerSettings, ColumnSettings, Recipe, TaskSettings

__all__ = ["TASK_NAMES", "Example", "Splits", "Task", "TaskData", "load_task"]

TASK_NAMES = (
    *(f"glue/{name}" for name in GLUE),
    *("pawsx", "xnli", "conll2003", "wikineural"),
    *(f"demo/{name}" for name in ("intent", "entities", "urgency", "paraphrase")),
    "custom",
)


def data_of(recipe: Recipe) -> TaskData:
    """The data of a recipe, with what its teacher said where that stands in columns."""
    return load_task(recipe.task, seed=recipe.split_seed, answers=recipe.teacher.columns if recipe.teacher else None)


def load_task(settings: TaskSettings, *, seed: int, answers: AnswerSettings | None = None) -> TaskData:
    """Read, check and split the data of a task.

    Args:
        settings: the recipe's `task` section.
        answers: the columns of its own files in which a teacher's answers are. Training rows without one are left out.
        seed: decides which rows are held out for selection and which ones `max_train_examples` keeps.

    Raises:
        DataError: a file that is missing, damaged or does not fit the task; the sentence says where and what to do.
        RecipeError: settings that contradict each other or name a task, language or metric that does not exist.
    """
    found = _source(settings, seed, answers)
    task = windowed(with_metric(found.task, settings.select), settings)
    notes = list(found.notes)
    train = found.train
    if settings.max_train_examples is not None and settings.max_train_examples < len(train):
        notes.append(f"{settings.max_train_examples} of {len(train)} training rows are used (task.max_train_examples).")
        train = subset(train, settings.max_train_examples, seed=seed)
    train, select, tests = _select(found, train, settings.selection, seed, notes)
    if answers is not None and (unanswered := sum(row.said is None for row in train)):
        notes.append(f"{unanswered} of {len(train)} training rows have no answer of the teacher and are left out.")
        train = [row for row in train if row.said is not None]
    if settings.extra is not None:
        if answers is not None:
            raise RecipeError("task.extra: the teacher is known by the answers in its columns and cannot answer further rows.")
        reported = [row for rows in tests.values() for row in rows]
        train = [*train, *_extra(settings, settings.extra, task, [*train, *select, *reported], notes)]
    _learnable(task, train)
    given = [row.label for row in train if row.label is not None]
    absent = task.kind.absent(given, task.labels) if given else []
    if task.kind.labelled and len(given) < len(train):
        what = "No training row has a label: they are learnt from the teacher alone."
        some = f"{len(train) - len(given)} of {len(train)} training rows have no label: they are learnt from the teacher alone."
        notes.append(some if given else what)
    notes += [f"No training row has the label '{name}'." for name in absent]
    if settings.class_weights is not None:
        task = _weighted(task, settings.class_weights, given)
        shown = few([f"{label} {weight:.3g}" for label, weight in zip(task.labels, task.weights, strict=True)])
        notes.append(f"What a row counts in learning from labels (task.class_weights): {shown}.")
    return TaskData(task, train, select, tests, notes, held_out=not found.tests and not found.dev)


def columns_of(settings: TaskSettings) -> list[ColumnSettings]:
    """Where a file of this task has its texts: the columns the recipe names, or those of the official files and of the Hub."""
    name = settings.name
    if settings.own:
        return [settings.columns]
    if name.startswith("glue/"):
        spec = GLUE[name.removeprefix("glue/")]
        found = [(spec.text, spec.pair)]
        pair = spec.pair is not None
    else:
        found, pair = [], name in ("pawsx", "xnli", "demo/paraphrase")
    if name == "demo/paraphrase":
        found = [("text_a", "text_b")]
    if pair:
        found += [("sentence1", "sentence2"), ("premise", "hypothesis"), ("premise", "hypo")]
    words = [ColumnSettings(words=column) for column in ("tokens", "words")] if name in ("conll2003", "wikineural") else []
    return [*(ColumnSettings(text=text, pair=second) for text, second in found), *words, ColumnSettings()]


def _source(settings: TaskSettings, seed: int, answers: AnswerSettings | None) -> Splits:
    name = settings.name
    if name not in TASK_NAMES and not settings.own:
        known = ", ".join(TASK_NAMES)
        raise RecipeError(f"task.name: unknown task '{name}'.{did_you_mean(name, TASK_NAMES)} Tasks: {known}.")
    if settings.own:
        rows = kind(settings.kind or "").rows
        if answers is not None and rows != "custom":
            raise RecipeError(f"teacher.columns: kind {settings.kind} has no answers in columns; give a model as teacher.")
        return load_custom(settings, answers) if rows == "custom" else import_module(f"understudy.data.{rows}").load(settings)
    if name.startswith("demo/"):
        return load_demo(name)
    if settings.path is None:
        return load_hub(settings)
    if name.startswith("glue/"):
        return load_glue(settings)
    if name == "wikineural":
        return load_wikineural(settings, seed=seed)
    return {"pawsx": load_pawsx, "xnli": load_xnli, "conll2003": load_conll2003}[name](settings)


def _select(
    found: Splits, train: list[Example], selection: str | float, seed: int, notes: list[str]
) -> tuple[list[Example], list[Example], dict[str, list[Example]]]:
    """(train, select, tests): what is reported on never takes part in choosing.

    auto: the dev part where results are reported on other rows, else a hold-out of train.
    """
    tests = dict(found.tests)
    if found.report_dev and selection == "dev" and found.dev and tests:
        notes.append("dev selects (task.selection: dev), so that results are reported on the labelled test set only.")
        return train, found.dev, tests
    if found.report_dev and found.dev:
        tests = {"dev": found.dev, **tests}
        if not found.tests:
            notes.append("Results are reported on dev, because there is no test split with labels.")
    dev = [] if found.report_dev else found.dev
    if not tests:
        train, held = _labelled_out(found.task.kind, train, seed=seed, fraction=0.2, name="test")
        tests = {found.held_out: held}
        notes.append(f"There is no test file: {len(held)} rows of train are held out as the test set (by the seed).")
    if selection == "dev" and not dev:
        raise RecipeError(
            "task.selection: dev would select on the rows that are reported on; use auto, or a fraction of train."
        )
    if dev and selection in ("auto", "dev"):
        return train, dev, tests
    rows = len(train)
    train, select = _labelled_out(found.task.kind, train, seed=seed, fraction=None if selection == "auto" else float(selection))
    notes.append(f"{len(select)} of {rows} training rows are held out for selection (by the seed).")
    if dev:
        notes.append("The dev part is not used (task.selection is a fraction of train).")
    return train, select, tests


def _labelled_out(kind: Kind, train: list[Example], **how: Any) -> tuple[list[Example], list[Example]]:
    """`hold_out` of rows that have a label; those without stay."""
    known = [row for row in train if row.label is not None or not kind.labelled]
    if not known:
        raise DataError("No training row has a label, so none can be held out: give dev and test files with labels.")
    if len(known) == len(train):
        return hold_out(train, **how)
    _, held = hold_out(known, **how)
    out = {id(row) for row in held}
    return [row for row in train if id(row) not in out], held


def _extra(
    settings: TaskSettings, files: Sequence[str], task: Task, known: Sequence[Example], notes: list[str]
) -> list[Example]:
    """Rows without labels for the teacher to answer, none of which is a known one, those to select and report on included."""
    if not task.kind.labelled or task.kind.rows != "custom":
        raise RecipeError(
            f"task.extra: a task of kind {task.kind} learns from its texts themselves; add these to task.files.train."
        )

    def texts(row: Example) -> tuple[Any, ...]:
        return row.text, row.pair, row.words

    seen, found, read = {texts(row) for row in known}, list[Example](), 0
    for file in files:
        rows, said = read_rows(settings, task, file, columns=columns_of(settings))
        notes += said
        read += len(rows)
        for row in rows:
            if texts(row) not in seen:
                seen.add(texts(row))
                found.append(replace(row, id=f"{file}:{row.id}", label=None))
    left = f"; {read - len(found)} that are there already are left out" if len(found) < read else ""
    notes.append(f"{len(found)} rows of {few(files)} are added for the teacher to answer (task.extra){left}.")
    return found


def _weighted(task: Task, wanted: str | dict[str, float], labels: Sequence[Any]) -> Task:
    """The task with a weight for each class: given by name (those not named count 1), or so that all classes count alike."""
    if not (task.kind.named and task.kind.distribution):
        raise RecipeError(f"task.class_weights: a task of kind {task.kind} has no classes.")
    if isinstance(wanted, str):
        if not labels:
            raise RecipeError("task.class_weights: balanced needs training rows with labels; give the weights by label.")
        return replace(task, weights=tuple(task.kind.balanced(labels, len(task.labels))))
    for name in wanted:
        if name not in task.labels:
            raise RecipeError(
                f"task.class_weights: there is no label '{name}'.{did_you_mean(name, task.labels)} Labels: {few(task.labels)}."
            )
    return replace(task, weights=tuple(wanted.get(label, 1.0) for label in task.labels))


def _learnable(task: Task, train: Sequence[Example]) -> None:
    """Refuse data from which nothing can be learned."""
    if not train:
        raise DataError(f"{task.name}: no training rows are left. Give more data.")
    if task.kind.labelled and all(row.label is None for row in train):
        return  # from a teacher alone
    if problem := task.kind.unlearnable([row.label for row in train], task.labels):
        raise DataError(f"{task.name}: {problem}")
