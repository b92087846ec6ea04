"""Rows to be answered: texts without labels, for `understudy predict`."""

from __future__ import annotations

from pathlib import Path

from understudy.base.errors import DataError
from understudy.data.read import read_lines, read_table
from understudy.data.types import Example

_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq")


def read_rows(path: Path, *, kind: str, text: str | None = None, pair: str | None = None) -> list[Example]:
    """The rows of a table, or the lines of a plain text file, as unlabelled examples.

    Args:
        kind: of the model; for tokens a text is cut into words at white space.
        text: the column with the text; not needed where a table has one column, or a column called `text`.
        pair: the column with the second text of a pair.

    Raises:
        DataError: no such file or column, or no rows.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file.")
    if path.suffix.lower() not in _TABLES:
        lines = [line for line in read_lines(path) if line.strip()]
        rows = [(line, None) for line in lines]
    else:
        table = read_table(path)
        columns = table.columns
        first = text or ("text" if "text" in columns else columns[0] if len(columns) == 1 else None)
        if first is None:
            raise DataError(f"{path} has the columns {', '.join(columns)}: say which holds the text with --text COLUMN.")
        texts = [str(cell or "") for cell in table.column(first, key="--text")]
        seconds = [None] * len(texts) if pair is None else [str(cell or "") for cell in table.column(pair, key="--pair")]
        rows = list(zip(texts, seconds, strict=True))
    if not rows:
        raise DataError(f"{path} has no rows to answer.")
    if kind == "tokens":
        return [Example(id=str(i), words=tuple(one.split()) or ("",)) for i, (one, _) in enumerate(rows, start=1)]
    return [Example(id=str(i), text=one, pair=two) for i, (one, two) in enumerate(rows, start=1)]
