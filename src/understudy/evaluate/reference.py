"""What can be had without any training: the scores that a teacher and a student must beat to have learnt something.

    always the same answer    the most frequent class, the mean, each label's share: what the labels alone tell
    the encoder's own cosine  pairs only: how alike an untrained encoder finds two texts (its mean over tokens), turned into an
                              answer by a line or a threshold that the selection rows choose
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from understudy.data.batches import evaluation_batches
from understudy.data.encode import collate, encode
from understudy.data.types import Example, Task
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import gold_labels
from understudy.evaluate.predictions import Predictions
from understudy.kinds import sign_of
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.models.signals import forward

COSINE = "the encoder's own cosine"
THRESHOLDS = 100
MOST_ROWS = 500
"""Of a set: a reference should cost seconds, and these tell it to two points. Its name says so where there are more."""

Scores = dict[str, dict[str, float]]
"""Test set -> metric -> value."""


def constant(task: Task, train: Sequence[Example], tests: Mapping[str, Sequence[Example]]) -> dict[str, Scores]:
    """{name: scores} of a model that has seen the training labels and no text; empty where there is no such answer.

    Metrics that are 0 for every constant answer, as correlations are, are left out: they would tell nothing.
    """
    labels = [example.label for example in train]
    found: Scores = {}
    answer = None
    for test, rows in tests.items():
        sizes = [len(example.words or ()) for example in rows]
        answer = task.kind.constant(labels, len(task.labels) or 1, sizes) if labels and None not in labels else None
        if answer is None:
            return {}
        scores = _scores(task, rows, answer)
        found[test] = {metric: value for metric, value in scores.items() if value}
    if answer is None or not any(found.values()):
        return {}
    words: Sequence[str] = next(iter(tests.values()))[0].words or ()
    return {f"always answering {task.kind.in_words(task.kind.decide(answer)[0], task.labels, words)}": found}


def cosine(
    task: Task, model: Model, select: Sequence[Example], tests: Mapping[str, Sequence[Example]], *, max_length: int
) -> dict[str, Scores]:
    """{name: scores} of an encoder as it is; empty where two texts' likeness is no answer.

    It is one for numbers (a line through the selection rows) and for two classes (a threshold that is best on them). The name is
    COSINE, with the number of rows where a set has more than MOST_ROWS, of which as many are taken, evenly spread.
    """
    an_answer = task.kind.numeric or len(task.labels) == 2
    if not task.pair or task.kind.by_word or not an_answer or len(select) < 2:
        return {}
    name = COSINE if max(map(len, tests.values())) <= MOST_ROWS else f"{COSINE} (on {MOST_ROWS} rows)"
    select, tests = _some(select), {test: _some(rows) for test, rows in tests.items()}
    alike = _likeness(model, select, max_length)
    if not np.ptp(alike):
        return {}
    if task.kind.numeric:
        slope, intercept = np.polyfit(alike, np.asarray(gold_labels(task.kind, select), np.float64), 1)

        def answer(values: np.ndarray) -> np.ndarray:
            return slope * values + intercept
    else:
        cuts = np.quantile(alike, np.linspace(0, 1, THRESHOLDS))
        tried = [(cut, side) for cut in np.unique(cuts) for side in (1.0, -1.0)]
        best = max(tried, key=lambda one: sign_of(task.select) * _scores(task, select, _sided(alike, *one))[task.select])

        def answer(values: np.ndarray) -> np.ndarray:
            return _sided(values, *best)

    found = {test: _scores(task, rows, answer(_likeness(model, rows, max_length))) for test, rows in tests.items()}
    # A cosine is no probability: what depends on how sure an answer is means nothing here.
    return {name: {test: {metric: one for metric, one in scores.items() if metric != "loss"} for test, scores in found.items()}}


def _some(rows: Sequence[Example]) -> Sequence[Example]:
    return rows if len(rows) <= MOST_ROWS else [rows[i * len(rows) // MOST_ROWS] for i in range(MOST_ROWS)]


def _sided(alike: np.ndarray, cut: float, side: float) -> np.ndarray:
    """(N, 2) logits: the second class above the cut, or below it."""
    above = side * (alike - cut)
    return np.stack([np.zeros_like(above), above], axis=1)


def _scores(task: Task, rows: Sequence[Example], scores: Any) -> dict[str, float]:
    return compute(task, Predictions([row.id for row in rows], scores, gold_labels(task.kind, rows)))


@torch.inference_mode()
def _likeness(model: Model, rows: Sequence[Example], max_length: int) -> np.ndarray:
    """(N,) cosines between the two texts of each row, of their last hidden states' means over tokens."""
    net = model.net.eval()
    device = next(net.parameters()).device
    single = replace(Task("one text", model.kind), labels=model.labels)
    texts = [row.text or "" for row in rows] + [row.pair or "" for row in rows]
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}  # a text of several pairs is read once
    encoded = encode([Example(text, text=text) for text in place], model.tokenizer, single, max_length=max_length)
    vectors = np.empty((len(place), net.config.hidden_size), np.float32)
    for indices in evaluation_batches(encoded.lengths, max_tokens=8192):
        signals = forward(net, collate(encoded, indices).to(device), Needs(feature="mean"), kind=model.kind)
        assert signals.feature is not None
        vectors[indices] = signals.feature.float().cpu().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    one, other = np.split(vectors[[place[text] for text in texts]], 2)
    return (one * other).sum(axis=1).astype(np.float64)
