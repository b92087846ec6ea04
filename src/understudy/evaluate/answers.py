"""A model's predictions in words, one plain dictionary per row: what `understudy predict` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from understudy.data.encode import encode
from understudy.data.types import Example, Task
from understudy.evaluate.predict import predict
from understudy.models.anatomy import anatomy
from understudy.models.handover import longest_input
from understudy.models.model import Model

_CHUNK = 1024
"""Rows that are read, answered and handed on at once, so that a large file does not fill the memory."""


def answers(
    model: Model, examples: Sequence[Example], task: Task, *, max_length: int | None = None
) -> Iterator[dict[str, Any]]:
    """label and probability of each class · the labels above one half · a number · words with their tags and entities.

    The inputs are as long as those the model was scored with (`longest_input`), or `max_length` tokens; `cut` is true where a
    text was longer.
    """
    length = min(max_length or longest_input(model), anatomy(model.net).max_tokens(model.net))
    for start in range(0, len(examples), _CHUNK):
        rows = examples[start : start + _CHUNK]
        encoded = encode(rows, model.tokenizer, task, max_length=length)
        predictions = predict(model, rows, encoded)
        for row, example in enumerate(rows):
            answer = {"row": example.id, **model.kind.answer(predictions.scores[row], model.labels, example.words or ())}
            if encoded.cut is not None and encoded.cut[row]:
                answer["cut"] = True
            yield answer
