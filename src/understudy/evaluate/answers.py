"""A model's predictions in words, one plain dictionary per row: what `understudy predict` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from understudy.data.encode import encode
from understudy.data.types import Example, Task
from understudy.evaluate.predict import predict
from understudy.evaluate.predictions import Predictions, entities
from understudy.models.anatomy import anatomy
from understudy.models.model import Model

_CHUNK = 1024
"""Rows that are read, answered and handed on at once, so that a large file does not fill the memory."""


def answers(model: Model, examples: Sequence[Example], *, max_length: int = 512) -> Iterator[dict[str, Any]]:
    """label and probability of each class · the labels above one half · a number · words with their tags and entities.

    `cut` is true where a text was longer than the model can read.
    """
    task = Task("predict", model.kind, labels=model.labels, pair=examples[0].pair is not None if examples else False)
    length = min(max_length, anatomy(model.net).max_tokens(model.net))
    for start in range(0, len(examples), _CHUNK):
        rows = examples[start : start + _CHUNK]
        encoded = encode(rows, model.tokenizer, task, max_length=length)
        predictions = predict(model, rows, encoded)
        for row, example in enumerate(rows):
            answer = {"row": example.id, **_answer(task, example, predictions, row)}
            if encoded.lengths[row] >= length:
                answer["cut"] = True
            yield answer


def _answer(task: Task, example: Example, predictions: Predictions, row: int) -> dict[str, Any]:
    scores = predictions.scores[row]
    if task.kind == "regression":
        return {"value": round(float(scores), 6)}
    if task.kind == "tokens":
        words = example.words or ()
        tags = tuple(task.labels[int(tag)] for tag in scores)
        spans = sorted(entities(tags), key=lambda span: span[1])
        found = [{"text": " ".join(words[start:end]), "label": kind, "start": start, "end": end} for kind, start, end in spans]
        return {"words": list(words), "tags": list(tags), "entities": found}
    if task.kind == "multilabel":
        shares = 1 / (1 + np.exp(-scores.astype(np.float64)))
        named = dict(zip(task.labels, (round(float(share), 6) for share in shares), strict=True))
        return {"labels": [label for label, share in named.items() if share > 0.5], "probabilities": named}
    powers = np.exp(scores.astype(np.float64) - scores.max())
    named = dict(zip(task.labels, (round(float(share), 6) for share in powers / powers.sum()), strict=True))
    return {"label": max(named, key=named.__getitem__), "probabilities": named}
