"""A file becomes text, or a table of cells, and keeps the line numbers that error messages name.

Formats: csv (quoted), tsv (never quoted, split on line feeds only: sentences hold quotes and control characters),
jsonl and parquet.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean


@dataclass(frozen=True)
class Table:
    """Rows of cells. `lines` holds each row's line in the file (its number from 1 where a format has no lines).

    A cell is a string, or what JSON or parquet hold; None where a row has no such cell.
    """

    source: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    lines: list[int]
    dropped: int = 0  # ragged rows left out, where the caller allowed it

    def index(self, column: str, *, key: str = "") -> int:
        """The position of a column, or an error with the nearest name; `key` is the recipe key that asked for it."""
        if column in self.columns:
            return self.columns.index(column)
        asked = f" (asked for by {key})" if key else ""
        raise DataError(
            f"{self.source}: there is no column '{column}'{asked}.{did_you_mean(column, self.columns)} "
            f"Columns there: {', '.join(self.columns)}."
        )

    def column(self, column: str, *, key: str = "") -> list[Any]:
        i = self.index(column, key=key)
        return [row[i] for row in self.rows]

    def place(self, row: int, column: str | None = None) -> str:
        """Where row number `row` of this table is, for an error message."""
        where = f"{self.source}, line {self.lines[row]}"
        return f"{where}, column '{column}'" if column else where


def find_file(folder: Path, names: Sequence[str], *, what: str) -> Path:
    """The first of `names` that exists in `folder`; else an error that lists what was looked for and what is there."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not folder.exists():
        raise DataError(f"{folder} does not exist; {what} was looked for there. Give the right folder as task.path.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give the folder that holds {what} as task.path.")
    found = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    shown = ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
    raise DataError(
        f"{folder}: {what} is missing. Looked for {' or '.join(names)}; found {shown or 'nothing'}. "
        "Put the file there or give another task.path."
    )


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, without a byte order mark. Missing, empty, undecodable and NUL-holding files are errors."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        find_file(path.parent, [path.name], what="the file")
        raise
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name a file in it.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not raw.strip():
        raise DataError(f"{path} is empty. Give a file with rows in it.")
    try:
        text = raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise DataError(f"task.encoding: no encoding is called '{encoding}'. Usual: utf-8, utf-16, cp1252.") from None
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = raw.count(b"\n", 0, start) + 1
        guess = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252 or latin-1"
        raise DataError(
            f"{path}, line {line}: byte {start} is not valid {encoding}. "
            f"Save the file as UTF-8, or give its encoding as task.encoding (perhaps {guess})."
        ) from None
    if "\x00" in text:
        at = text.index("\x00")
        raise DataError(
            f"{path}, line {text.count(chr(10), 0, at) + 1}: character {at} is NUL. "
            "The file is damaged or in another encoding (perhaps task.encoding: utf-16)."
        )
    return text


def read_lines(path: Path, encoding: str = "utf-8") -> list[str]:
    """The lines of a file. Only a line feed ends a line; a carriage return is taken off where every line has one."""
    lines = read_text(path, encoding).split("\n")
    if lines[-1] == "":
        lines.pop()
    if all(line.endswith("\r") for line in lines[:-1] or lines):
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def read_tsv(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    delimiter: str = "\t",
    encoding: str = "utf-8",
    ragged: str = "error",
) -> Table:
    """An unquoted table. `columns` are the names where the file has no header.

    ragged: "error" | "drop" (leave such rows out and count them) | "longer" (allow more cells than columns).
    """
    lines = read_lines(path, encoding)
    first = 1 if columns is None else 0
    names = tuple(columns) if columns is not None else tuple(lines[0].split(delimiter))
    _check_header(path, names)
    while len(names) > 1 and lines and not lines[-1]:
        lines.pop()
    rows: list[Sequence[str]] = []
    numbers: list[int] = []
    dropped = 0
    for number, line in enumerate(lines[first:], first + 1):
        cells = line.split(delimiter)
        if len(cells) != len(names) and not (ragged == "longer" and len(cells) > len(names)):
            if ragged == "drop":
                dropped += 1
                continue
            raise _ragged(path, number, len(cells), names)
        rows.append(cells)
        numbers.append(number)
    return _filled(Table(str(path), names, rows, numbers, dropped))


def read_csv(path: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> Table:
    """A table with standard quoting and a header. A quote that is never closed is an error, not one long cell."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses a cell of 131,072 characters
    reader = csv.reader(io.StringIO(read_text(path, encoding), newline=""), delimiter=delimiter, strict=True)
    rows: list[Sequence[str]] = []
    numbers: list[int] = []
    names: tuple[str, ...] = ()
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not cells:
                continue
            if not names:
                names = tuple(cells)
                _check_header(path, names)
            elif len(cells) != len(names):
                raise _ragged(path, number, len(cells), names)
            else:
                rows.append(cells)
                numbers.append(number)
    except csv.Error as error:
        raise DataError(
            f"{path}, row starting at line {start}: {error}. Close or double the quotes of that row; for a file that "
            "never quotes, name it .tsv."
        ) from None
    return _filled(Table(str(path), names, rows, numbers))


def read_jsonl(path: Path, *, encoding: str = "utf-8") -> Table:
    """One JSON object a line. The columns are all keys met; a row without one of them holds None there."""
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(read_lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}, character {error.colno}: not valid JSON ({error.msg}). "
                "A .jsonl file holds one object on each line."
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: JSON that cannot be read ({error}). Correct that line.") from None
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {number}: expected an object like {{"text": ...}}, got {_json_name(row)}.')
        if "\\u" in line and not _encodable(row):
            raise DataError(
                f"{path}, line {number}: half a surrogate pair (\\ud8…) is not a character. Correct that line."
            )
        objects.append(row)
        numbers.append(number)
    columns = tuple(dict.fromkeys(key for row in objects for key in row))
    return _filled(Table(str(path), columns, [tuple(row.get(key) for key in columns) for row in objects], numbers))


def read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        find_file(path.parent, [path.name], what="the file")
    try:
        columns = pyarrow.parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from None
    rows = list(zip(*columns.values(), strict=True))
    return _filled(Table(str(path), tuple(columns), rows, list(range(1, len(rows) + 1))))


def read_table(path: Path, *, delimiter: str | None = None, encoding: str = "utf-8") -> Table:
    """A table in the format that the file's suffix names."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return read_jsonl(path, encoding=encoding)
    if suffix in (".parquet", ".pq"):
        return read_parquet(path)
    if suffix in (".tsv", ".tab"):
        return read_tsv(path, delimiter=delimiter or "\t", encoding=encoding)
    if suffix in (".csv", ".txt"):
        return read_csv(path, delimiter=delimiter or ",", encoding=encoding)
    raise DataError(f"{path}: no reader for '{suffix}'. Give a .csv, .tsv, .jsonl or .parquet file.")


def _check_header(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the header names column '{twice[0]}' twice. Rename one of them.")


def _ragged(path: Path, number: int, cells: int, names: Sequence[str]) -> DataError:
    return DataError(
        f"{path}, line {number}: {cells} cells where the header has {len(names)} ({', '.join(names)}). "
        "Correct that row: a separator is missing, or one stands inside a text."
    )


def _filled(table: Table) -> Table:
    if not table.rows:
        raise DataError(f"{table.source} has no rows below its header. Give a file with rows in it.")
    return table


def _encodable(value: object) -> bool:
    """JSON can spell halves of characters, which no tokenizer takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_name(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
