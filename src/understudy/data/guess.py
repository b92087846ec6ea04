"""What files of your own hold: their roles by name, their layout by looking. A guess is a `task` section and a reason for
each of its keys; `understudy init --data` writes both down, and whoever knows better changes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import few, shown
from understudy.data.read import Table, find_files, inner_suffix, is_table, joined, read_lines, read_table, read_text
from understudy.kinds.cells import is_blank, label_name, list_literal

LABEL_NAMES = (
    "label", "labels", "gold_label", "class", "category", "target", "intent", "topic", "sentiment", "emotion", "quality",
    "score", "similarity", "rating", "stars", "grade", "is_duplicate", "y", "tags", "tag", "polarity", "queue", "type",
)  # fmt: skip
TEXT_NAMES = (
    "text", "sentence", "sentence1", "premise", "question", "question1", "query", "body", "content", "review", "message", "tweet",
    "comment", "document", "comment_text", "utterance", "title", "description", "abstract",
)  # fmt: skip
PAIRS = (
    ("premise", "hypothesis"), ("question", "sentence"), ("question", "context"), ("question", "passage"), ("question", "answer"),
    ("query", "document"), ("query", "passage"), ("text", "text_pair"), ("text", "pair"), ("sentence", "sentence_pair"),
)  # fmt: skip
WORDS = ("tokens", "words", "token", "word", "form")
TAGS = ("ner_tags", "tags", "ner", "labels", "label", "tag", "pos_tags", "pos", "upos", "upos_tags")
OTHERS = ("lang", "language", "split", "source", "date", "user", "author", "year", "genre", "url", "file", "filename", "time")
"""Columns of few values that are hardly ever what is asked for."""
CONLL = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".train", ".testa", ".testb")
ROLES = {
    "train": "train", "training": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "testa": "dev",
    "test": "test", "testb": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_NO_CLASS = re.compile(
    r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([T ].*)?|\d{1,2}:\d\d.*|(https?://|www\.).*|\S+@\S+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32,}",
    re.IGNORECASE,
)
"""Dates, times, addresses and keys: they may recur, and nobody asks a text for them."""
_SAMPLE = 5000  # rows that a column is judged by
_MOST_CLASSES = 500


@dataclass
class Guess:
    """A `task` section, a reason for some of its keys (`columns.label`), and what else should be known."""

    task: dict[str, Any]
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def guess_files(names: Sequence[str]) -> Guess:
    """The task in these files.

    Args:
        names: files, patterns, folders (all files in them; splits of `datasets`), or ROLE=FILE with a role train, dev or test.

    Raises:
        DataError: nothing to learn from is there, or nobody could tell which column holds the texts.
    """
    files = _roles(names)
    found = Guess({"name": "custom", "kind": ""})
    first = files["train"][0]
    encoding = _encoding(first)
    if encoding != "utf-8":
        found.task["encoding"], found.why["encoding"] = encoding, f"{first.name} is not UTF-8"
    delimiter = _delimiter(first, encoding)
    form = _form(first, encoding)
    if form == "table":
        tables = {
            role: joined([read_table(path, delimiter=delimiter, encoding=encoding) for path in paths])
            for role, paths in files.items()
        }
        _require_header(first, tables["train"])
        looked = guess_table(tables["train"], [table for role, table in tables.items() if role != "train"])
        found.task |= looked.task
        found.why |= looked.why
        found.notes += looked.notes
    else:
        found.task["kind"] = {"conll": "tokens", "lines": "text"}[form]
        found.why["kind"] = {
            "conll": "a word on each line, its tag last, blank lines between sentences",
            "lines": "a text on each line, without labels: a language model is learnt",
        }[form]
    found.task["files"] = {
        role: str(paths[0]) if len(paths) == 1 else [str(path) for path in paths] for role, paths in files.items()
    }
    if delimiter is not None:
        found.task["delimiter"], found.why["delimiter"] = delimiter, "most frequent in the header"
    missing = {"dev": "a part of train selects", "test": "a part of train is held out to report on"}
    found.why["files"] = "; ".join(said for role, said in missing.items() if role not in files)
    return found


def guess_table(table: Table, others: Sequence[Table] = ()) -> Guess:
    """Kind and columns of a table of training rows; `others` are those that must fit too (dev, test).

    Returns:
        a Guess whose task has `kind`, `columns` and, where one was found, `label_separator`.

    Raises:
        DataError: no column looks like a text.
    """
    columns = [_Column(name, table.cells(i)) for i, name in enumerate(table.columns)]
    columns = [column for column in columns if column.known]
    found = Guess({"kind": "", "columns": {}})
    if not _tokens(columns, found):
        _texts(columns, found, table.source)
        _label([column for column in columns if column.name not in found.task["columns"].values()], found)
    used = {name for value in found.task["columns"].values() for name in ([value] if isinstance(value, str) else value)}
    ids = [
        column.name
        for column in columns
        if column.name not in used and column.names_rows and all(column.name in other.columns for other in others)
        and column.unique(table, others)
    ]
    if len(ids) == 1:
        found.task["columns"]["id"], found.why["columns.id"] = ids[0], "another value in each row"
    unused = [column.name for column in columns if column.name not in {*used, found.task["columns"].get("id")}]
    if unused:
        found.notes.append(f"Columns that are not used: {few(unused)}.")
    return found


class _Column:
    """A column as far as it was looked at: `known` are the cells of a sample that are not blank."""

    def __init__(self, name: str, cells: list[Any]) -> None:
        self.name, self.folded = name, name.strip().casefold()
        step = max(1, len(cells) // _SAMPLE)
        self.sample = cells[::step]
        self.known = [cell for cell in self.sample if not is_blank(cell)]
        self.blank = 1 - len(self.known) / max(1, len(self.sample))
        self.lists = [_as_list(cell) for cell in self.known]
        self.listed = bool(self.known) and all(part is not None for part in self.lists)
        self.texts = all(isinstance(cell, str) for cell in self.known) and not self.listed
        self.words = sum(len(str(cell).split()) for cell in self.known) / max(1, len(self.known))
        self.numbers = [_number(cell) for cell in self.known] if not self.listed else []
        self.numeric = bool(self.numbers) and None not in self.numbers
        self.values = Counter(label_name(str(cell)[:1000]) for cell in self.known) if not self.listed else Counter()

    @property
    def whole(self) -> bool:
        return self.numeric and all(number is not None and float(number).is_integer() for number in self.numbers)

    @property
    def yes_or_no(self) -> bool:
        return not self.listed and {value.lower() for value in self.values} <= {"0", "1", "0.0", "1.0", "true", "false"}

    @property
    def few_values(self) -> bool:
        """Whether its values recur as those of a class do."""
        most = min(_MOST_CLASSES, max(2, len(self.known) // 3))
        return 2 <= len(self.values) <= most and self.words <= 4 and not all(map(_NO_CLASS.fullmatch, self.values))

    @property
    def lopsided(self) -> bool:
        """Whether nearly all rows have one value."""
        return max(self.values.values()) > 0.9 * len(self.known)

    @property
    def names_rows(self) -> bool:
        ends = self.folded in ("", "#") or re.search(r"(^|[^a-z])(id|idx|index|guid|uuid|uid)$", self.folded)
        return bool(ends) and not self.listed and self.blank == 0

    def unique(self, table: Table, others: Sequence[Table]) -> bool:
        def alone(cells: list[Any]) -> bool:
            return not any(map(is_blank, cells)) and len({label_name(cell) for cell in cells}) == len(cells)

        return len(self.values) == len(self.known) and all(alone(part.column(self.name)) for part in (table, *others))

    def shares(self) -> str:
        """Its most frequent values, in words."""
        total = sum(self.values.values())
        parts = [f"{shown(value)} ({100 * count / total:.0f} %)" for value, count in self.values.most_common(3)]
        return ", ".join(parts) + (f" and {len(self.values) - 3} more" if len(self.values) > 3 else "")


# -- what stands where -------------------------------------------------------------------------------------------------


def _tokens(columns: Sequence[_Column], found: Guess) -> bool:
    """Words with tags: two columns of lists that are equally long in each row, or a word in each row."""
    by_name = {column.folded: column for column in columns}
    words = next((by_name[name] for name in WORDS if name in by_name), None)
    if words is None:
        return False
    tags = [by_name[name] for name in TAGS if name in by_name and by_name[name] is not words]
    for column in tags:
        if words.listed or words.words > 1.5:
            sizes = [[len(_as_list(cell) or str(cell).split()) for cell in part.known] for part in (words, column)]
            if sizes[0] == sizes[1]:
                found.task |= {"kind": "tokens", "columns": {"words": words.name, "tags": column.name}}
                found.why["kind"] = f"as many tags in '{column.name}' as words in '{words.name}', in every row looked at"
                return True
        else:
            of = next((one for one in columns if re.match(r"(sent|doc|group)", one.folded) and one not in (words, column)), None)
            if of is not None:
                found.task |= {
                    "kind": "tokens", "columns": {"words": words.name, "tags": column.name, "group": of.name}
                }  # fmt: skip
                found.why["kind"] = "a word and its tag in each row"
                found.why["columns.group"] = "the sentence a word belongs to"
                return True
    return False


def _texts(columns: Sequence[_Column], found: Guess, source: str) -> None:
    by_name = {column.folded: column for column in columns if column.texts}
    here = [column for column in by_name.values() if column.words >= 1.5 and not column.numeric]
    pair = next(
        ((by_name[one], by_name[other]) for one, other in _pairs(by_name) if {by_name[one], by_name[other]} <= set(here)), None
    )
    if pair:
        found.task["columns"] = {"text": pair[0].name, "pair": pair[1].name}
        found.why["columns.pair"] = "two texts in each row, by the names of their columns"
        return
    named = [by_name[name] for name in TEXT_NAMES if name in by_name and not by_name[name].numeric]
    if not (ranked := named or sorted(here, key=lambda column: -column.words)):
        raise DataError(
            f"{source}: none of the columns {few([column.name for column in columns])} looks like a text. Write the recipe by "
            "hand: `understudy init auto`, and docs/data.md for task.columns."
        )
    found.task["columns"] = {"text": ranked[0].name}
    found.why["columns.text"] = f"{ranked[0].words:.0f} words in the mean" if not named else "by its name"
    if more := [column.name for column in here if column is not ranked[0] and column.words >= 5]:
        found.notes.append(f"Texts too, and not read: {few(more)} (as `pair: {more[0]}` one more would be).")


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names of two columns that belong together, the likeliest first."""
    there = set(names)
    numbered = [(name, re.sub(r"1(?!.*1)", "2", name)) for name in there if "1" in name]
    lettered = [(name, name[:-1] + "b") for name in there if re.search(r"[^a-z]a$", name)]
    found = [pair for pair in (*PAIRS, *sorted([*numbered, *lettered], key=lambda pair: len(pair[0]))) if set(pair) <= there]
    return [pair for pair in found if pair[0] != pair[1]]


def _label(columns: Sequence[_Column], found: Guess) -> None:
    """Which column is asked for, and the kind of task that makes."""
    columns = [column for column in columns if not column.names_rows]
    by_name = {column.folded: column for column in columns}
    named = [by_name[name] for name in LABEL_NAMES if name in by_name]
    named += [column for column in columns if re.search(r"(^|[^a-z])(label|class|score)s?$", column.folded)]
    named = [column for column in named if column.listed or column.numeric or column.few_values or _separator(column)]
    switches = [column for column in columns if column.yes_or_no]
    if not named and len(switches) > 1:
        found.task["kind"] = "multilabel"
        found.task["columns"]["label"] = [column.name for column in switches]
        found.why["kind"] = f"{len(switches)} columns of 0 and 1, one for each label"
        return
    guessed = [column for column in columns if column.few_values and column.folded not in OTHERS and not column.listed]
    guessed.sort(key=lambda column: column.lopsided)  # of the others the last: labels mostly stand at the end
    even = [column for column in guessed if column.lopsided == guessed[0].lopsided]
    column = next(iter(named), None) or next(reversed(even), None)
    if column is None:
        found.task["kind"] = "text"
        found.why["kind"] = "no column looks like a label: a language model is learnt from the texts alone"
        return
    found.task["columns"]["label"] = column.name
    found.why["columns.label"] = ("by its name" if column in named else "few values that recur") + (
        f"; {100 * column.blank:.0f} % of the rows have none and are learnt from the teacher alone" if column.blank else ""
    )
    if column.listed or _separator(column):
        found.task["kind"] = "multilabel"
        found.why["kind"] = f"several labels in a cell, as in {shown(str(column.known[0]))}"
        if (mark := _separator(column)) and mark != "|":
            found.task["label_separator"], found.why["label_separator"] = mark, "between the labels of a cell"
    elif column.numeric and (not column.whole or len(column.values) > 20):
        numbers = [number for number in column.numbers if number is not None]
        found.task["kind"] = "regression"
        found.why["kind"] = f"'{column.name}' holds numbers from {min(numbers):g} to {max(numbers):g}"
    else:
        found.task["kind"] = "classification"
        ordered = " (kind: regression would use their order)" if column.whole and len(column.values) > 2 else ""
        found.why["kind"] = f"{len(column.values)} classes: {column.shares()}{ordered}"


def _separator(column: _Column) -> str | None:
    """The character between several labels in a cell: cut at it, the parts recur far more often than the cells do."""
    if not column.texts:
        return None
    for mark in "|;,":
        cut = [[part.strip() for part in cell.split(mark) if part.strip()] for cell in column.known]
        parts = Counter(part for cell in cut for part in cell)
        several = sum(len(cell) > 1 for cell in cut) / len(cut)
        short = sum(len(part.split()) for part in parts) <= 3 * len(parts)
        if several >= 0.05 and short and 2 <= len(parts) < len(column.values) and len(parts) <= min(_MOST_CLASSES, len(cut) // 2):
            return mark
    return None


def _as_list(cell: Any) -> list[Any] | None:
    return list(cell) if isinstance(cell, list | tuple) else list_literal(cell) if isinstance(cell, str) else None


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if value == value and abs(value) != float("inf") else None


# -- files -------------------------------------------------------------------------------------------------------------


def _roles(names: Sequence[str]) -> dict[str, list[Path]]:
    """train, dev and test by the words in the files' names; files without such a word are train's."""
    asked: list[tuple[str | None, Path]] = []
    for name in names:
        role, equals, rest = name.partition("=")
        known = bool(equals) and role in ("train", "dev", "test") and not Path(name).exists()
        for path in find_files(rest if known else name, key="--data"):
            asked += [(role if known else None, inside) for inside in _inside(path)]
    if len(asked) == 1:
        return {"train": [asked[0][1]]}
    files: dict[str, list[Path]] = {"train": [], "dev": [], "test": []}
    unnamed: list[Path] = []
    for role, path in asked:
        words = re.split(r"[^a-z]+", path.name.casefold())
        role = role or next((ROLES[word] for word in words if word in ROLES), None)
        (files[role] if role else unnamed).append(path)
    if unnamed and files["train"]:
        raise RecipeError(
            f"--data: {few([str(path) for path in unnamed])}: is it to learn from, to select by or to report on? Say --data "
            f"train={unnamed[0]} (or dev=, test=), or leave it out."
        )
    files["train"] += unnamed
    if not files["train"]:
        raise RecipeError("--data: none of these files is called as if it were to learn from. Say which: --data train=FILE.")
    return {role: paths for role, paths in files.items() if paths}


def _inside(path: Path) -> list[Path]:
    """The files meant by a path: itself, or those in a folder."""
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    if (path / "dataset_dict.json").is_file():
        return sorted(part for part in path.iterdir() if part.is_dir())
    found = [one for one in sorted(path.iterdir()) if one.is_file() and (is_table(one) or one.suffix.lower() in (*CONLL, ".txt"))]
    if not found and (path / "data").is_dir():  # as repositories of data sets have it
        return _inside(path / "data")
    if not found:
        raise DataError(f"{path} holds no file that could be read (csv, tsv, json, jsonl, parquet, CoNLL columns, text).")
    return found


def _encoding(path: Path) -> str:
    if path.is_dir() or inner_suffix(path) in (".parquet", ".pq"):
        return "utf-8"
    with path.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
    try:
        read_text(path)
    except DataError as error:
        if "is not valid utf-8" not in str(error):
            raise
        return "cp1252"
    return "utf-8"


def _delimiter(path: Path, encoding: str) -> str | None:
    """What stands between the columns, where it is not what the file's suffix says."""
    suffix = inner_suffix(path)
    if path.is_dir() or suffix not in (".csv", ".tsv", ".tab"):
        return None
    header = read_lines(path, encoding)[0]
    usual = "," if suffix == ".csv" else "\t"
    if usual in header or header.startswith("sep="):
        return None
    counts = {mark: header.count(mark) for mark in ",;\t|" if mark in header}
    return max(counts, key=lambda mark: counts[mark]) if counts else None


def _form(path: Path, encoding: str) -> str:
    if is_table(path):
        return "table"
    lines = read_lines(path, encoding)[:_SAMPLE]
    if path.suffix.lower() in CONLL:
        return "conll"
    widths = Counter(len(line.split()) for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-")))
    if len(widths) == 1 and 2 <= next(iter(widths)) <= 12 and not all(line.strip() for line in lines[:-1]):
        return "conll"
    commas = {line.count(",") for line in lines[:50]}
    return "table" if len(commas) == 1 and commas != {0} else "lines"


def _require_header(path: Path, table: Table) -> None:
    """Refuse a table whose first line is a row."""
    if inner_suffix(path) not in (".csv", ".tsv", ".tab", ".txt"):
        return
    numbers = [name for name in table.columns if _number(name) is not None]
    counted = [str(i) for i in range(len(table.columns))]  # as data frames write columns without a name
    if (numbers and list(table.columns) != counted) or any(len(name.split()) > 8 for name in table.columns):
        raise DataError(
            f"{path}, line 1: this looks like a row ({few([shown(name) for name in table.columns], 6)}), and should be the names "
            "of the columns. Put a line with names above it."
        )
