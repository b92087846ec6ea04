"""What an example, a task and its data are. No reading, no tokenizer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Literal

from understudy.base.errors import DataError
from understudy.kinds import Kind, Label, kind

IGNORE = -100
"""The label of a token that has none; torch's losses leave it out by default."""

FIRST_FIELDS = 7


@dataclass(frozen=True, slots=True)
class Example:
    """One row.

    `group` names the source of translations or copies: a split never separates a group. `more` are further texts, such as
    the passages of a query; `role` is what the text is: a query (the others are documents then), a document, or neither.
    """

    id: str
    text: str | None = None
    pair: str | None = None
    words: tuple[str, ...] | None = None
    label: Label = None
    group: str | None = None
    language: str | None = None
    more: tuple[str, ...] = ()
    role: str | None = None
    said: tuple[float, ...] | None = None
    """A teacher's outputs for this row, where the files hold its answers: (C,) logits, or (1,) a number."""


@dataclass(frozen=True)
class Windows:
    """Long texts are read in windows of the longest input each, which begin `stride` tokens apart, `most` of them at most; the
    outputs of a text are those of its windows pooled (`models.signals.pooled`)."""

    stride: int
    pool: Literal["mean", "max", "attention"] = "mean"
    most: int = 32


@dataclass(frozen=True)
class Task:
    """What is asked of a model. `labels` in the order of the label numbers; for tokens the BIO tags, "O" first. The kind
    may be given by its name."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    select: str = ""
    pair: bool = False
    weights: tuple[float, ...] = ()
    """How much a row of each class counts where labels are learnt from; () = all alike."""
    windows: Windows | None = None
    """How texts are read that are longer than the longest input; None: they are cut."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", kind(self.kind))


@dataclass
class Splits:
    """What a source found, before it is decided what is selected on.

    `dev` and `tests` are labelled. With `report_dev` the dev part is what results are reported on (the test labels are
    hidden, as in GLUE), so that selection has to come from train.
    """

    task: Task
    train: list[Example]
    dev: list[Example] = field(default_factory=list)
    tests: dict[str, list[Example]] = field(default_factory=dict)
    report_dev: bool = False
    held_out: str = "test"
    """What the test set is called that is held out of train where there is no other."""
    notes: list[str] = field(default_factory=list)


@dataclass
class TaskData:
    """Train on `train`, choose on `select`, report on `tests`; `notes` say in sentences what was decided or dropped."""

    task: Task
    train: list[Example]
    select: list[Example]
    tests: dict[str, list[Example]]
    notes: list[str] = field(default_factory=list)
    held_out: bool = False
    """Whether the test rows are a part of the training file, which the seed decides."""

    def labelled(self) -> TaskData:
        """Without the training rows that have no label; itself where all have one.

        Raises:
            DataError: none has.
        """
        if not self.task.kind.labelled or all(row.label is not None for row in self.train):
            return self
        if not (known := [row for row in self.train if row.label is not None]):
            raise DataError(
                f"{self.task.name}: no training row has a label to learn from. Give some, or leave it to a teacher that was "
                "trained for the task (no teacher.finetune, no weight on the labels)."
            )
        return replace(self, train=known)

    def digest(self) -> str:
        """32 hex digits that change when the task or any example, or their order, changes."""
        task = {**asdict(self.task), "kind": str(self.task.kind)}
        for name in ("weights", "windows"):  # came later: they count where they are there
            if not task[name]:
                del task[name]
        seen = hashlib.blake2b(json.dumps(task).encode(), digest_size=16)
        for name, part in (("train", self.train), ("select", self.select), *self.tests.items()):
            seen.update(f"\x1e{name}\x1f{len(part)}".encode())
            for example in part:
                parts = astuple(example)
                while len(parts) > FIRST_FIELDS and not parts[-1]:  # what came later counts where it is there
                    parts = parts[:-1]
                seen.update(json.dumps(parts).encode())
        return seen.hexdigest()
