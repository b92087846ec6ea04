"""What a model says about encoded examples: forward passes by length, without padding where the family allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from understudy.cache import autocast
from understudy.data.batches import evaluation_batches
from understudy.data.encode import Encoded, collate
from understudy.data.types import Example
from understudy.evaluate.predictions import Predictions
from understudy.models.model import Model
from understudy.models.needs import Needs, Signals
from understudy.models.signals import forward


@torch.inference_mode()
def predict(
    model: Model,
    examples: Sequence[Example],
    encoded: Encoded,
    *,
    precision: str = "fp32",
    max_tokens: int = 8192,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Predictions:
    """Predictions for all examples, in their order.

    Args:
        encoded: the same examples in the model's own tokens.
        precision: fp32 for every number that is reported; bf16 is enough to choose a checkpoint.
        scale: (mean, deviation) that turn a regression model's output into the label's units.

    Returns:
        logits (N, C) for classes and several labels, numbers (N,) for regression, one tag number per word for tokens
        (words cut off by the length limit get tag 0, "O"), summed loss and count of masked tokens (N,) for text.
    """
    net = model.net.eval()
    device = next(net.parameters()).device
    rows: list = [None] * len(encoded)
    for indices in evaluation_batches(encoded.lengths, max_tokens=max_tokens):
        batch = collate(encoded, indices).to(device)
        with autocast(device, precision):
            signals = forward(net, batch, Needs(logits=True), kind=model.kind)
        for index, row in zip(indices, _rows(model.kind, signals, batch, encoded, indices), strict=True):
            rows[index] = row
    ids = [example.id for example in examples]
    groups = groups_of(examples)
    stacked = np.stack(rows) if rows and model.kind != "tokens" else np.empty((0, 1))
    if model.kind == "text":
        return Predictions(ids, stacked[:, 0], stacked[:, 1], groups)
    gold = gold_labels(model.kind, examples)
    if model.kind == "tokens":
        return Predictions(ids, rows, gold, groups)
    if model.kind == "regression":
        mean, deviation = scale
        return Predictions(ids, stacked[:, 0] * deviation + mean, gold, groups)
    return Predictions(ids, stacked, gold, groups)


def gold_labels(kind: str, examples: Sequence[Example]) -> Any:
    """The true labels as `Predictions` holds them; None for rows that have none."""
    labels = [example.label for example in examples]
    if any(label is None for label in labels):
        return None
    if kind == "tokens":
        return [np.asarray(tags, np.int64) for tags in labels]
    return np.asarray(labels, np.float64 if kind == "regression" else np.int64)


def groups_of(examples: Sequence[Example]) -> list[str] | None:
    """The rows' groups as `Predictions` holds them, a row without one being its own; None where no row has one."""
    return [example.group or example.id for example in examples] if any(example.group for example in examples) else None


def _rows(kind: str, signals: Signals, batch, encoded: Encoded, indices: np.ndarray) -> list[np.ndarray]:
    """One prediction for each example of a batch."""
    assert signals.logits is not None
    logits = signals.logits.float()
    if kind == "tokens":
        return _tags(logits.argmax(dim=1).cpu().numpy(), encoded, indices)
    if kind == "text":
        labels = batch.labels
        masked = labels != -100
        losses = torch.zeros(len(labels), device=logits.device)
        losses[masked] = F.cross_entropy(logits, labels[masked], reduction="none")
        parts = zip(losses.split(batch.sizes), masked.split(batch.sizes), strict=True)
        return [np.array([loss.sum().item(), mask.sum().item()]) for loss, mask in parts]
    return list(logits.cpu().numpy())


def _tags(best: np.ndarray, encoded: Encoded, indices: np.ndarray) -> list[np.ndarray]:
    """The tag of each word is that of its first sub-word."""
    assert encoded.word_index is not None and encoded.num_words is not None
    rows, start = [], 0
    for index in indices:
        words = encoded.word_index[encoded.offsets[index] : encoded.offsets[index + 1]]
        tags = np.zeros(encoded.num_words[index], np.int64)
        present, first = np.unique(words, return_index=True)
        inside = present >= 0
        tags[present[inside]] = best[start + first[inside]]
        rows.append(tags)
        start += len(words)
    return rows
