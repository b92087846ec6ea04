"""Hard negatives by the rule, on scores written by hand."""

from __future__ import annotations

import numpy as np

from understudy.run.mine import hard


def test_what_may_be_relevant_is_no_negative() -> None:
    scores = np.array([0.9, 0.8, 0.77, 0.75, 0.5, 0.8])
    texts = ["better than the positive", "positive", "too near", "near", "far", "positive"]
    near = np.argsort(-scores, kind="stable")
    assert hard(scores, near, [1], texts, margin=0.05) == [3, 4]  # 0.8 - 0.04 = 0.76
    assert hard(scores, near, [1], texts, margin=0.0) == [2, 3, 4]


def test_below_zero_the_bound_lies_below_the_positive_too() -> None:
    scores = np.array([-0.40, -0.41, -0.43, -0.38])
    assert hard(scores, np.array([3, 0, 1, 2]), [0], ["p", "too near", "negative", "above"], margin=0.05) == [2]
