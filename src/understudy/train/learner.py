"""Student and objective as one module, and what a step needs to know of its rows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.base.errors import DivergedError
from understudy.cache import Teacher, autocast
from understudy.data.batches import evaluation_batches, training_batches
from understudy.data.encode import IGNORE, Encoded, collate, has_label
from understudy.models.model import Model
from understudy.models.needs import Signals
from understudy.models.signals import forward
from understudy.objective import Counts, Objective
from understudy.recipe.settings import TrainSettings
from understudy.train.devices import accelerator, resolve_precision


class Learner(nn.Module):
    """Student and objective as one module, so that data parallelism sees every parameter that gets a gradient."""

    def __init__(self, net: nn.Module, objective: Objective, kind: str) -> None:
        super().__init__()
        self.net, self.objective, self.kind = net, objective, kind
        self.diverged: str | None = None
        """The objective's message when it met NaN or infinity."""

    def forward(
        self, batch: Any, teacher: Signals | None, progress_made: float, counts: Counts, idle: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of one part. `idle`: the rows were only borrowed, so that this process, which has none of
        its own in this step, takes part in what the processes do together; they do not count."""
        student = forward(self.net, batch, self.objective.needs_student, kind=self.kind)
        labels = batch.labels
        if idle:
            student, teacher, labels = _no_rows(student), teacher and _no_rows(teacher), None if labels is None else labels[:0]
        try:
            return self.objective.compute(student, teacher, labels, progress=progress_made, counts=counts)
        except DivergedError as error:
            # Processes must stay in step, so the sentence waits until all of them know.
            self.diverged = str(error)
            some = student.logits if student.logits is not None else next(p for p in self.net.parameters() if p.requires_grad)
            return some.sum() * math.nan, {}


def _no_rows(signals: Signals) -> Signals:
    """The same signals for zero rows, still part of the graph."""
    return dataclasses.replace(signals.map(lambda tensor: tensor[:0]), sizes=[])


def set_dropout(net: nn.Module, probability: float) -> None:
    """Let every dropout of a model have this probability, those of attention weights included."""
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", probability)  # noqa: B010  (not a submodule, as torch's types would have it)


def count_step(data: Encoded, rows: np.ndarray) -> Counts:
    """Numbers of examples, tokens and labelled positions of a whole step, over all micro-batches and ranks."""
    lengths = np.asarray(data.lengths)[rows]
    labels = len(rows)
    if data.per_token and data.labels is not None:
        labels = int(sum((data.labels[data.offsets[i] : data.offsets[i + 1]] != IGNORE).sum() for i in rows))
    elif data.labels is not None:
        labels = int(has_label(data.labels[rows]).sum())
    return Counts(examples=len(rows), tokens=int(lengths.sum()), labels=labels)


def _held_out_batches(
    model: Model, data: Encoded, objective: Objective, teacher: Teacher | None, settings: TrainSettings
) -> float:
    """An objective of nothing but terms that compare the rows of a batch: its mean over batches as in training, in the order
    of the rows."""
    device, acc = next(model.net.parameters()).device, accelerator()
    total, number = 0.0, 0
    for examples in training_batches(data.tokens, batch_size=settings.batch_size, seed=0, epoch=0, shuffle=False):
        rows = data.rows_of(examples)
        mine = rows[acc.process_index :: acc.num_processes]
        idle = len(mine) == 0
        mine = rows[:1] if idle else mine
        batch = collate(data, mine).to(device)
        seen = None if teacher is None else teacher.signals(mine).map(lambda tensor: tensor.to(device))
        with autocast(device, resolve_precision(settings.precision, device)):
            student, labels = forward(model.net, batch, objective.needs_student, kind=model.kind), batch.labels
            if idle:
                student, seen, labels = _no_rows(student), seen and _no_rows(seen), None if labels is None else labels[:0]
            part = objective.compute(student, seen, labels, progress=1.0, counts=count_step(data, rows))[0]
        whole: Any = acc.reduce(part, reduction="sum")
        total, number = total + float(whole) * len(examples), number + len(examples)
    return total / max(1, number)


@torch.inference_mode()
def held_out_loss(
    model: Model, data: Encoded, objective: Objective, teacher: Teacher | None, settings: TrainSettings
) -> float:
    """The objective on rows that are not trained on, with the weights of the end of training. Terms that compare the
    rows of a batch are left out: a held-out set has no batches."""
    if not any(term.separable for term in objective.terms.values()):
        return _held_out_batches(model, data, objective, teacher, settings)
    objective = objective.separable_part()
    device = next(model.net.parameters()).device
    counts = count_step(data, np.arange(len(data)))
    total = 0.0
    for rows in evaluation_batches(data.lengths, max_tokens=settings.max_tokens):
        batch = collate(data, rows).to(device)
        seen = None if teacher is None else teacher.signals(rows).map(lambda tensor: tensor.to(device))
        with autocast(device, resolve_precision(settings.precision, device)):
            student = forward(model.net, batch, objective.needs_student, kind=model.kind)
            total += float(objective.compute(student, seen, batch.labels, progress=1.0, counts=counts)[0])
    return total
