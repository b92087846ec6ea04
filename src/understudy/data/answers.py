"""What a teacher said about the rows, read from columns of the task's own files (`teacher.columns`).

Whoever the teacher is (a model behind an API, an ensemble, people), its answers become what the outputs of a model would be:
logits for one of C classes, a logit for each of K labels, or a number. Softened and compared they are exactly a model's, since
softmax(log p / T) is the same distribution for the logits that p came from.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import did_you_mean, few, shown
from understudy.data.read import Table
from understudy.data.types import Task
from understudy.kinds import Kind
from understudy.kinds.cells import is_blank, score

if TYPE_CHECKING:
    from understudy.recipe.settings import AnswerSettings

LEAST = {"softmax": 1e-30, "sigmoid": 1e-12}
"""Probabilities below have this logarithm, so that an answer without any doubt is still a finite number."""
_SUM = 0.01
"""How far from 1 the probabilities of a row may add up to: columns are often rounded to two decimals."""


def answer_columns(settings: AnswerSettings) -> list[str]:
    """The columns that hold answers."""
    given = (settings.probabilities, settings.logits, settings.label, settings.confidence)
    return [name for one in given if one is not None for name in (one.values() if isinstance(one, Mapping) else _several(one))]


def names_in(settings: AnswerSettings, table: Table, kind: Any, *, separator: str) -> set[str]:
    """The label names that the answers use."""
    if settings.label is not None:
        cells = [(name, i, cell) for name in _several(settings.label) for i, cell in enumerate(_column(table, name))]
        return {
            label
            for name, i, cell in cells
            if not is_blank(cell)
            for label in kind.names_in(cell, separator=separator, where=table.place(i, name))
        }
    given = settings.probabilities if settings.probabilities is not None else settings.logits
    if isinstance(given, Mapping):
        return set(given)
    found: set[str] = set()
    for name in _several(given):
        for i, cell in enumerate(_column(table, name)):
            if isinstance(read := _parsed(cell, table.place(i, name)), Mapping):
                found |= set(read)
            elif read is not None:
                raise RecipeError(f"task.labels: {name} holds lists of numbers; say which labels they belong to, in order.")
    return found


def read_answers(
    settings: AnswerSettings, table: Table, task: Task, *, separator: str, notes: list[str]
) -> list[tuple[float, ...] | None]:
    """For each row the teacher's outputs, (C,) logits or (1,) a number; None where nobody answered. Several teachers count by
    their weights where they answered; `notes` gets a sentence on how often they say the same.

    Raises:
        RecipeError: the settings have no meaning for this kind of task.
        DataError: a cell that is not an answer; the message names file, line and column.
    """
    if task.kind.by_word or not task.kind.labelled:
        raise RecipeError(
            f"teacher.columns: answers are read for classes, several labels and numbers, not for kind {task.kind}."
            + (" Name the teacher's tags as task.columns.tags: they are then what is learned." if task.kind.by_word else "")
        )
    if task.kind.numeric and settings.label is None:
        raise RecipeError("teacher.columns: a number has no probabilities; name the column of the teacher's numbers as `label`.")
    if settings.confidence is not None and task.kind.distribution != "softmax":
        raise RecipeError(f"teacher.columns.confidence: kind {task.kind} has no single right class to be sure of; leave it out.")
    sources = _sources(settings, table, task, separator)
    if settings.weights is not None and len(settings.weights) != len(sources):
        raise RecipeError(f"teacher.columns.weights: {len(settings.weights)} numbers for {len(sources)} teachers; give as many.")
    weights = np.array(settings.weights or [1.0] * len(sources))
    rows = list(zip(*sources, strict=True))
    if agreed := _agreement(rows, task):
        notes.append(f"{table.source}: {agreed}")
    return [_together(row, weights, task) for row in rows]


def _agreement(rows: Sequence[Sequence[np.ndarray | None]], task: Task) -> str | None:
    """How often several teachers say the same, as a sentence; None where no row has two answers."""
    several = [np.stack(said) for row in rows if len(said := [one for one in row if one is not None]) > 1]
    if not several:
        return None
    if task.kind.numeric:
        return f"the teachers' numbers lie {np.mean([np.ptp(said) for said in several]):.3g} apart on average."
    says = (lambda said: said.argmax(1)[:, None]) if task.kind.distribution == "softmax" else (lambda said: said > 0.5)
    alike = np.mean([(says(said) == says(said)[:1]).all() for said in several])
    return f"the teachers say the same about {alike:.0%} of the {len(several):,} rows that several of them answered."


def _sources(settings: AnswerSettings, table: Table, task: Task, separator: str) -> list[list[np.ndarray | None]]:
    """For each teacher, for each row: probabilities (C,), or a number (1,); None where there is no answer."""
    if settings.label is not None:
        columns, sure = _several(settings.label), _several(settings.confidence)
        if sure and len(sure) != len(columns):
            raise RecipeError(f"teacher.columns.confidence: {len(sure)} columns for {len(columns)} of `label`; give as many.")
        return [_labels(table, name, sure[i] if sure else None, task, separator) for i, name in enumerate(columns)]
    raw = settings.probabilities is None
    given = settings.logits if raw else settings.probabilities
    if isinstance(given, Mapping):
        _require_all(given, task.labels, "teacher.columns names no column for")
        cells = [_column(table, given[label]) for label in task.labels]
        places = [given[label] for label in task.labels]
        rows = zip(*cells, strict=True)
        return [[_row_of_cells(row, i, places, table, task, raw) for i, row in enumerate(rows)]]
    return [
        [_vector(cell, table.place(i, name), task, raw) for i, cell in enumerate(_column(table, name))]
        for name in _several(given)
    ]


def _labels(table: Table, name: str, sure: str | None, task: Task, separator: str) -> list[np.ndarray | None]:
    numbers = {label: i for i, label in enumerate(task.labels)}
    confidence = _column(table, sure) if sure else None
    found: list[np.ndarray | None] = []
    for i, cell in enumerate(_column(table, name)):
        if is_blank(cell) and task.kind.distribution != "sigmoid":
            found.append(None)
            continue
        label: Any = task.kind.parse(cell, numbers, separator=separator, where=table.place(i, name))
        if task.kind.distribution != "softmax":
            found.append(np.atleast_1d(np.asarray(label, np.float64)))
            continue
        share = 1.0 if confidence is None else score(confidence[i], where=table.place(i, sure))
        if not 0 <= share <= 1:
            raise DataError(f"{table.place(i, sure)}: {share:g} is not a probability; they lie between 0 and 1.")
        others = (1 - share) / max(1, len(task.labels) - 1)
        found.append(np.where(np.arange(len(task.labels)) == label, share, others))
    return found


def _row_of_cells(
    row: Sequence[Any], i: int, columns: Sequence[str], table: Table, task: Task, raw: bool
) -> np.ndarray | None:
    if all(is_blank(cell) for cell in row):
        return None
    values = [score(cell, where=table.place(i, name)) for cell, name in zip(row, columns, strict=True)]
    return _distribution(np.array(values), table.place(i), task, raw)


def _vector(cell: Any, where: str, task: Task, raw: bool) -> np.ndarray | None:
    """One cell with the probabilities (or logits) of all labels: by name, or in the labels' order."""
    read = _parsed(cell, where)
    if read is None:
        return None
    if isinstance(read, Mapping):
        for name in read:
            if name not in task.labels:
                raise DataError(
                    f"{where}: '{shown(name)}' is not in the label set.{did_you_mean(name, task.labels)} "
                    f"Labels: {few(list(task.labels), 20)}."
                )
        if raw:
            _require_all(read, task.labels, f"{where}: no logit of")
        values = [read.get(label, 0.0) for label in task.labels]
    else:
        values = list(read)
        if len(values) != len(task.labels):
            raise DataError(f"{where}: {len(values)} numbers for {len(task.labels)} labels. Give one for each, in their order.")
    return _distribution(np.array([score(value, where=where) for value in values]), where, task, raw)


def _distribution(values: np.ndarray, where: str, task: Task, raw: bool) -> np.ndarray:
    """(C,) probabilities, from probabilities or logits."""
    sums = task.kind.distribution == "softmax"
    if raw:
        if not sums:
            return 1 / (1 + np.exp(-values))
        shifted = np.exp(values - values.max())
        return shifted / shifted.sum()
    if (values < 0).any() or (values > 1 + _SUM).any() or (sums and abs(values.sum() - 1) > _SUM):
        percent = " They look like percentages: divide by 100." if values.max() > 1 and abs(values.sum() - 100) < 1 else ""
        what = f"add up to {values.sum():.4g}" if sums and (values >= 0).all() else f"are {few([f'{v:g}' for v in values])}"
        raise DataError(f"{where}: the teacher's probabilities {what}.{percent} Raw outputs of a model are named as `logits`.")
    return values / values.sum() if sums else values


def _together(row: Sequence[np.ndarray | None], weights: np.ndarray, task: Task) -> tuple[float, ...] | None:
    """The weighted mean of those who answered, as a model's outputs."""
    there = [i for i, one in enumerate(row) if one is not None]
    if not there:
        return None
    return outputs_of(np.average(np.stack([one for one in row if one is not None]), axis=0, weights=weights[there]), task.kind)


def outputs_of(said: Any, kind: Kind) -> tuple[float, ...]:
    """Probabilities of the labels (C,), or a number (1,), as the outputs of a model that says the same."""
    values = np.asarray(said, np.float64)
    if kind.distribution == "softmax":
        values = np.log(np.maximum(values, LEAST["softmax"]))
    elif kind.distribution == "sigmoid":
        inside = np.clip(values, LEAST["sigmoid"], 1 - LEAST["sigmoid"])
        values = np.log(inside) - np.log1p(-inside)
    return tuple(values.tolist())


def _parsed(cell: Any, where: str) -> Mapping[str, Any] | Sequence[Any] | None:
    """A mapping or a list, also one that was written as text; None for an empty cell."""
    if is_blank(cell):
        return None
    if isinstance(cell, str):
        for read in (json.loads, ast.literal_eval):  # as JSON, or as Python prints it
            try:
                cell = read(cell)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if isinstance(cell, Mapping):
        return {str(name): value for name, value in cell.items() if not (value is None or value != value)}
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    raise DataError(
        f"{where}: expected the probabilities of all labels, as in {{\"yes\": 0.9, \"no\": 0.1}} or [0.9, 0.1], got "
        f"{shown(repr(cell))}. Where each label has a column, name them: {{yes: p_yes, no: p_no}}."
    )


def _require_all(given: Mapping[str, Any], labels: Sequence[str], problem: str) -> None:
    if missing := [label for label in labels if label not in given]:
        raise RecipeError(f"{problem} {few([repr(label) for label in missing])}. Name one for each of the task's labels.")
    if unknown := [name for name in given if name not in labels]:
        raise RecipeError(
            f"teacher.columns names '{unknown[0]}', which is no label of the task.{did_you_mean(unknown[0], labels)} Labels: "
            f"{few(list(labels), 20)}."
        )


def _column(table: Table, name: str) -> Sequence[Any]:
    return table.column(name, key="teacher.columns")


def _several(names: Any) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)


def decided(kind: Any, said: tuple[float, ...]) -> Any:
    """The label that outputs stand for, as an example's."""
    if kind.numeric:
        return said[0]
    label = kind.decide(np.array([said]))[0]
    return tuple(int(one) for one in label) if kind.distribution == "sigmoid" else int(label)
