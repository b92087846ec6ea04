"""CoNLL columns become sentences; any of the usual schemes of entity tags becomes BIO, other tags stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean, few, shown
from understudy.data.read import read_lines
from understudy.kinds.tokens import BEGINS, OUTSIDE, bio_labels, has_scheme


@dataclass(frozen=True)
class Sentence:
    """Words and their tags as written (none in a file without tags); `line` is where it starts in the file, and the words
    stand on `one_line` or on one each. `group` is what the row's group column says."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int
    one_line: bool = False
    id: str | None = None
    group: str | None = None

    def place(self, source: str, word: int) -> str:
        return f"{source}, line {self.line if self.one_line else self.line + word}"


def read_conll(
    path: Path,
    *,
    words: int = 0,
    tags: int = -1,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    comments: bool = True,
) -> tuple[list[Sentence], list[str]]:
    """The sentences of a file with one word a line and a blank line between sentences, and notes on what is left out.

    `words` and `tags` are column numbers from 0, or from the end where negative; where both mean the same column (the
    file has only words) there are no tags. `delimiter` None means runs of spaces or tabs. Every line must have as many
    columns as the first. Lines that start with `# ` before the first word of a sentence are `comments`, as in CoNLL-U.
    """
    sentences: list[Sentence] = []
    found: list[list[str]] = []
    documents = said = width = start = 0
    for number, line in enumerate([*read_lines(path, encoding), ""], 1):
        if not line.strip():
            if found:
                tagged = tags % width != words % width
                labels = tuple(cells[tags].strip() for cells in found) if tagged else ()
                sentences.append(Sentence(tuple(cells[words] for cells in found), labels, start))
                found = []
            continue
        if comments and line.startswith("# ") and not found:
            said += 1
            continue
        cells = line.split(delimiter) if delimiter else re.split(r"[ \t]+", line.strip(" \t\r"))
        if cells[0] == "-DOCSTART-":
            documents += 1
            continue
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
    left = ((documents, "-DOCSTART- lines are not sentences"), (said, "lines that start with `# ` are comments"))
    return sentences, [f"{path.name}: {count} {what} and are left out." for count, what in left if count]


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
        if not has_scheme(tag):
            raise ValueError(tag)
        prefix, _, kind = tag.partition("-")
        begins = BEGINS[prefix] or kind != before
        result.append(("B-" if begins else "I-") + kind)
        before = kind
    return result, sum(new != old for new, old in zip(result, tags, strict=True))


def labels_found(sentences: Sequence[Sentence], *, source: str) -> tuple[str, ...]:
    """The label set of tagged sentences: BIO tags of the entity types, or, where no tag has a scheme, the tags themselves."""
    seen = {tag for sentence in sentences for tag in sentence.tags}
    if seen and not any(has_scheme(tag) for tag in seen) and seen != {OUTSIDE}:
        if all(tag.isdigit() for tag in seen):
            raise DataError(
                f"{sentences[0].place(source, 0)}: the tags are numbers ({few(sorted(seen, key=int))}). Say what they mean as "
                "task.labels: entity types (O is 0, B- and I- of the first 1 and 2, …), or all tags in their order."
            )
        return tuple(sorted(seen))
    tags = (checked_bio(sentence, source=source)[0] for sentence in sentences)
    return bio_labels(sorted({tag[2:] for row in tags for tag in row if tag != OUTSIDE}))


def labels_given(names: Sequence[str], sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """The label set that `task.labels` means: the tags themselves where it or the files use tags without a scheme, else BIO
    tags of the types it names."""
    seen = {tag for sentence in sentences for tag in sentence.tags if tag != OUTSIDE and not tag.isdigit()}
    plain = seen and not any(has_scheme(tag) for tag in seen)
    return tuple(names) if plain else bio_labels(names)


def named(sentence: Sentence, names: Sequence[str] | None, *, source: str) -> Sentence:
    """A sentence whose tags are numbers with the tags that these mean: tag i is the i-th of the `task.labels` (as written
    where they are tags, else of the BIO tags of the types)."""
    if not sentence.tags or not all(tag.isdigit() for tag in sentence.tags) or names is None:
        return sentence
    meant = tuple(names) if any(name == OUTSIDE or has_scheme(name) for name in names) else bio_labels(names)
    for word, tag in enumerate(sentence.tags):
        if int(tag) >= len(meant):
            raise DataError(f"{sentence.place(source, word)}: there is no tag number {tag} in {few(meant)} (task.labels).")
    tags = tuple(meant[int(tag)] for tag in sentence.tags)
    return Sentence(sentence.words, tags, sentence.line, sentence.one_line, sentence.id, sentence.group)


def checked_bio(sentence: Sentence, *, source: str) -> tuple[list[str], int]:
    """`to_bio` with an error that names the line."""
    try:
        return to_bio(sentence.tags)
    except ValueError as error:
        bad = str(error)
        where = sentence.place(source, sentence.tags.index(bad))
        raise DataError(
            f"{where}: the tag '{shown(bad)}' has no scheme. Tags are O, or B-TYPE and I-TYPE (IOB1, BIO, IOBES "
            "or BILOU); correct it, or name another column in task.columns.tags."
        ) from None


def tag_numbers(sentence: Sentence, tags: Sequence[str], numbers: dict[str, int], *, source: str) -> tuple[int, ...]:
    """The number of each tag in the label set."""
    for word, tag in enumerate(tags):
        if tag not in numbers:
            raise DataError(
                f"{sentence.place(source, word)}: the tag '{shown(tag)}' is not in the label set."
                f"{did_you_mean(tag, numbers)} Labels: {few(list(numbers), 20)}. Correct it or extend task.labels."
            )
    return tuple(numbers[tag] for tag in tags)


def _check_columns(path: Path, line: int, width: int, words: int, tags: int) -> None:
    for key, column in (("words", words), ("tags", tags)):
        if not -width <= column < width:
            raise DataError(
                f"{path}, line {line}: task.columns.{key} asks for column {column}, but there are {width}. "
                "Columns count from 0, or from the end with negative numbers; other separators go in task.delimiter."
            )
