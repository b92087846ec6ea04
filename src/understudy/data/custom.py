"""Your own files and columns: any kind of task from csv, tsv, jsonl, parquet, CoNLL columns or plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.base.errors import DataError, RecipeError
from understudy.data.hub import hub_table
from understudy.data.ner import tagged_examples
from understudy.data.read import Table, read_lines, read_table
from understudy.data.tags import Sentence, checked_bio, entity_types, read_conll
from understudy.data.types import Example, Splits, Task
from understudy.kinds import kind
from understudy.kinds.cells import (
    class_number,
    indicator,
    is_blank,
    label_name,
    label_names,
    score,
    text_cell,
    zero_or_one,
)
from understudy.kinds.tokens import bio_labels

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq")
METRICS = {
    "classification": ("accuracy", "macro_f1"),
    "multilabel": ("micro_f1", "macro_f1", "accuracy"),
    "tokens": ("f1", "precision", "recall"),
    "regression": ("pearson", "spearman", "mae"),
    "text": ("loss", "perplexity"),
}
"""Metrics of your own data by kind; the first one selects."""


def load_custom(settings: TaskSettings) -> Splits:
    """The files of `settings.files`, relative to `settings.path` where that is given."""
    if settings.files is None or settings.kind is None:
        raise RecipeError("task: a custom task needs `kind` (such as classification) and `files: {train: …}`.")
    notes: list[str] = []
    train_file = _File(settings, settings.files.train)
    task = Task("custom", kind(settings.kind))
    task = replace(task, labels=_labels(settings, train_file), pair=settings.columns.pair is not None)
    metrics = METRICS[settings.kind]
    if settings.kind == "classification" and len(task.labels) == 2:
        metrics = ("accuracy", "f1")
    task = replace(task, metrics=metrics, select=metrics[0])

    train = train_file.examples(task, "train", notes)
    dev = _File(settings, settings.files.dev).examples(task, "dev", notes) if settings.files.dev else []
    tests: dict[str, list[Example]] = {}
    test = settings.files.test or {}
    for name, file in (test if isinstance(test, dict) else {"test": test}).items():
        opened = _File(settings, file)
        if opened.labelled():
            tests[name] = opened.examples(task, name, notes)
        else:
            notes.append(f"{opened.source} has no labels, so nothing is reported on it.")
    return Splits(task, train, dev, tests, report_dev=not tests, notes=notes)


class _File:
    """One file, read once: a table, tagged sentences, or lines of text."""

    def __init__(self, settings: TaskSettings, name: str) -> None:
        self.settings = settings
        self.columns = settings.columns
        self.source = name
        self.table: Table | None = None
        self.sentences: list[Sentence] = []
        if name.startswith("hub:"):
            self.table = hub_table(name)
            return
        path = Path(name).expanduser()
        if settings.path is not None:
            path = Path(settings.path).expanduser() / path
        self.path, self.source = path, str(path)
        if settings.kind == "text" and path.suffix not in _TABLES:
            return
        if settings.kind == "tokens" and path.suffix not in _TABLES:
            words = _column_number(self.columns.words, 0, key="words")
            tags = _column_number(self.columns.tags, -1, key="tags")
            self.sentences, _ = read_conll(
                path, words=words, tags=tags, delimiter=settings.delimiter, encoding=settings.encoding
            )
            return
        self.table = read_table(path, delimiter=settings.delimiter, encoding=settings.encoding)

    def labelled(self) -> bool:
        """Whether there is a label column with anything in it."""
        if self.settings.kind == "text":
            return True
        if self.table is None:
            return bool(self.sentences[0].tags)
        column = self.columns.tags if self.settings.kind == "tokens" else self.columns.label
        if not isinstance(column, str):
            return column is not None and all(name in self.table.columns for name in column)
        return column in self.table.columns and not all(is_blank(cell) for cell in self.table.column(column))

    def examples(self, task: Task, split: str, notes: list[str]) -> list[Example]:
        """The rows with their labels; `notes` gets a sentence on everything that is left out."""
        if task.kind == "text":
            return self._passages(split, notes)
        if task.kind == "tokens":
            return tagged_examples(self._tagged(), task.labels, split=split, source=self.source, notes=notes)
        return self._rows(task, split, notes)

    def names_found(self) -> list[str]:
        """The label names in this file, sorted: numbers by value, others by name."""
        if self.settings.kind == "tokens":
            return entity_types(checked_bio(sentence, source=self.source)[0] for sentence in self._tagged())
        assert self.table is not None
        column = _needed(self.columns.label, "label")
        names: set[str] = set()
        for i, cell in enumerate(self.table.column(column, key="task.columns.label")):
            if self.settings.kind == "multilabel":
                where, separator = self.table.place(i, column), self.settings.label_separator
                names.update(label_names(cell, separator=separator, where=where))
            elif not is_blank(cell):
                names.add(label_name(cell))
        if all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names):
            return sorted(names, key=int)
        return sorted(names)

    def _passages(self, split: str, notes: list[str]) -> list[Example]:
        """One passage a line; of a table, the text column."""
        if self.table is not None:
            column = _needed(self.columns.text, "text")
            cells = self.table.column(column, key="task.columns.text")
            lines = [text_cell(cell, where=self.table.place(i, column)) for i, cell in enumerate(cells)]
        else:
            lines = read_lines(self.path, self.settings.encoding)
        examples = [Example(f"{split}-{i}", text=line) for i, line in enumerate(lines) if line.strip()]
        if len(examples) < len(lines):
            notes.append(f"{self.source}: {len(lines) - len(examples)} blank lines are left out.")
        return examples

    def _tagged(self) -> list[Sentence]:
        """The sentences of a CoNLL file, or of a table with a column of words and one of tags."""
        table, columns = self.table, self.columns
        if table is None:
            if not self.labelled():
                raise DataError(f"{self.source} has words but no tags. Put a tag behind each word, or name its column.")
            return self.sentences
        words_column, tags_column = _needed(columns.words, "words"), _needed(columns.tags, "tags")
        all_words = table.column(words_column, key="task.columns.words")
        all_tags = table.column(tags_column, key="task.columns.tags")
        sentences: list[Sentence] = []
        for i, (cell, tag_cell) in enumerate(zip(all_words, all_tags, strict=True)):
            words = _list_cell(cell, where=table.place(i, words_column))
            tags = _list_cell(tag_cell, where=table.place(i, tags_column))
            if len(words) != len(tags):
                raise DataError(
                    f"{table.place(i)}: {len(words)} words but {len(tags)} tags. "
                    "Each word needs one tag; correct that row."
                )
            sentences.append(Sentence(words, tags, table.lines[i]))
        return sentences

    def _rows(self, task: Task, split: str, notes: list[str]) -> list[Example]:
        table, columns = self.table, self.columns
        assert table is not None
        text_column = _needed(columns.text, "text")
        texts = table.column(text_column, key="task.columns.text")
        none: list[Any] = [None] * len(texts)
        pairs = table.column(columns.pair, key="task.columns.pair") if columns.pair else none
        ids = table.column(columns.id, key="task.columns.id") if columns.id else none
        groups = table.column(columns.group, key="task.columns.group") if columns.group else none
        labels = self._label_values(task)
        rows: list[Example] = []
        seen: dict[str, int] = {}
        for i, (text, pair, id_, group, label) in enumerate(zip(texts, pairs, ids, groups, labels, strict=True)):
            name = f"{split}-{i}" if columns.id is None else label_name(id_)
            if name in seen:
                raise DataError(
                    f"{table.place(i, columns.id)}: the id '{name}' is that of line {table.lines[seen[name]]} too. "
                    "Ids name one row each; correct it, or leave task.columns.id out."
                )
            seen[name] = i
            rows.append(
                Example(
                    name,
                    text=text_cell(text, where=table.place(i, text_column)),
                    pair=text_cell(pair, where=table.place(i, columns.pair)) if columns.pair else None,
                    label=label,
                    group=None if is_blank(group) else label_name(group),
                )
            )
        empty = sum(not (row.text or "").strip() for row in rows)
        if empty:
            notes.append(f"{table.source}: {empty} rows have an empty text; they are kept.")
        named = {text_column, columns.pair, columns.id, columns.group}
        named |= {columns.label} if isinstance(columns.label, str) else set(columns.label or ())
        ignored = [name for name in table.columns if name not in named]
        if ignored and split == "train":
            notes.append(f"Columns of {table.source} that are not used: {', '.join(ignored)}.")
        return rows

    def _label_values(self, task: Task) -> list[Any]:
        table, column = self.table, self.columns.label
        assert table is not None
        numbers = {label: i for i, label in enumerate(task.labels)}
        if isinstance(column, Sequence) and not isinstance(column, str):  # one 0/1 column per label
            cells = [table.column(name, key="task.columns.label") for name in column]
            return [
                tuple(zero_or_one(c, where=table.place(i, name)) for c, name in zip(row, column, strict=True))
                for i, row in enumerate(zip(*cells, strict=True))
            ]
        name = _needed(column, "label")
        places = [table.place(i, name) for i in range(len(table.rows))]
        values = zip(table.column(name, key="task.columns.label"), places, strict=True)
        if task.kind == "regression":
            return [score(cell, where=where) for cell, where in values]
        if task.kind == "classification":
            return [class_number(cell, numbers, where=where) for cell, where in values]
        separator = self.settings.label_separator
        return [indicator(label_names(c, separator=separator, where=w), numbers, where=w) for c, w in values]


def _labels(settings: TaskSettings, train: _File) -> tuple[str, ...]:
    """The label set: as given, else as found in train."""
    if settings.kind in ("text", "regression"):
        return ()
    if settings.kind == "tokens":
        return bio_labels(settings.labels or train.names_found())
    column = settings.columns.label
    if column is not None and not isinstance(column, str):
        if settings.kind != "multilabel":
            raise RecipeError("task.columns.label: a list of columns is for kind multilabel; name one column.")
        if settings.labels and len(settings.labels) != len(column):
            raise RecipeError(
                f"task.labels names {len(settings.labels)} labels for {len(column)} columns; give as many."
            )
        return tuple(settings.labels or column)
    return tuple(settings.labels or train.names_found())


def _needed(column: Any, key: str) -> str:
    if isinstance(column, str):
        return column
    raise RecipeError(f"task.columns.{key} is missing: name the column of your file that holds it.")


def _column_number(column: str | None, default: int, *, key: str) -> int:
    if column is None:
        return default
    try:
        return int(column)
    except ValueError:
        raise RecipeError(
            f"task.columns.{key}: CoNLL files have no header, so a column is a number from 0 (or -1 for the last), "
            f"not '{column}'."
        ) from None


def _list_cell(cell: Any, *, where: str) -> tuple[str, ...]:
    """A list of words or tags; in a csv or tsv, words with single spaces between them."""
    if isinstance(cell, str) and cell.split():
        return tuple(cell.split())
    if isinstance(cell, list | tuple) and cell:
        return tuple(str(part) for part in cell)
    raise DataError(f"{where}: expected a list of words or tags, got {cell!r}. Correct or drop that row.")
