"""Questions about texts, whose answers are parts of them: SQuAD 1.1 and 2.0, and tables with `context`, `question`, `answers`.

A text longer than the model reads is cut into windows that overlap; the question stands before each and is never cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.base.errors import DataError
from understudy.base.suggest import few, shown
from understudy.data.read import find_files, inner_suffix, read_table, read_text
from understudy.data.types import Example, Splits, Task
from understudy.kinds import Kind, kind
from understudy.kinds.cells import is_blank, label_name, text_cell

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

STRIDE = 128
"""Tokens that two windows share, where there is room for so many."""
BEGINS, ENDS = 1, 2
_IGNORE = -100


def load(settings: TaskSettings) -> Splits:
    """The files of `settings.files`. Questions about one article are never on both sides of a split."""
    assert settings.files is not None and settings.kind is not None
    notes: list[str] = []
    train = _read(settings, settings.files.train, "train", notes)
    dev = _read(settings, settings.files.dev, "dev", notes) if settings.files.dev else []
    task, tests, said = load_tests(settings, ()) if settings.files.test else (_task(kind(settings.kind)), {}, [])
    return Splits(task, train, dev, tests, notes=[*notes, *said])


def load_tests(settings: TaskSettings, labels: Sequence[str]) -> tuple[Task, dict[str, list[Example]], list[str]]:
    """The test files alone."""
    assert settings.files is not None
    notes: list[str] = []
    test = settings.files.test if isinstance(settings.files.test, dict) else {"test": settings.files.test}
    return _task(kind(settings.kind or "")), {name: _read(settings, one, name, notes) for name, one in test.items()}, notes


def read_rows(
    settings: TaskSettings, task: Task, file: Any, *, columns: Sequence[Any] = ()
) -> tuple[list[Example], list[str]]:
    """Questions to be answered."""
    notes: list[str] = []
    return _read(settings, file, "", notes), notes


def _task(asked: Kind) -> Task:
    metrics = asked.default_metrics(())
    return Task("custom", asked, (), metrics, metrics[0], pair=True)


def _read(settings: TaskSettings, names: Any, split: str, notes: list[str]) -> list[Example]:
    found: list[Example] = []
    seen: set[str] = set()
    blank = 0
    key = f"task.files.{split}" if split else "command line"
    for path in find_files(names, base=settings.path if split else None, key=key):
        for row in _questions(path, settings):
            if row.id in seen:
                raise DataError(f"{path}: the id '{row.id}' is there twice. Ids name one question each; correct one.")
            seen.add(row.id)
            if not (row.pair or "").strip():
                blank += 1
                continue
            found.append(row)
    if blank:
        notes.append(f"{split or names}: {blank} questions about a blank text are left out.")
    none = sum(row.label == () for row in found)
    if none:
        notes.append(f"{split or names}: {none:,} of {len(found):,} questions have no answer in their text.")
    return found


def _questions(path: Path, settings: TaskSettings) -> Iterator[Example]:
    import json

    if inner_suffix(path) == ".json":
        try:
            whole = json.loads(read_text(path, settings.encoding))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not readable JSON ({type(error).__name__}).") from None
        articles = whole.get("data") if isinstance(whole, Mapping) else None
        if isinstance(articles, list) and articles and "paragraphs" in articles[0]:
            yield from _squad(path, articles)
            return
    table = read_table(path, delimiter=settings.delimiter, encoding=settings.encoding)
    if missing := [name for name in ("question", "context") if name not in table.columns]:
        raise DataError(f"{path} has no column {' and '.join(missing)}; columns there: {few(table.columns)}.")
    none: list[Any] = [None] * len(table)
    columns = {name: table.column(name) if name in table.columns else none for name in ("id", "title", "answers")}
    asked = "answers" in table.columns
    for i, (question, context) in enumerate(zip(table.column("question"), table.column("context"), strict=True)):
        name = str(i + 1) if is_blank(columns["id"][i]) else label_name(columns["id"][i])
        text = text_cell(context, where=table.place(i, "context"))
        answers = _answers(columns["answers"][i], text, f"{table.place(i, 'answers')}") if asked else None
        group = None if is_blank(columns["title"][i]) else label_name(columns["title"][i])
        yield Example(name, text_cell(question, where=table.place(i, "question")), text, label=answers, group=group)  # type: ignore[arg-type]


def _squad(path: Path, articles: Sequence[Any]) -> Iterator[Example]:
    for number, article in enumerate(articles, 1):
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else asked.get("answers", [])
                name, text = str(asked["id"]), paragraph["context"]
                label = _answers(answers, text, f"{path}, question '{name}'")
                group = str(article.get("title") or number)
                yield Example(name, asked["question"], text, label=label, group=group)  # type: ignore[arg-type]


def _answers(cell: Any, context: str, where: str) -> tuple[tuple[int, str], ...]:
    """(first character, text) of each answer, every one once; () where there is none."""
    if isinstance(cell, Mapping):  # as `datasets` has it
        cell = [{"text": a, "answer_start": b} for a, b in zip(cell.get("text", ()), cell.get("answer_start", ()), strict=True)]
    found: dict[tuple[int, str], None] = {}
    for one in cell or ():
        text, start = str(one["text"]), int(one["answer_start"])
        if context[start : start + len(text)] != text:
            raise DataError(
                f"{where}: the answer {shown(repr(text))} does not stand at character {start} of its text. Positions count "
                "characters, not bytes or tokens; correct answer_start."
            )
        if text.strip():
            found[start, text] = None
    return tuple(found)


def encode_spans(examples: Sequence[Example], tokenizer: Any, *, max_length: int) -> dict[str, Any]:
    """Windows of all examples, as fields of `Encoded`.

    A window's candidates are the tokens of its text, and its first token, which means that it has no answer. `labels` are flags
    at candidates, -100 elsewhere: 1 where the answer begins, 2 where it ends. A window that does not hold the whole answer
    begins and ends at its first token, unless every question of the set has an answer: then it teaches nothing.

    Raises:
        DataError: a question leaves no room for its text.
    """
    none_known = any(row.label == () for row in examples)
    ids: list[int] = []
    types: list[int] = []
    labels: list[int] = []
    chars: list[tuple[int, int]] = []
    sizes, source, names, cut = [], [], [], []
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for number, row in enumerate(examples):
        asked = len(tokenizer(row.text, add_special_tokens=False, verbose=False)["input_ids"])
        room = max_length - special - asked
        if room < 8:
            raise DataError(
                f"row '{row.id}': its question has {asked} tokens, which leaves no room for the text within {max_length} "
                "(task.max_length). Give a larger one, or a shorter question."
            )
        made = tokenizer(
            row.text, row.pair, truncation="only_second", max_length=max_length, stride=min(STRIDE, room // 2),
            return_overflowing_tokens=True, return_offsets_mapping=True, verbose=False,
        )  # fmt: skip
        windows = made.encodings
        for window in windows:
            inside = [at for at, part in enumerate(window.sequence_ids) if part == 1]
            flags = np.full(len(window.ids), _IGNORE)
            flags[[0, *inside]] = 0
            begin, end = _place(row, window.offsets, inside)
            if begin is not None and end is not None:
                flags[begin] |= BEGINS
                flags[end] |= ENDS
            elif row.label is not None and none_known:
                flags[0] = BEGINS | ENDS
            ids += window.ids
            types += window.type_ids
            labels += flags.tolist()
            chars += [window.offsets[at] if flag != _IGNORE and at else (0, 0) for at, flag in enumerate(flags)]
            sizes.append(len(window.ids))
            source.append(number)
            names.append(row.id)
            cut.append(len(windows) > 1)
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    uses_types = "token_type_ids" in tokenizer.model_input_names
    return {
        "ids": names,
        "input_ids": np.array(ids, dtype=np.int32),
        "offsets": offsets,
        "token_type_ids": np.array(types, dtype=np.int8) if uses_types else None,
        "labels": np.array(labels, dtype=np.int64),
        "per_token": True,
        "cut": np.array(cut, dtype=bool),
        "source": np.array(source, dtype=np.int64),
        "chars": np.array(chars, dtype=np.int32).reshape(-1, 2),
    }


def _place(row: Example, offsets: Sequence[tuple[int, int]], inside: Sequence[int]) -> tuple[int | None, int | None]:
    """The tokens in which a row's first answer begins and ends; None where it does in no token of this window."""
    if not row.label:
        return None, None
    start, text = row.label[0]  # type: ignore[misc]
    last = start + len(text) - 1
    begin = next((at for at in inside if offsets[at][0] <= start < offsets[at][1]), None)
    end = next((at for at in inside if offsets[at][0] <= last < offsets[at][1]), None)
    return begin, end


def by_question(rows: Sequence[np.ndarray], encoded: Any, number: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """For each question its windows: logits (m, 2) and characters (m, 2) of the candidates."""
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(number)]
    for i, logits in enumerate(rows):
        part = slice(encoded.offsets[i], encoded.offsets[i + 1])
        found[int(encoded.source[i])].append((logits, encoded.chars[part][encoded.labels[part] != _IGNORE]))
    return found
