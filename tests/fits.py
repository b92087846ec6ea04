"""Small fits for the tests of the loop: the toy task, encoded, with a model and whatever the test changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import toys

from understudy.data.encode import Encoded, encode
from understudy.data.masking import mask_inputs
from understudy.data.types import Example, Task
from understudy.models.model import Model
from understudy.models.needs import Signals
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.settings import TrainSettings
from understudy.train.guard import StopSignals
from understudy.train.loop import Fit, FitResult, fit

MOODS = ("glad", "sad")
HEADS = {"tokens": "BertForTokenClassification", "text": "BertForMaskedLM"}


def task(kind: str = "classification") -> Task:
    labels = {"regression": (), "text": (), "tokens": ("O", "B-mood")}.get(kind, MOODS)
    return Task("toy", kind, labels=labels)


def examples(rows: int = 64, *, kind: str = "classification", seed: int = 0) -> list[Example]:
    found = []
    for i, (text, mood) in enumerate(toys.sentences(rows, seed=seed)):
        label: Any = MOODS.index(mood)
        words = tuple(text.split())
        if kind == "tokens":
            label = tuple(int(word in toys.GLAD + toys.SAD) for word in words)
        elif kind == "multilabel":
            label = (1 - label, label)
        elif kind == "regression":
            label = float(2 * label - 1)
        found.append(Example(f"row-{i}", text=text, words=words if kind == "tokens" else None, label=label))
    return found


def encoded(rows: int = 64, *, kind: str = "classification", seed: int = 0, variant: int = 0) -> Encoded:
    whole = encode(examples(rows, kind=kind, seed=seed), toys.tokenizer(), task(kind), max_length=32)
    if kind != "text":
        return whole
    return mask_inputs(whole, toys.tokenizer(), seed=0, variant=variant, probability=0.3)


def model(kind: str = "classification", *, dropout: float | None = None, seed: int = 0) -> Model:
    labels = len(task(kind).labels) or 1
    net = toys.bert(labels=labels, seed=seed, head=HEADS.get(kind, "BertForSequenceClassification"))
    if dropout is not None:
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
    return Model(net, toys.tokenizer(), task(kind).labels, kind, "toy", None)


def settings(**changes: Any) -> TrainSettings:
    base = {"epochs": 1, "batch_size": 16, "lr": 5e-3, "precision": "fp32", "warmup": 0.1}
    return TrainSettings(**{**base, **changes})


def make(folder: Path, kind: str = "classification", **changes: Any) -> Fit:
    """A fit of labels alone; `train` are settings, everything else replaces a field of Fit."""
    train = settings(**changes.pop("train", {}))
    base = Fit(
        folder=folder, name="student", model=model(kind), data=[encoded(kind=kind)],
        objective=Objective(hard=hard_labels(kind)), settings=train, seed=0,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def run(task: Fit, **options: Any) -> FitResult:
    return fit(task, StopSignals(), **options)


def weights(task: Fit) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.model.net.state_dict().items()}


class Scripted:
    """A selection score that says what it is told, and remembers the weights it was asked about."""

    def __init__(self, net: torch.nn.Module, values: Sequence[float], name: str = "score") -> None:
        self.net, self.values, self.name = net, list(values), name
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self) -> dict[str, float]:
        assert not self.net.training
        self.seen.append({name: tensor.clone() for name, tensor in self.net.state_dict().items()})
        torch.rand(7)  # a score may use randomness; the training must not notice
        return {self.name: self.values[len(self.seen) - 1]}


class Recorder:
    """A teacher that remembers which rows it was asked about, call by call."""

    def __init__(self, data: Encoded, *, value: float = 0.5) -> None:
        self.data, self.value = data, value
        self.calls: list[list[int]] = []

    def signals(self, indices: Any) -> Signals:
        self.calls.append([int(i) for i in indices])
        sizes = [int(size) for size in np.asarray(self.data.lengths)[indices]]
        return Signals(sizes, logits=torch.full((len(sizes), 2), self.value), feature=torch.full((len(sizes), 32), self.value))
