"""task.json of a student: the task it was trained for and how its inputs were read, so that whoever answers with it reads as it
was scored. What stock files have a place for stands there too: the longest input is the tokenizer's `model_max_length`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import DataError
from understudy.models.anatomy import anatomy
from understudy.models.model import Handover, Model
from understudy.models.source import read_json

FILE = "task.json"
# Of the recipe's section: where the rows lay and which of them were taken says nothing about reading others.
_NOT_READING = ("path", "labels", "max_length", "max_train_examples", "selection", "split_seed", "select", "class_weights")


def write_handover(handover: Handover, folder: Path) -> None:
    """Write task.json."""
    content = {"version": 1, "max_length": handover.max_length, "pair": handover.pair, "task": dict(handover.task)}
    disk.write_json(folder / FILE, content)


def read_handover(folder: Path) -> Handover | None:
    """What a model folder says about its inputs; None where it was not written by this package."""
    if not (folder / FILE).is_file():
        return None
    found = read_json(folder / FILE)
    length, pair, task = (found.get(key) for key in ("max_length", "pair", "task"))
    if found.get("version") != 1 or type(length) is not int or length < 1 or type(pair) is not bool or not isinstance(task, dict):
        raise DataError(f"{folder / FILE} is not what a student's folder has there; restore it, or delete it to go without.")
    return Handover(length, pair, task)


def handed_on(task: Mapping[str, Any], *, max_length: int, pair: bool) -> Handover:
    """The handover for a recipe's `task` section (as plain data, defaults left out)."""
    kept = {key: value for key, value in task.items() if key not in _NOT_READING}
    if "files" in kept:  # its suffix says what a file without columns of names holds
        train = kept["files"]["train"]
        kept["files"] = {"train": Path(train if isinstance(train, str) else train[0]).name}
    return Handover(max_length, pair, kept)


def longest_input(model: Model) -> int:
    """How many tokens a model reads: what it was scored with, else what its tokenizer says, and never more than it can."""
    most = anatomy(model.net).max_tokens(model.net)
    return min(most, model.handover.max_length if model.handover else model.tokenizer.model_max_length)
