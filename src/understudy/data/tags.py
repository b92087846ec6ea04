"""CoNLL columns become sentences, and any of the usual tag schemes becomes BIO."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean
from understudy.data.read import read_lines
from understudy.kinds.tokens import OUTSIDE

# What each scheme calls the parts of an entity: begin, inside, end, single (IOBES), last, unit (BILOU).
_BEGINS = {"B": True, "I": False, "E": False, "S": True, "L": False, "U": True}


@dataclass(frozen=True)
class Sentence:
    """Words and their tags as written (none in a file without tags); `line` is where it starts in the file."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


def read_conll(
    path: Path, *, words: int = 0, tags: int = -1, delimiter: str | None = None, encoding: str = "utf-8"
) -> tuple[list[Sentence], int]:
    """The sentences of a file with one word a line and a blank line between sentences.

    `words` and `tags` are column numbers from 0, or from the end where negative; where both mean the same column (the
    file has only words) there are no tags. `delimiter` None means runs of spaces or tabs. Every line must have as many
    columns as the first. Returns the sentences and the number of `-DOCSTART-` lines, which are not sentences.
    """
    sentences: list[Sentence] = []
    found: list[list[str]] = []
    documents = width = start = 0
    for number, line in enumerate([*read_lines(path, encoding), ""], 1):
        if not line.strip():
            if found:
                tagged = tags % width != words % width
                labels = tuple(cells[tags].strip() for cells in found) if tagged else ()
                sentences.append(Sentence(tuple(cells[words] for cells in found), labels, start))
                found = []
            continue
        cells = line.split(delimiter) if delimiter else re.split(r"[ \t]+", line.strip(" \t\r"))
        if cells[0] == "-DOCSTART-":
            documents += 1
            continue
        if path.suffix == ".conllu" and line.startswith("# ") and len(cells) != width:
            continue  # a comment of CoNLL-U
        if not width:
            width = len(cells)
            _check_columns(path, number, width, words, tags)
        if len(cells) != width:
            raise DataError(
                f"{path}, line {number}: {len(cells)} columns where the lines before have {width}. "
                "Each word needs one line with all its columns; a blank line ends a sentence."
            )
        start = start if found else number
        found.append(cells)
    if not sentences:
        raise DataError(f"{path} holds no sentences. Give one word a line and a blank line between sentences.")
    return sentences, documents


def to_bio(tags: Sequence[str]) -> tuple[list[str], int]:
    """Tags of any scheme as BIO, and how many had to be changed.

    IOB1 starts an entity with I- unless the word before belongs to another entity of the same type, so an I- that
    continues nothing becomes B-; this also mends BIO files with a stray I- at a start. IOBES and BILOU become BIO.

    >>> to_bio(["I-PER", "I-PER", "B-PER", "O", "U-LOC"])
    (['B-PER', 'I-PER', 'B-PER', 'O', 'B-LOC'], 2)
    """
    result: list[str] = []
    before = None  # the entity type of the word before
    for tag in tags:
        if tag == OUTSIDE:
            result.append(tag)
            before = None
            continue
        prefix, dash, kind = tag.partition("-")
        if not dash or not kind or prefix not in _BEGINS:
            raise ValueError(tag)
        begins = _BEGINS[prefix] or kind != before
        result.append(("B-" if begins else "I-") + kind)
        before = kind
    return result, sum(new != old for new, old in zip(result, tags, strict=True))


def entity_types(sentences: Iterable[Sequence[str]]) -> list[str]:
    """The entity types in BIO tags, sorted."""
    return sorted({tag[2:] for tags in sentences for tag in tags if tag != OUTSIDE})


def checked_bio(sentence: Sentence, *, source: str) -> tuple[list[str], int]:
    """`to_bio` with an error that names the line."""
    try:
        return to_bio(sentence.tags)
    except ValueError as error:
        bad = str(error)
        line = sentence.line + sentence.tags.index(bad)
        raise DataError(
            f"{source}, line {line}: the tag '{bad}' has no scheme. Tags are O, or B-TYPE and I-TYPE (IOB1, BIO, IOBES "
            "or BILOU); correct it, or name another column in task.columns.tags."
        ) from None


def tag_numbers(sentence: Sentence, tags: Sequence[str], numbers: dict[str, int], *, source: str) -> tuple[int, ...]:
    """The number of each BIO tag in the label set."""
    for offset, tag in enumerate(tags):
        if tag not in numbers:
            raise DataError(
                f"{source}, line {sentence.line + offset}: the tag '{tag}' is not in the label set."
                f"{did_you_mean(tag, numbers)} Labels: {', '.join(list(numbers)[:20])}. "
                "Correct it or extend task.labels."
            )
    return tuple(numbers[tag] for tag in tags)


def _check_columns(path: Path, line: int, width: int, words: int, tags: int) -> None:
    for key, column in (("words", words), ("tags", tags)):
        if not -width <= column < width:
            raise DataError(
                f"{path}, line {line}: task.columns.{key} asks for column {column}, but there are {width}. "
                "Columns count from 0, or from the end with negative numbers; other separators go in task.delimiter."
            )
