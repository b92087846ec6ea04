"""The built-in help desk: one small data set that holds an example of every kind of task.

Rows are parted 70/10/20 into train, select and test by a hash of their id, so that a row that is added moves no other.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError
from understudy.data.read import Table, read_json
from understudy.data.types import Example, Splits, Task
from understudy.kinds import kind
from understudy.kinds.cells import class_number, score
from understudy.kinds.tokens import bio_labels

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def load_demo(name: str) -> Splits:
    """`demo/intent`, `demo/entities`, `demo/urgency` or `demo/paraphrase`."""
    file = "paraphrases.jsonl" if name == "demo/paraphrase" else "helpdesk.jsonl"
    with importlib.resources.as_file(importlib.resources.files("understudy") / "demo" / file) as path:
        return demo_splits(name, path)


def demo_splits(name: str, path: Path) -> Splits:
    """The same from any file with these columns."""
    table = read_json(path)
    if name == "demo/paraphrase":
        task = Task(name, kind("classification"), ("different", "same"), ("accuracy", "f1"), "accuracy", pair=True)
    elif name == "demo/intent":
        labels = tuple(sorted(set(table.column("intent"))))
        task = Task(name, kind("classification"), labels, ("accuracy", "macro_f1"), "accuracy")
    elif name == "demo/urgency":
        task = Task(name, kind("regression"), (), ("pearson", "spearman", "mae"), "pearson")
    else:
        types = sorted({span["label"] for spans in table.column("entities") for span in spans})
        task = Task(name, kind("tokens"), bio_labels(types), ("f1", "precision", "recall"), "f1")
    parts: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    for i, row in enumerate(table.rows):
        example = _example(task, dict(zip(table.columns, row, strict=True)), table, i)
        parts[part_of(example.id)].append(example)
    return Splits(task, parts["train"], parts["dev"], {"test": parts["test"]})


def part_of(id_: str) -> str:
    """train (70 %), dev (10 %) or test (20 %), by the id alone."""
    place = int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "little") % 100
    return "train" if place < 70 else "dev" if place < 80 else "test"


def words_and_tags(text: str, spans: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words (runs of letters and digits, single marks) and BIO tags of character spans.

    >>> words_and_tags("Room 4B, please", [{"start": 5, "end": 7, "label": "ROOM"}])
    (('Room', '4B', ',', 'please'), ('O', 'B-ROOM', 'O', 'O'))
    """
    words: list[str] = []
    tags: list[str] = []
    open_span: dict[str, Any] | None = None
    for match in _WORD.finditer(text):
        span = next((s for s in spans if s["start"] < match.end() and match.start() < s["end"]), None)
        words.append(match.group())
        tags.append("O" if span is None else ("I-" if span is open_span else "B-") + span["label"])
        open_span = span
    return tuple(words), tuple(tags)


def _example(task: Task, row: dict[str, Any], table: Table, i: int) -> Example:
    if task.pair:
        numbers = {name: n for n, name in enumerate(task.labels)}
        label = class_number(row["label"], numbers, where=table.place(i, "label"))
        return Example(str(row["id"]), text=row["text_a"], pair=row["text_b"], label=label)
    if task.labels and not task.kind.by_word:
        return Example(str(row["id"]), text=row["text"], label=task.labels.index(row["intent"]))
    if not task.labels:
        return Example(str(row["id"]), text=row["text"], label=score(row["urgency"], where=table.place(i, "urgency")))
    for span in row["entities"]:
        if not 0 <= span["start"] < span["end"] <= len(row["text"]):
            bounds = f"{span['start']}–{span['end']}"
            raise DataError(f"{table.place(i, 'entities')}: the span {bounds} is not inside the text; correct it.")
    words, tags = words_and_tags(row["text"], row["entities"])
    return Example(str(row["id"]), words=words, label=tuple(task.labels.index(tag) for tag in tags))
