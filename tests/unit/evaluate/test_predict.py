"""Predictions come in the order of the rows, in the task's own terms, and equal the stock model's."""

from __future__ import annotations

import dataclasses

import fits
import numpy as np
import pytest
import torch
import toys
from torch.nn.functional import cross_entropy

from understudy.data.encode import collate, encode
from understudy.data.types import Example, Task
from understudy.evaluate.predict import answers, predict

TASK = Task("t", "classification", fits.MOODS)


def stock_logits(model, encoded, row: int) -> torch.Tensor:
    """The stock forward on one row alone, (length, C) or (C,)."""
    batch = collate(encoded, [row])
    with torch.no_grad():
        return model.net(input_ids=batch.input_ids[None]).logits[0]


@pytest.mark.parametrize("max_tokens", [24, 8192])
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_logits_in_the_order_of_the_rows(kind, max_tokens):
    model, rows, encoded = fits.model(kind), fits.examples(12, kind=kind), fits.encoded(12, kind=kind)
    made = predict(model, rows, encoded, max_tokens=max_tokens)
    assert made.ids == [row.id for row in rows]
    expected = torch.stack([stock_logits(model, encoded, i) for i in range(12)])
    np.testing.assert_allclose(made.scores, expected.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(made.gold, np.array([row.label for row in rows]))


def test_numbers_in_label_units():
    model, rows, encoded = fits.model("regression"), fits.examples(6, kind="regression"), fits.encoded(6, kind="regression")
    plain = predict(model, rows, encoded)
    assert plain.scores.shape == (6,)
    np.testing.assert_allclose(plain.scores, [stock_logits(model, encoded, i).item() for i in range(6)], rtol=1e-4, atol=1e-6)
    scaled = predict(model, rows, encoded, scale=(100.0, 15.0))
    np.testing.assert_allclose(scaled.scores, plain.scores * 15 + 100, rtol=1e-6)


def test_a_word_has_the_tag_of_its_first_part():
    """Sentences of different lengths, one of them cut: what no sub-word stands for is O."""
    model = fits.model("tokens")
    with torch.no_grad():
        model.net.classifier.weight.mul_(20)
    rows = fits.examples(8, kind="tokens")
    encoded = encode(rows, toys.tokenizer(), fits.task("tokens"), max_length=8)
    made = predict(model, rows, encoded)
    seen = set()
    for i, row in enumerate(rows):
        said = stock_logits(model, encoded, i).argmax(dim=1).numpy()
        kept = min(len(row.words), 6)  # 8 less [CLS] and [SEP]
        assert len(made.scores[i]) == len(row.words)
        np.testing.assert_array_equal(made.scores[i][:kept], said[1 : 1 + kept])
        assert not made.scores[i][kept:].any()
        seen |= set(said.tolist())
    assert seen == {0, 1} and any(len(row.words) > 6 for row in rows)
    np.testing.assert_array_equal(made.gold[0], rows[0].label)


def test_words_of_several_parts():
    """With a tokenizer that cuts words: positions are those of first parts, not of words."""
    model, rows = fits.model("tokens"), fits.examples(1, kind="tokens")
    encoded = encode(rows, toys.tokenizer(), fits.task("tokens"), max_length=32)
    words = encoded.word_index.copy()
    words[3:] -= (words[3:] >= 0).astype(words.dtype)  # pretend sub-words 2 and 3 are two parts of the second word
    cut = dataclasses.replace(encoded, word_index=words, num_words=encoded.num_words - 1)
    made = predict(model, rows, cut)
    said = stock_logits(model, encoded, 0).argmax(dim=1).numpy()
    np.testing.assert_array_equal(made.scores[0], np.concatenate([said[1:3], said[4:-1]]))


def test_text_gives_summed_loss_and_count():
    model, rows, encoded = fits.model("text"), fits.examples(6, kind="text"), fits.encoded(6, kind="text")
    made = predict(model, rows, encoded, max_tokens=40)
    for i in range(6):
        labels = collate(encoded, [i]).labels
        masked = labels != -100
        expected = cross_entropy(stock_logits(model, encoded, i)[masked], labels[masked], reduction="sum")
        assert made.gold[i] == masked.sum().item()
        assert made.scores[i] == pytest.approx(expected.item(), rel=1e-4)


def test_rows_without_labels_have_no_gold():
    model = fits.model()
    rows = [dataclasses.replace(row, label=None) for row in fits.examples(3)]
    made = predict(model, rows, encode(rows, toys.tokenizer(), fits.task(), max_length=32))
    assert made.gold is None and made.scores.shape == (3, 2)


def test_groups_are_handed_on():
    rows = [dataclasses.replace(row, group="one" if i < 2 else None) for i, row in enumerate(fits.examples(3))]
    made = predict(fits.model(), rows, fits.encoded(3))
    assert made.groups == ["one", "one", "row-2"]
    assert predict(fits.model(), fits.examples(3), fits.encoded(3)).groups is None


def test_answers_in_words():
    """What `understudy predict` prints, from the same numbers."""
    model, rows = fits.model(), fits.examples(3)
    encoded = fits.encoded(3)
    for i, answer in enumerate(answers(model, rows, TASK)):
        shares = stock_logits(model, encoded, i).softmax(dim=0)
        assert answer["row"] == f"row-{i}" and answer["label"] == fits.MOODS[int(shares.argmax())]
        assert answer["probabilities"]["sad"] == pytest.approx(shares[1].item(), abs=1e-5)


def test_answers_for_words_join_entities():
    model = fits.model("tokens")
    with torch.no_grad():  # every word begins an entity
        model.net.classifier.weight.zero_()
        model.net.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    (answer,) = answers(model, [Example("a", words=("good", "desk"))], Task("t", "tokens", model.labels))
    assert answer["tags"] == ["B-mood", "B-mood"]
    assert answer["entities"] == [
        {"text": "good", "label": "mood", "start": 0, "end": 1}, {"text": "desk", "label": "mood", "start": 1, "end": 2},
    ]  # fmt: skip


def test_long_texts_are_said_to_be_cut():
    model = fits.model()
    long = Example("long", text="good " * 100)
    short = Example("short", text="good")
    found = {answer["row"]: answer.get("cut", False) for answer in answers(model, [long, short], TASK)}
    assert found == {"long": True, "short": False}
