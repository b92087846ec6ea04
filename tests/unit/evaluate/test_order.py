"""A teacher whose outputs have no names: which order of the labels are they in?"""

from __future__ import annotations

import fits
import numpy as np
import pytest

from understudy.base.errors import DataError
from understudy.data.types import Example, Task, TaskData
from understudy.evaluate import order
from understudy.evaluate.predictions import Predictions

LABELS = ("calm", "glad", "sad")


def judge(monkeypatch: pytest.MonkeyPatch, said: list[int], gold: list[int]) -> None:
    """`require_order` for a teacher whose outputs are these numbers."""
    rows = [Example(str(i), text="good", label=label) for i, label in enumerate(gold)]
    scores = np.eye(3)[said]
    said_all = Predictions([], scores, np.array(gold))
    monkeypatch.setattr(order, "predict", lambda model, rows, encoded: said_all)
    order.require_order(fits.model(), TaskData(Task("t", "classification", LABELS), rows, rows, {}), max_length=16)


def test_an_order_that_fits_far_better_is_named(monkeypatch):
    gold = [0, 1, 2] * 20
    with pytest.raises(DataError, match=r"right on 0 % of 60 selection rows; in another order on 100 %.*\[sad, calm, glad\]"):
        judge(monkeypatch, [(label + 1) % 3 for label in gold], gold)  # output 0 means sad, 1 calm, 2 glad
    with pytest.raises(DataError, match=r"\[calm, sad, glad\]"):
        judge(monkeypatch, [{0: 0, 1: 2, 2: 1}[label] for label in gold], gold)


def test_what_may_be_chance_or_no_better_than_always_the_same_passes(monkeypatch):
    gold = [0, 1, 2] * 20
    judge(monkeypatch, gold, gold)
    judge(monkeypatch, [0] * 60, gold)  # one answer for all: no order makes it good
    rng = np.random.default_rng(0)
    for _ in range(20):
        judge(monkeypatch, rng.integers(0, 3, 60).tolist(), gold)
    judge(monkeypatch, [2, 1, 0], [0, 1, 1])  # three rows prove nothing
