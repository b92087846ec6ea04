"""Which teacher dimension becomes which student dimension: linear sum assignment on signed correlations."""

from __future__ import annotations

import numpy as np

from understudy.base.errors import RecipeError


def assign(correlation: np.ndarray) -> np.ndarray:
    """π (S,) with Σ_i C[i, π(i)] as large as possible, no teacher dimension twice. C is (S, T), T >= S.

    >>> assign(np.array([[0.1, 0.9, 0.0], [0.8, 0.7, 0.0]]))
    array([1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    students, teachers = correlation.shape
    if students > teachers:
        raise RecipeError(
            f"{students} student dimensions cannot each have one of {teachers} teacher dimensions; choose a wider teacher."
        )
    return linear_sum_assignment(-correlation)[1]


def assign_heads(correlation: np.ndarray, student_heads: int, teacher_heads: int, *, fused: int = 1) -> np.ndarray:
    """As `assign`, with whole heads going to whole heads: the rows of a query, key or value projection; with `fused` = 3
    those of one that computes the three, each from its own.

    The value of a pair of heads is that of the best assignment inside it. Where the student has more or wider heads than
    the teacher no head can hold another, and dimensions are assigned freely.
    """
    if fused > 1:
        students, teachers = (size // fused for size in correlation.shape)
        blocks = [
            correlation[i * students : (i + 1) * students, i * teachers : (i + 1) * teachers] for i in range(fused)
        ]
        chosen = [assign_heads(block, student_heads, teacher_heads) for block in blocks]
        return np.concatenate([one + i * teachers for i, one in enumerate(chosen)])
    students, teachers = correlation.shape
    wide, wider = students // student_heads, teachers // teacher_heads
    if student_heads > teacher_heads or wide > wider:
        return assign(correlation)
    blocks = correlation.reshape(student_heads, wide, teacher_heads, wider).transpose(0, 2, 1, 3)
    inside = [[assign(block) for block in row] for row in blocks]
    within = np.arange(wide)
    value = [[blocks[i, j][within, chosen].sum() for j, chosen in enumerate(row)] for i, row in enumerate(inside)]
    heads = assign(np.array(value))
    return np.concatenate([head * wider + inside[i][head] for i, head in enumerate(heads)])
