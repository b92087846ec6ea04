"""A file becomes text, or a table of cells, and keeps the line numbers that error messages name.

Formats: csv (quoted), tsv (never quoted, split on line feeds only: sentences hold quotes and control characters), JSON (an
object a line, or one list of objects), parquet and folders written by `datasets.save_to_disk`. Text formats may be compressed
(.gz, .bz2, .xz); several files, or a pattern with `*`, are read as one table.

The readers of csv and JSON are our own: those of `datasets` guess types ("001" becomes 1, "NA" nothing), and name no lines.
Nothing here is unbounded: only regular files are opened, and what a compressed file may grow to is limited.
"""

from __future__ import annotations

import bz2
import csv
import glob
import gzip
import io
import json
import lzma
import re
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError, ResourceError
from understudy.base.suggest import did_you_mean, few, shown

MOST_BYTES = 2_000_000_000
"""What one file may hold once it is unpacked; more would not fit beside a model, and may be a trap (a "zip bomb")."""
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")


@dataclass(frozen=True)
class Table:
    """Cells by column. `lines` holds each row's line in the file (its number from 1 where a format has no lines).

    A cell is a string, or what JSON or parquet hold; None where a row has no such cell. `cells(i)` gives column i: formats
    that can, read a column only when it is asked for. `parts` are the tables of several files, read as one.
    """

    source: str
    columns: tuple[str, ...]
    lines: Sequence[int]
    cells: Callable[[int], list[Any]]
    notes: tuple[str, ...] = ()
    dropped: int = 0  # ragged rows left out, where the caller allowed it
    parts: tuple[Table, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """All cells, row by row; for small tables."""
        return list(zip(*map(self.cells, range(len(self.columns))), strict=True))

    def column(self, column: str, *, key: str = "") -> list[Any]:
        """The cells of a column, or an error with the nearest name; `key` is the recipe key that asked for it."""
        if self.parts:
            return [cell for part in self.parts for cell in part.column(column, key=key)]
        found = [i for i, name in enumerate(self.columns) if name == column]
        if len(found) == 1:
            return self.cells(found[0])
        asked = f" (asked for by {key})" if key else ""
        if found:
            raise DataError(f"{self.source}, line 1: the header names column '{column}'{asked} twice. Rename one of them.")
        help_text = _other_delimiter(self.columns) or did_you_mean(column, self.columns)
        raise DataError(
            f"{self.source}: there is no column '{shown(column)}'{asked}.{help_text} Columns there: {few(self.columns)}."
        )

    def only(self, rows: Sequence[int]) -> Table:
        """Some of the rows."""
        lines = [self.lines[row] for row in rows]
        return replace(self, lines=lines, cells=lambda i: (lambda cells: [cells[row] for row in rows])(self.cells(i)))

    def place(self, row: int, column: str | None = None) -> str:
        """Where row number `row` of this table is, for an error message."""
        for part, end in zip(self.parts, accumulate(map(len, self.parts)), strict=True):
            if row < end:
                return part.place(row - end + len(part), column)
        where = f"{self.source}, line {self.lines[row]}"
        return f"{where}, column '{shown(column)}'" if column else where


def usable(name: str, *, base: str | None = None, key: str = "task.files") -> Path:
    """A name as a path, `~` understood; an error for names that no file system takes."""
    try:
        path = Path(name).expanduser()
        path = Path(base).expanduser() / path if base is not None else path
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, the home of nobody
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{key}: {shown(repr(name))} is not a usable path ({reason}).") from None
    return path


def inner_suffix(path: Path) -> str:
    """The suffix that names a file's format, in small letters: that beneath .gz and the like."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _OPENERS else (suffixes or [""])[-1]


def is_table(path: Path) -> bool:
    """Whether a file's name says that it holds a table."""
    return path.is_dir() or inner_suffix(path) in _TABLES


def find_files(names: str | Sequence[str], *, base: str | None = None, key: str = "task.files") -> list[Path]:
    """The files meant by a name, a pattern (`part*.csv`, in the order of their names), or several of these."""
    found: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        path = usable(name, base=base, key=key)
        if re.search(r"[*?\[]", name) and not path.exists():
            matches = sorted(glob.glob(str(path), recursive=True))
            if not matches:
                raise DataError(f"{key}: no file is called like '{path}'.")
            found += [Path(match) for match in matches]
        else:
            found.append(path)
    return found


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
    raise DataError(
        f"{folder}: {what} is missing. Looked for {' or '.join(names)}; found {few(found) or 'nothing'}. "
        "Put the file there or give another task.path."
    )


def require_file(path: Path) -> None:
    """Refuse what is not a regular file (a pipe would wait for ever, a device never end) or cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        find_file(path.parent, [path.name], what="the file")
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if stat.S_ISDIR(mode):
        inside = sorted({inner_suffix(entry) for entry in path.iterdir()} & set(_TABLES))
        more = f", as in {path}/*{inside[0]}" if inside else ""
        raise DataError(f"{path} is a folder; name a file in it{more}.")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is not a regular file.")


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, without a byte order mark. Missing, empty, undecodable and NUL-holding files are errors."""
    require_file(path)
    try:
        with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(raw) > MOST_BYTES:
        raise ResourceError(f"{path} holds more than {MOST_BYTES / 1e9:g} GB; give a part of it.")
    if not raw.strip():
        raise DataError(f"{path} is empty. Give a file with rows in it.")
    try:
        text = raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
        text.encode()  # some encodings (utf-7) can spell halves of characters, which no tokenizer takes
    except UnicodeEncodeError as error:
        line = error.object.count("\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: half a surrogate pair is not a character. Correct that line.") from None
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = raw.count(b"\n", 0, start) + 1
        guess = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252 or latin-1"
        raise DataError(
            f"{path}, line {line}: byte {start} is not valid {encoding}. "
            f"Save the file as UTF-8, or give its encoding as task.encoding (perhaps {guess})."
        ) from None
    except (LookupError, ValueError):
        raise DataError(
            f"task.encoding: no encoding is called {shown(repr(encoding))}. Usual: utf-8, utf-16, cp1252."
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
    while len(names) > 1 and lines and not lines[-1]:
        lines.pop()
    rows = ((number, line.split(delimiter)) for number, line in enumerate(lines[first:], first + 1))
    return _cells(path, names, rows, ragged=ragged)


def read_csv(path: Path, *, delimiter: str | None = None, encoding: str = "utf-8") -> Table:
    """A table with standard quoting and a header. A quote that is never closed is an error, not one long cell.

    A first line `sep=;`, as Excel writes it, is no row and names the delimiter.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses a cell of 131,072 characters
    text = read_text(path, encoding)
    skipped = 0
    if said := re.match(r"sep=(.)\r?\n", text):
        text, skipped, delimiter = text[said.end() :], 1, delimiter or said[1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or ",", strict=True)
    numbered: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if cells:
                numbered.append((start + skipped, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, row starting at line {start + skipped}: {error}. Close or double the quotes of that row; for a file that "
            "never quotes, name it .tsv."
        ) from None
    names = tuple(numbered[0][1]) if numbered else ()
    return _cells(path, names, numbered[1:])


def _cells(path: Path, names: tuple[str, ...], numbered: Any, *, ragged: str = "error") -> Table:
    """Checked rows as a table. What spreadsheets add is left out: rows and columns without a name with nothing in them."""
    rows: list[Sequence[str]] = []
    numbers: list[int] = []
    dropped = blank = 0
    for number, cells in numbered:
        while ragged == "error" and len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if ragged == "error" and len(names) > 1 and not any(cells):
            blank += 1
        elif len(cells) == len(names) or (ragged == "longer" and len(cells) > len(names)):
            rows.append(cells)
            numbers.append(number)
        elif ragged == "drop":
            dropped += 1
        else:
            raise DataError(
                f"{path}, line {number}: {len(cells):,} cells where the header has {len(names):,} ({few(names)}). "
                f"Correct that row: a separator is missing, or one stands inside a text.{_other_delimiter(names)}"
            )
    notes = [f"{path}: {blank} rows without any content are left out."] if blank else []
    if unnamed := [i for i, name in enumerate(names) if not name.strip() and not any(row[i] for row in rows)]:
        notes.append(f"{path}: {len(unnamed)} columns without a name and content are left out.")
    kept = [i for i in range(len(names)) if i not in set(unnamed)]
    return filled(
        Table(
            str(path),
            tuple(names[i] for i in kept),
            numbers,
            lambda i: [row[kept[i]] for row in rows],
            tuple(notes),
            dropped,
        )
    )


def _other_delimiter(names: Sequence[str]) -> str:
    """A question, where the only column is called as several would be."""
    mark = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    return f" Is task.delimiter {mark!r}?" if mark else ""


def read_json(path: Path, *, encoding: str = "utf-8") -> Table:
    """Objects, one a line or in one list (which may stand under a single key). The columns are all keys met; a row without
    one of them holds None there. The lines of a list's rows are their numbers in it."""
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    lines = read_lines(path, encoding)
    first = next((line for line in lines if line.strip()), "{}")
    alone = sum(bool(line.strip()) for line in lines) == 1
    if inner_suffix(path) == ".json" and (first.lstrip()[0] == "[" or alone or not _parses(first)):
        whole = _parse("\n".join(lines), f"{path}")
        lists = [part for part in whole.values() if isinstance(part, list)] if isinstance(whole, dict) else [whole]
        if isinstance(whole, dict) and alone and not any(isinstance(row, dict) for part in lists for row in part):
            lists = [[whole]]  # the only row
        if len(lists) != 1 or not isinstance(lists[0], list):
            raise DataError(f"{path}: expected a list of objects, or an object on each line.")
        found = enumerate(lists[0], 1)
    else:
        found = ((number, _parse(line, f"{path}, line {number}")) for number, line in enumerate(lines, 1) if line.strip())
    for number, row in found:
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {number}: expected an object like {{"text": ...}}, got {_json_name(row)}.')
        objects.append(row)
        numbers.append(number)
    columns = tuple(dict.fromkeys(key for row in objects for key in row))
    return filled(Table(str(path), columns, numbers, lambda i: [row.get(columns[i]) for row in objects]))


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parse(text: str, where: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text else ""
        raise DataError(
            f"{where}{line}, character {error.colno}: not valid JSON ({error.msg}). "
            "A .jsonl file holds one object on each line, a .json file that or one list of objects."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: JSON that cannot be read ({error}). Correct that line.") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(f"{where}: half a surrogate pair (\\ud8…) is not a character. Correct that line.") from None
    return value


def read_parquet(path: Path) -> Table:
    """Columns are read when they are asked for; class labels (`ClassLabel` of `datasets`) by their names."""
    import pyarrow
    import pyarrow.parquet

    require_file(path)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from None
    names = tuple(schema.names)
    if rows * 64 > MOST_BYTES:  # the least that a cell takes in memory
        raise ResourceError(f"{path} has {rows:,} rows, more than can be held in memory; give a part of it.")

    def cells(i: int) -> list[Any]:
        found: list[Any] = []
        size = 0
        try:
            for batch in file.iter_batches(batch_size=1024, columns=[names[i]]):
                size += batch.nbytes
                if size > MOST_BYTES:
                    raise ResourceError(
                        f"{path}: column '{shown(names[i])}' holds more than {MOST_BYTES / 1e9:g} GB; give a part of it."
                    )
                found += batch.column(0).to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from None
        return by_name(found, features.get(names[i]))

    features = _features(schema)
    return filled(Table(str(path), names, range(1, rows + 1), cells))


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` noted about the columns of a parquet file, if it wrote it."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    import datasets

    try:
        return dict(datasets.Features.from_arrow_schema(schema))
    except Exception:  # written by another version: its columns are what parquet says they are
        return {}


def read_dataset(path: Path) -> Table:
    """A folder written by `datasets.save_to_disk`."""
    import datasets

    datasets.disable_progress_bars()
    try:
        data: Any = datasets.load_from_disk(str(path))
    except Exception as error:  # each kind of damage has its own class
        raise DataError(f"{path} is not a readable folder of `datasets`: {str(error).splitlines()[0]}") from None
    if isinstance(data, datasets.DatasetDict):
        raise DataError(f"{path} holds the splits {', '.join(map(str, data))}; name one, as in {path}/{next(iter(data))}.")
    return table_of(data, str(path))


def table_of(data: Any, source: str) -> Table:
    """A `datasets.Dataset` as a table."""
    names = tuple(data.column_names)
    return filled(
        Table(source, names, range(1, len(data) + 1), lambda i: by_name(list(data[names[i]]), data.features[names[i]]))
    )


def by_name(cells: list[Any], feature: Any) -> list[Any]:
    """Class labels by their names, also in lists of them; -1 is the Hub's mark for a hidden label."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return [cell if cell is None else by_name(list(cell), inner) for cell in cells] if hasattr(inner, "names") else cells
    names = getattr(feature, "names", None)
    if names is None:
        return cells
    return [names[cell] if isinstance(cell, int) and cell >= 0 else None for cell in cells]


def read_table(path: Path, *, delimiter: str | None = None, encoding: str = "utf-8") -> Table:
    """A table in the format that the file's suffix names."""
    if path.is_dir() and any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return read_dataset(path)
    suffix = inner_suffix(path)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return read_json(path, encoding=encoding)
    if suffix in (".parquet", ".pq"):
        return read_parquet(path)
    if suffix in (".tsv", ".tab"):
        return read_tsv(path, delimiter=delimiter or "\t", encoding=encoding)
    if suffix in (".csv", ".txt"):
        return read_csv(path, delimiter=delimiter, encoding=encoding)
    if path.is_dir():
        require_file(path)
    raise DataError(f"{path}: no reader for '{suffix}'. Give a .csv, .tsv, .json, .jsonl or .parquet file.")


def joined(tables: Sequence[Table]) -> Table:
    """Several tables as one; its columns are those that all have."""
    if len(tables) == 1:
        return tables[0]
    common = [name for name in tables[0].columns if all(name in table.columns for table in tables[1:])]
    lines = [line for table in tables for line in table.lines]
    notes = [note for table in tables for note in table.notes]
    source = f"{tables[0].source} and {len(tables) - 1} more"
    def cells(i: int) -> list[Any]:
        return [cell for table in tables for cell in table.column(common[i])]

    return Table(source, tuple(common), lines, cells, tuple(notes), parts=tuple(tables))


def filled(table: Table) -> Table:
    if not len(table):
        raise DataError(f"{table.source} has no rows below its header. Give a file with rows in it.")
    return table


def _json_name(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
