"""What a model says about examples: forward passes by length, without padding where the family allows it; and in words, as
`understudy predict` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from understudy.cache import Teacher, autocast
from understudy.data.batches import evaluation_batches
from understudy.data.encode import Encoded, collate, encode
from understudy.data.squad import by_question
from understudy.data.types import Example, Task
from understudy.evaluate.predictions import Predictions
from understudy.kinds import Kind
from understudy.models.anatomy import anatomy
from understudy.models.handover import longest_input
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.models.signals import forward

MOST_OUTPUTS = 1 << 26
"""Numbers of one batch's outputs over a vocabulary: 256 MB in fp32."""


@torch.inference_mode()
def outputs(
    model: Model,
    encoded: Encoded,
    *,
    precision: str = "fp32",
    max_tokens: int = 8192,
    teacher: Teacher | None = None,
    others: Sequence[Model] = (),
) -> list[Any]:
    """What a kind keeps of a model's outputs (`Kind.read`), for each row of `encoded`; of a teacher's beside them, where the
    kind has metrics `beside_teacher`.

    others: models with the same tokens that answer with it: what counts is the mean of their outputs (`Kind.mean`).
    """
    net = model.net.eval()
    device = next(net.parameters()).device
    nets = [net, *(other.net.to(device).eval() for other in others)]
    rows: list[Any] = [None] * len(encoded)
    if model.kind.on_vocabulary:  # a row of outputs is as wide as the vocabulary
        max_tokens = min(max_tokens, max(1, MOST_OUTPUTS // net.config.vocab_size))
    for indices in evaluation_batches(encoded.lengths, max_tokens=max_tokens):
        batch = collate(encoded, indices).to(device)
        with autocast(device, precision):
            every = [forward(one, batch, Needs(logits=True), kind=model.kind).logits for one in nets]
        logits = [one for one in every if one is not None]
        said = model.kind.mean(logits) if others else logits[0]
        words = [encoded.words(i) for i in indices]
        beside: dict[str, Any] = {}
        if teacher is not None:
            beside["reference"] = teacher.signals(indices).logits
        kept = model.kind.read(said.float(), labels=batch.labels, sizes=batch.sizes, words=words, **beside)
        for index, row in zip(indices, kept, strict=True):
            rows[index] = row
    return rows


def predict(
    model: Model,
    examples: Sequence[Example],
    encoded: Encoded,
    *,
    precision: str = "fp32",
    max_tokens: int = 8192,
    scale: tuple[float, float] = (0.0, 1.0),
    taught: Sequence[Any] | None = None,
    teacher: Teacher | None = None,
    others: Sequence[Model] = (),
) -> Predictions:
    """Predictions for all examples that are judged, in their order.

    Args:
        encoded: the same examples in the model's own tokens.
        precision: fp32 for every number that is reported; bf16 is enough to choose a checkpoint.
        scale: (mean, deviation) that turn a regression model's output into the label's units.
        teacher: what the outputs are compared with by kinds with metrics `beside_teacher`, on the same rows.
        taught: the teacher's `outputs` for the same examples, for kinds that compare with it.
        others: as for `outputs`.

    Returns:
        logits (N, C) for classes and several labels, numbers (N,) for regression, one tag number per word for tokens
        (of words cut off by the length limit see `Tokens.completed`), summed loss and count of masked tokens (N,) for text; for
        others as their kind says.
    """
    rows: list[Any] = outputs(model, encoded, precision=precision, max_tokens=max_tokens, teacher=teacher, others=others)
    if encoded.source is not None and encoded.num_bytes is not None:
        rows = model.kind.by_example(rows, encoded.source, encoded.num_bytes, len(examples))
    if encoded.chars is not None:
        rows = by_question(rows, encoded, len(examples))
    scores, gold = model.kind.collect(rows, examples, taught)
    scores = model.kind.completed(scores, model.labels)
    if model.kind.standardise:
        mean, deviation = scale
        scores = scores * deviation + mean
    judged = model.kind.judged(examples)
    return Predictions([example.id for example in judged], scores, gold, groups_of(judged))


def gold_labels(kind: Kind, examples: Sequence[Example]) -> Any:
    """The true labels as `Predictions` holds them; None for rows that have none."""
    labels = [example.label for example in examples]
    return None if any(label is None for label in labels) else kind.gold(labels)


def groups_of(examples: Sequence[Example]) -> list[str] | None:
    """The rows' groups as `Predictions` holds them, a row without one being its own; None where no row has one."""
    return [example.group or example.id for example in examples] if any(example.group for example in examples) else None


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
            of_list = {"query": example.text, "passages": list(example.more)} if example.more else {}
            said = model.kind.answer(predictions.scores[row], model.labels, example.words or example.pair or ())
            answer = {"row": example.id, **of_list, **said}
            if encoded.cut is not None and encoded.cut[encoded.rows_of(np.array([row]))].any():
                answer["cut"] = True
            yield answer
