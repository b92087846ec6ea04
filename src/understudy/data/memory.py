"""Rows that are in memory already, as a table: lists, columns, data frames, `datasets`. What is guessed about a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean, few
from understudy.data.guess import guess_table
from understudy.data.read import Table, filled, table_of

NAMELESS = ("text", "pair", "words", "label")
"""What the columns of lists are called."""


def table_in_memory(rows: Any, name: str) -> Table:
    """Rows as a table with the columns they name, or those of `NAMELESS` where they name none.

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
    return {"words" if any(isinstance(row, list) for row in rows) else "text": list(rows)}


def _plain(cell: Any) -> Any:
    """numpy's scalars and arrays as Python's; what a data frame writes for nothing as None."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return cell


def guessed(
    table: Table, *, text: str | None = None, pair: str | None = None, label: str | Sequence[str] | None = None
) -> dict[str, Any]:
    """`kind`, `columns` and perhaps `label_separator` of the recipe's section, for a table of which some columns may be known.

    Raises:
        DataError: there is no such column, or none looks like a text.
    """
    several = list(label) if label is not None and not isinstance(label, str) else []
    labels: list[str] = [label] if isinstance(label, str) else several
    for key, name in (("text", text), ("pair", pair), *(("label", name) for name in labels)):
        close = did_you_mean(name, table.columns) if name is not None and name not in table.columns else None
        if close is not None and (close or key != "label"):  # rows may come without labels
            raise DataError(
                f"{key}='{name}': {table.source} has no such column.{close} Columns there: {few(table.columns)}."
            )
    lists = text in table.columns and any(isinstance(cell, list) for cell in table.column(text))
    names = {text: "tokens" if lists else "text", pair: "pair", None if several else label: "label"}
    names.pop(None, None)
    if text is not None and label is not None:
        kept = [name for name in table.columns if name in names or name in several or name == "id"]
    else:
        kept = [name for name in table.columns if name in names or name not in names.values()]
    cells = [table.column(name) for name in kept]
    found = guess_table(Table(table.source, tuple(names.get(name, name) for name in kept), table.lines, lambda i: cells[i]))
    given = {called: name for name, called in names.items()}
    columns = {key: name if isinstance(name, list) else given.get(name, name) for key, name in found.task["columns"].items()}
    if pair is not None and not lists:
        columns["pair"] = pair
    if several or (label is not None and not {"label", "tags"} & set(columns)):
        columns["label"], found.task["kind"] = several or label, "multilabel" if several else "classification"
    return {**found.task, "columns": columns}
