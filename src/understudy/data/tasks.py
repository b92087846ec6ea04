"""From a recipe's `task` section to data that is ready to encode: what is learned, chosen and reported on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import did_you_mean
from understudy.data.crosslingual import load_pawsx, load_xnli
from understudy.data.custom import load_custom
from understudy.data.demo_sets import load_demo
from understudy.data.glue import GLUE, load_glue
from understudy.data.hub import load_hub
from understudy.data.ner import load_conll2003, load_wikineural
from understudy.data.split import hold_out, subset
from understudy.data.types import Example, Splits, Task, TaskData

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

__all__ = ["TASK_NAMES", "Example", "Splits", "Task", "TaskData", "load_task"]

TASK_NAMES = (
    *(f"glue/{name}" for name in GLUE),
    *("pawsx", "xnli", "conll2003", "wikineural"),
    *(f"demo/{name}" for name in ("intent", "entities", "urgency", "paraphrase")),
    "custom",
)
METRICS_OF_KIND = {
    "classification": ("accuracy", "f1", "precision", "recall", "macro_f1", "micro_f1", "mcc", "loss"),
    "multilabel": ("micro_f1", "macro_f1", "f1", "precision", "recall", "accuracy", "loss"),
    "tokens": ("f1", "precision", "recall", "accuracy"),
    "regression": ("pearson", "spearman", "mse", "mae"),
    "text": ("loss", "perplexity"),
}


def load_task(settings: TaskSettings, *, seed: int) -> TaskData:
    """Read, check and split the data of a task.

    Args:
        settings: the recipe's `task` section.
        seed: decides which rows are held out for selection and which ones `max_train_examples` keeps.

    Raises:
        DataError: a file that is missing, damaged or does not fit the task; the sentence says where and what to do.
        RecipeError: settings that contradict each other or name a task, language or metric that does not exist.
    """
    found = _source(settings, seed)
    task = _with_metric(found.task, settings.select)
    notes = list(found.notes)
    train = found.train
    if settings.max_train_examples is not None and settings.max_train_examples < len(train):
        notes.append(f"{settings.max_train_examples} of {len(train)} training rows are used (task.max_train_examples).")
        train = subset(train, settings.max_train_examples, seed=seed)
    train, select, tests = _select(found, train, settings.selection, seed, notes)
    _learnable(task, train)
    if task.kind == "classification":
        present = {row.label for row in train}
        notes += [f"No training row has the label '{name}'." for i, name in enumerate(task.labels) if i not in present]
    return TaskData(task, train, select, tests, notes)


def _source(settings: TaskSettings, seed: int) -> Splits:
    name = settings.name
    if name not in TASK_NAMES:
        known = ", ".join(TASK_NAMES)
        raise RecipeError(f"task.name: unknown task '{name}'.{did_you_mean(name, TASK_NAMES)} Tasks: {known}.")
    if name == "custom":
        return load_custom(settings)
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
        train, held = hold_out(train, seed=seed, fraction=0.2, name="test")
        tests = {"test": held}
        notes.append(f"There is no test file: {len(held)} rows of train are held out as the test set (by the seed).")
    if selection == "dev" and not dev:
        raise RecipeError(
            "task.selection: dev would select on the rows that are reported on; use auto, or a fraction of train."
        )
    if dev and selection in ("auto", "dev"):
        return train, dev, tests
    rows = len(train)
    train, select = hold_out(train, seed=seed, fraction=None if selection == "auto" else float(selection))
    notes.append(f"{len(select)} of {rows} training rows are held out for selection (by the seed).")
    if dev:
        notes.append("The dev part is not used (task.selection is a fraction of train).")
    return train, select, tests


def _with_metric(task: Task, metric: str | None) -> Task:
    """The task with the metric that the recipe selects by."""
    if metric is None or metric == task.select:
        return task
    known = METRICS_OF_KIND[task.kind]
    if metric not in known:
        raise RecipeError(
            f"task.select: there is no metric '{metric}' for {task.name}.{did_you_mean(metric, known)} "
            f"Metrics: {', '.join(known)}."
        )
    return replace(task, metrics=tuple(dict.fromkeys((metric, *task.metrics))), select=metric)


def _learnable(task: Task, train: Sequence[Example]) -> None:
    """Refuse data from which nothing can be learned."""
    if not train:
        raise DataError(f"{task.name}: no training rows are left. Give more data.")
    if task.kind == "text":
        return
    seen = Counter(row.label for row in train)
    if task.kind == "tokens" and all(not any(row.label) for row in train if isinstance(row.label, tuple)):
        raise DataError(f"{task.name}: no word of the training rows has a tag but O. Is task.columns.tags right?")
    if task.kind in ("classification", "regression", "multilabel") and len(seen) < 2:
        only = next(iter(seen))
        shown = f"'{task.labels[only]}'" if isinstance(only, int) else str(only)
        raise DataError(f"{task.name}: all {len(train)} training rows have the label {shown}; at least two are needed.")
