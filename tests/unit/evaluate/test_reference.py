"""References that cost nothing are what they say, against values worked out by other means."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

from understudy.data.types import Example, Task
from understudy.evaluate import reference
from understudy.evaluate.reference import COSINE, constant, cosine
from understudy.models.load import load_model

PLACES = ((0, 2), (2, 3), (5, 1), (6, 4), (1, 2), (8, 2))
WORDS = [" ".join(tiny_models.WORDS[start : start + length]) for start, length in PLACES]


def rows(labels: list, *, pair: bool = True) -> list[Example]:
    return [
        Example(str(row), text=WORDS[row % 6], pair=WORDS[(5 * row + row // 6) % 6] if pair else None, label=label)
        for row, label in enumerate(labels)
    ]


def test_the_most_frequent_class():
    task = Task("toy", "classification", ("no", "yes"), ("accuracy", "f1", "mcc"), "accuracy")
    found = constant(task, rows([1, 1, 0]), {"dev": rows([1, 0, 1, 1])})
    assert list(found) == ["always answering yes"]
    assert found["always answering yes"]["dev"] == {"accuracy": 0.75, "f1": pytest.approx(6 / 7)}  # no correlation, which is 0


def test_the_mean_of_numbers_and_the_most_frequent_tag():
    numbers = Task("toy", "regression", (), ("pearson", "mse"), "pearson")
    (found,) = constant(numbers, rows([1.0, 2.0, 3.0]), {"dev": rows([1.0, 5.0])}).values()
    assert found == {"dev": {"mse": 5.0}}  # (1 - 2)^2 and (5 - 2)^2
    tags = Task("toy", "tokens", ("O", "B-X", "I-X"), ("f1",), "f1")
    given = [Example("0", words=("a", "b"), label=(0, 1)), Example("1", words=("c",), label=(0,))]
    assert constant(tags, given, {"dev": given}) == {}  # no entity, F1 of 0: nothing to tell
    assert constant(Task("toy", "text"), [Example("0", text="a")], {"dev": [Example("0", text="a")]}) == {}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    tiny_models.tiny_net("bert", num_labels=2).save_pretrained(folder)
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    return load_model(str(folder))


def by_hand(encoder, given: list[Example]) -> np.ndarray:
    """Cosines of the stock model's own outputs, one text at a time."""
    vectors = []
    for text in ("text", "pair"):
        for row in given:
            tokens = encoder.tokenizer(getattr(row, text), return_tensors="pt")
            with torch.no_grad():
                vectors.append(encoder.net.base_model(**tokens).last_hidden_state[0].mean(dim=0))
    one, other = torch.stack(vectors[: len(given)]), torch.stack(vectors[len(given) :])
    return torch.cosine_similarity(one, other).double().numpy()


def test_the_cosine_of_pairs_against_the_stock_model(encoder):
    given = rows([float(number % 5) for number in range(24)])
    task = Task("toy", "regression", (), ("pearson", "mse"), "pearson", pair=True)
    found = cosine(task, encoder, given, {"dev": given}, max_length=32)[COSINE]["dev"]
    expected, gold = by_hand(encoder, given), np.array([row.label for row in given])
    assert found["pearson"] == pytest.approx(abs(np.corrcoef(expected, gold)[0, 1]), abs=1e-4)
    assert found["mse"] == pytest.approx(gold.var() * (1 - found["pearson"] ** 2), rel=1e-3)  # least squares on these rows


def test_two_classes_are_told_apart_by_a_threshold(encoder):
    alike = by_hand(encoder, rows([0] * 24))
    labels = (alike > np.median(alike)).astype(int)
    task = Task("toy", "classification", ("other", "same"), ("accuracy", "loss"), "accuracy", pair=True)
    given = rows([int(label) for label in labels])
    assert cosine(task, encoder, given, {"dev": given}, max_length=32) == {COSINE: {"dev": {"accuracy": 1.0}}}
    turned = rows([int(1 - label) for label in labels])  # alike means "other" here: the selection rows say so
    assert cosine(task, encoder, turned, {"dev": turned}, max_length=32)[COSINE]["dev"]["accuracy"] == 1.0


def test_no_pairs_or_three_classes_have_no_cosine(encoder):
    given = rows([0, 1, 2, 0], pair=True)
    three = Task("toy", "classification", ("a", "b", "c"), ("accuracy",), "accuracy", pair=True)
    single = Task("toy", "classification", ("a", "b"), ("accuracy",), "accuracy")
    assert cosine(three, encoder, given, {"dev": given}, max_length=32) == {}
    assert cosine(single, encoder, rows([0, 1], pair=False), {"dev": given}, max_length=32) == {}


def test_of_many_rows_some_are_taken_and_the_name_says_so(encoder, monkeypatch):
    monkeypatch.setattr(reference, "MOST_ROWS", 10)
    given = rows([float(number % 5) for number in range(24)])
    task = Task("toy", "regression", (), ("pearson",), "pearson", pair=True)
    found = cosine(task, encoder, given, {"dev": given, "test": given[:4]}, max_length=32)
    some = [given[i] for i in (0, 2, 4, 7, 9, 12, 14, 16, 19, 21)]
    expected = cosine(task, encoder, some, {"dev": some, "test": given[:4]}, max_length=32)[COSINE]
    assert found == {f"{COSINE} (on 10 rows)": expected}
