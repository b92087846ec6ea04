"""Words that the longest input cuts off: no entity in them, and no tag at all where tags are parts of speech."""

from __future__ import annotations

import numpy as np
import pytest
import toys
from tiny_models import tiny_net

from understudy.data.encode import encode
from understudy.data.types import Example, Task
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import answers, predict
from understudy.kinds import kind
from understudy.models.model import Model

POS, BIO = ("NOUN", "VERB", "ADJ"), ("O", "B-X", "I-X")
WORDS = tuple("good bad day fine lamp desk".split())


def made(labels: tuple[str, ...]):
    tokenizer = toys.tokenizer()
    net = tiny_net("bert", "tokens", num_labels=3, vocab_size=len(tokenizer)).eval()
    task = Task("t", kind("tokens"), labels, ("accuracy", "macro_f1", "f1"), "accuracy")
    model = Model(net, tokenizer, labels, task.kind, "net", None)
    rows = [Example(str(i), words=WORDS, label=(0, 0, 1, 0, 2, 0)) for i in range(3)]
    return model, task, rows, predict(model, rows, encode(rows, tokenizer, task, max_length=5))  # three words and two marks


def test_parts_of_speech_have_no_tag_there_and_it_counts_as_wrong():
    model, task, rows, said = made(POS)
    assert all(row[3:].tolist() == [-1, -1, -1] and (row[:3] >= 0).all() for row in said.scores)
    right = sum(int(a == b) for row in said.scores for a, b in zip(row, rows[0].label, strict=True) if a >= 0)
    found = compute(task, said)
    assert found["accuracy"] == pytest.approx(right / 18)  # of all words, those that were not read too
    one = next(answers(model, rows, task, max_length=8))  # the least that is asked for from outside reads all
    assert None not in one["tags"]
    cut = task.kind.answer(said.scores[0], POS, WORDS)
    assert cut["tags"][3:] == [None, None, None] and None not in cut["tags"][:3]
    assert task.kind.in_words(said.scores[0], POS, WORDS).endswith("– – –")
    hits, predicted, true = np.array(list(task.kind.class_counts(POS, said.scores, said.gold).values())).sum(axis=0)
    assert (hits, predicted, true) == (right, 9, 18)


def test_of_entities_nothing_is_found_there():
    _, task, _, said = made(BIO)
    assert all(row[3:].tolist() == [0, 0, 0] for row in said.scores)
    assert 0 <= compute(task, said)["accuracy"] <= 1
