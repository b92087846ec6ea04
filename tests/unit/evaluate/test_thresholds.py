"""Thresholds of several labels."""

from __future__ import annotations

import fits
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from understudy.evaluate.thresholds import best_thresholds, move_boundaries


@given(st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=1, max_size=40))
def test_no_other_boundary_has_a_better_f1(rows):
    scores, gold = np.array([[score / 2] for score, _ in rows]), np.array([[int(true)] for _, true in rows])
    (chosen,) = best_thresholds(scores, gold)
    reached = f1_score(gold, scores > chosen, zero_division=0)
    for other in np.arange(-6, 6, 0.25):
        assert reached >= f1_score(gold, scores > other, zero_division=0) - 1e-12
    if not gold.any() or f1_score(gold, scores > 0, zero_division=0) == reached:
        assert chosen == 0


def test_the_boundary_becomes_part_of_the_head():
    model = fits.model("multilabel")
    before = model.net.classifier.bias.clone()
    move_boundaries(model, [0.5, -1.0])
    assert torch.equal(model.net.classifier.bias, before - torch.tensor([0.5, -1.0]))
