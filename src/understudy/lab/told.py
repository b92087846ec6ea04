"""A teacher of which only the answers are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from understudy.data.types import Example, TaskData
from understudy.evaluate.predict import gold_labels, groups_of
from understudy.evaluate.predictions import Predictions
from understudy.models.needs import Signals


@dataclass(frozen=True)
class Told:
    """The answers that stand beside the rows (`Example.said`), in the place of a model's outputs.

    name: of the teacher, or of the columns, for people.
    scale: mean and deviation of a regression's labels, in whose units students train.
    """

    rows: TaskData
    scale: tuple[float, float]

    name: str

    @property
    def digest(self) -> str:
        """What names these answers in keys."""
        said = json.dumps([row.said for row in self.rows.train]).encode()
        return hashlib.blake2b(said, digest_size=16).hexdigest()

    def signals_of(self, examples: Sequence[Example]) -> Answers:
        """What was said about these rows, as the training loop asks for it."""
        outputs = torch.tensor([row.said for row in examples], dtype=torch.float32)
        if self.rows.task.kind.standardise:
            mean, deviation = self.scale
            outputs = (outputs - mean) / deviation
        return Answers(outputs)

    def predictions(self, examples: Sequence[Example]) -> Predictions | None:
        """The answers as a model's predictions on a test set; None where a row has none, or where they are the labels."""
        kind = self.rows.task.kind
        if any(row.said is None or row.label is None for row in examples):
            return None
        said = np.array([row.said for row in examples], np.float32)
        scores, _ = kind.collect([row[0] if kind.numeric else row for row in said], examples)
        return Predictions([row.id for row in examples], scores, gold_labels(kind, examples), groups_of(examples))


class Answers:
    """Outputs (N, C) by place, to the training loop like a teacher that is run or read from a store."""

    def __init__(self, outputs: torch.Tensor) -> None:
        self.outputs = outputs

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        chosen = np.asarray(indices, np.int64)
        return Signals(sizes=[1] * len(chosen), logits=self.outputs[torch.from_numpy(chosen)])
