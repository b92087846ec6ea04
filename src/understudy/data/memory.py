"""Rows that are in memory already, as a table: lists, columns, data frames, `datasets`. What is guessed about a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean, few
from understudy.data.read import Table, filled, table_of
from understudy.kinds.cells import is_blank

TEXTS = ("text", "sentence", "sentence1", "premise", "question1", "text_a", "question", "tokens", "words")
PAIRS = {"sentence1": "sentence2", "premise": "hypothesis", "question1": "question2", "text_a": "text_b",
         "question": "sentence", "text": "pair"}  # fmt: skip
LABELS = ("label", "labels", "tags", "ner_tags", "score")


def table_in_memory(rows: Any, name: str) -> Table:
    """Rows as a table with the columns they name, or `text`, `pair` and `label` where they name none.

    Args:
        rows: (texts, labels) · a list of texts · a list of dictionaries · a dictionary of columns · a pandas DataFrame · a
            `datasets.Dataset`. A text is a string, a pair of texts a tuple of two, a sentence of words a list.
        name: what messages call them.

    Raises:
        DataError: none of these, or columns of different lengths.
    """
    if hasattr(rows, "column_names") and hasattr(rows, "features"):
        return table_of(rows, name)
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):
        columns = {str(column): rows[column].tolist() for column in rows.columns}
    elif isinstance(rows, Mapping):
        columns = {str(column): listed(cells, f"{name}['{column}']") for column, cells in rows.items()}
    elif isinstance(rows, tuple) and len(rows) == 2 and not any(isinstance(part, str) for part in rows):
        texts, labels = listed(rows[0], f"the texts of {name}"), listed(rows[1], f"the labels of {name}")
        columns = {**_texts(texts, name), "label": labels}
    else:
        given = listed(rows, name)
        if given and all(isinstance(row, Mapping) for row in given):
            keys = dict.fromkeys(str(key) for row in given for key in row)
            columns = {key: [row.get(key) for row in given] for key in keys}
        else:
            columns = _texts(given, name)
    lengths = {column: len(cells) for column, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count:,} in '{column}'" for column, count in lengths.items())
        raise DataError(f"{name}: every row needs all its parts, but there are {counts}.")
    names = tuple(columns)
    cells = [[_plain(cell) for cell in columns[column]] for column in names]
    return filled(Table(name, names, range(1, next(iter(lengths.values()), 0) + 1), lambda i: cells[i]))


def listed(values: Any, name: str) -> list[Any]:
    """Anything with a row after the other (a list, an array, a column) as a list."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise DataError(f"{name}: expected a list, got {type(values).__name__}. Give one entry for each row.")
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _texts(rows: Sequence[Any], name: str) -> dict[str, list[Any]]:
    """Texts, pairs of texts, or lists of words, as columns."""
    if rows and all(isinstance(row, tuple) and len(row) == 2 for row in rows):
        return {"text": [row[0] for row in rows], "pair": [row[1] for row in rows]}
    for i, row in enumerate(rows, 1):
        if not isinstance(row, str | list):
            raise DataError(
                f"{name}, row {i}: expected a text, got {type(row).__name__}. A row is a string, a tuple of two (a pair of "
                "texts), or a list of words; texts and their labels are two lists: (texts, labels)."
            )
    return {"text": list(rows)}


def _plain(cell: Any) -> Any:
    """numpy's scalars and arrays as Python's; what a data frame writes for nothing as None."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return cell


def guessed_columns(
    table: Table, *, text: str | None, pair: str | None, label: str | Sequence[str] | None
) -> dict[str, Any]:
    """Which column holds what: as given, else by names that data sets use.

    Raises:
        DataError: no column has such a name; the message lists those there are.
    """
    text = text or next((name for name in TEXTS if name in table.columns), None)
    if text is None:
        raise DataError(f"{table.source} has the columns {few(table.columns)}: say which holds the text, as in text='body'.")
    for key, name in (("text", text), ("pair", pair)):
        if name is not None and name not in table.columns:
            raise DataError(
                f"{key}='{name}': {table.source} has no such column.{did_you_mean(name, table.columns)} "
                f"Columns there: {few(table.columns)}."
            )
    if pair is None and PAIRS.get(text) in table.columns:
        pair = PAIRS[text]
    for name in [label] if isinstance(label, str) else label or ():
        if name not in table.columns and (close := did_you_mean(name, table.columns)):
            raise DataError(f"label='{name}': {table.source} has no such column.{close}")
    if label is None:
        label = next((name for name in LABELS if name in table.columns and name != text), None)
    found = {"text": text, "pair": pair, "label": label, "id": "id" if "id" in table.columns else None}
    return {key: name for key, name in found.items() if name is not None}


def guessed_kind(table: Table, columns: Mapping[str, Any]) -> str:
    """What kind of task these columns hold: lists of words are tagged, lists of labels are several, fractions are numbers."""
    label = columns.get("label")
    if any(isinstance(cell, list | tuple) for cell in table.column(columns["text"])):
        return "tokens"
    if label is None:
        return "classification"
    if not isinstance(label, str):
        return "multilabel"
    known = [cell for cell in table.column(label) if not is_blank(cell)]
    if any(isinstance(cell, list | tuple) for cell in known):
        return "multilabel"
    numbers = [cell for cell in known if isinstance(cell, float)]
    return "regression" if any(not number.is_integer() for number in numbers) else "classification"
