"""What the rows and the length limit already tell about a result: said by `check`, by `train` and in the report.

Texts that are cut, rows that are both learnt from and reported on, classes that training never shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from understudy.base.seeds import permutation
from understudy.base.suggest import few
from understudy.data.encode import read_of, tokenized
from understudy.data.types import Example, Task, TaskData

_SAMPLE = 2000  # rows whose lengths are counted: a share to within about one percent, in a second or two


def facts_of(data: TaskData, tokenizer: Any = None, max_length: int | None = None, most: int | None = None) -> dict[str, Any]:
    """Facts for result.json.

    Args:
        tokenizer: of the model that reads; None where it is not at hand, and nothing is said about lengths.
        max_length: what it reads, in tokens; `most`: what it could.

    Returns:
        cut: {"share" of the rows, "words" lost (tokens; a share), "max_length", "holds_99": tokens that would hold 99 % of the
        rows, "most"}, or None where no row is cut; overlap: test set -> {"rows", "in_train", "texts" (how many different ones
        these are), "other_label"} where there is any;
        in_train_and_test, other_label: their sums; unseen: test set -> {label: rows} of classes that train has not; unlabelled:
        training rows without a label.
    """
    if data.task.kind.apart is not None:  # what is read is each text, or each pair of a list
        parts = {name: read_of(data.task, part) for name, part in (("train", data.train), ("select", data.select))}
        data = replace(data, **parts, tests={name: read_of(data.task, rows) for name, rows in data.tests.items()})
    learnt = [*data.train, *data.select]
    overlap = {name: found for name, rows in data.tests.items() if (found := _overlap(learnt, rows))["in_train"]}
    unseen = {name: found for name, rows in data.tests.items() if (found := _unseen(data.task, data.train, rows))}
    whole = data.task.kind.causal or data.task.kind.spans  # documents, and texts of questions, are read in windows
    cut = None if tokenizer is None or max_length is None or whole else _cut(data, tokenizer, max_length, most)
    return {
        "cut": cut,
        "overlap": overlap,
        "in_train_and_test": sum(one["in_train"] for one in overlap.values()),
        "other_label": sum(one["other_label"] for one in overlap.values()),
        "unseen": unseen,
        "unlabelled": sum(row.label is None for row in data.train) if data.task.kind.labelled else 0,
    }


def sentences(facts: dict[str, Any]) -> list[str]:
    """The same in words."""
    said = []
    if cut := facts["cut"]:
        lost = f", and {_percent(cut['words'])} of the words with them" if cut["words"] else ""
        wide = cut["most"] is not None and cut["holds_99"] > cut["most"]
        limit = f", more than the model's {cut['most']}" if wide else ""
        enough = f"; {cut['holds_99']} would hold 99 % of them{limit}" if cut["holds_99"] > cut["max_length"] else ""
        said.append(
            f"{_percent(cut['share'])} of the texts are longer than {cut['max_length']} tokens (task.max_length) and are cut"
            f"{lost}{enough}."
        )
    for name, one in facts["overlap"].items():
        other = f", {one['other_label']} of them with another label there" if one["other_label"] else ""
        texts = f" ({one['texts']} different texts)" if one["texts"] < one["in_train"] else ""
        said.append(
            f"{one['in_train']} of {one['rows']} rows of {name}{texts} stand in train (or the selection rows) word for "
            f"word{other}: the scores are partly those of rows that were learnt from."
        )
    for name, labels in facts["unseen"].items():
        listed = few([f"'{label}' ({rows} rows)" for label, rows in labels.items()])
        said.append(f"{name} has labels that no training row has: {listed}.")
    return said


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _key(row: Example) -> Any:
    return row.words if row.words is not None else (row.text, row.pair, row.more)


def _overlap(train: Sequence[Example], rows: Sequence[Example]) -> dict[str, int]:
    seen: dict[Any, set[Any]] = {}
    for row in train:
        seen.setdefault(_key(row), set()).add(row.label)
    both = [row for row in rows if _key(row) in seen]
    other = sum(row.label not in seen[_key(row)] for row in both)
    return {"rows": len(rows), "in_train": len(both), "texts": len({_key(row) for row in both}), "other_label": other}


def new_rows(data: TaskData) -> dict[str, list[int]]:
    """Test set -> the numbers of its rows that stand neither in train nor among the selection rows; only test sets where some
    do and some do not."""
    if data.task.kind.apart is not None:  # a judged row is more than one text
        return {}
    seen = {_key(row) for row in [*data.train, *data.select]}
    found = {test: [i for i, row in enumerate(rows) if _key(row) not in seen] for test, rows in data.tests.items()}
    return {test: new for test, new in found.items() if 0 < len(new) < len(data.tests[test])}


def _classes(task: Task, rows: Sequence[Example]) -> Counter[int]:
    """How many rows have each class (or tag, or label among several)."""
    labels = (task.kind.classes(row.label) for row in rows if task.labels and row.label is not None)
    return Counter(i for found in labels for i in found)


def _unseen(task: Task, train: Sequence[Example], rows: Sequence[Example]) -> dict[str, int]:
    known = _classes(task, train)
    return {task.labels[i]: count for i, count in sorted(_classes(task, rows).items()) if known and i not in known}


def lengths_of(data: TaskData, tokenizer: Any, *, most: int = _SAMPLE) -> list[int]:
    """Tokens of a sample of the rows, special tokens included and nothing cut."""
    return [len(encoding.ids) for encoding in _encodings(data, tokenizer, most)]


def _encodings(data: TaskData, tokenizer: Any, most: int = _SAMPLE) -> Any:
    rows = [*data.train, *(row for part in data.tests.values() for row in part)]
    if len(rows) > most:
        rows = [rows[i] for i in sorted(permutation(len(rows), 0, "lengths")[:most])]
    return tokenized(rows, tokenizer, data.task).encodings


def _cut(data: TaskData, tokenizer: Any, max_length: int, most: int | None) -> dict[str, Any] | None:
    if asked := data.task.windows:
        max_length, most = max_length + (asked.most - 1) * asked.stride, None
    special = tokenizer.num_special_tokens_to_add(pair=data.task.pair)
    lengths: list[int] = []
    words = lost = 0
    for encoding in _encodings(data, tokenizer):
        lengths.append(len(encoding.ids))
        if data.task.kind.by_word:
            inside = [word for word in encoding.word_ids if word is not None]
            words += len(set(inside))
            lost += len(set(inside)) - len(set(inside[: max_length - special]))
    share = float(np.mean(np.array(lengths) > max_length))
    if not share:
        return None
    return {
        "share": share,
        "words": lost / max(1, words),
        "max_length": max_length,
        "holds_99": int(np.quantile(lengths, 0.99, method="inverted_cdf")),
        "most": most,
    }
