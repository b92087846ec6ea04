"""Relational knowledge distillation: the geometry of a batch (Park et al. 2019, sections 3.2.1 and 3.2.2).

Relations exist between rows, so these losses see a whole batch and cannot be split: they take no `reduction`. They
are free of scale and width, so the features need no adaptor.

`parity` is the arithmetic of AutoMM and of the paper's own code: means over all N^2 or N^3 entries, those that compare
a row with itself included (they are zero, and make the weight depend on N), in whatever precision autocast prescribes.
Otherwise means are over distinct rows, and everything is computed in at least fp32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import same_rows

FEWEST_ROWS = 3  # two rows have one distance, always 1 once divided by its mean, and no angle
_TINY = 1e-12  # squared distance under which two rows are the same point


def rkd_distance(student: Tensor, teacher: Tensor, *, parity: bool = False) -> Tensor:
    """Smooth-L1 between the distances |x_i - x_j| of both sides, each divided by its own mean (equation 4).

    student: (N, D_s), teacher: (N, D_t), any two widths. Mean over the N(N-1) ordered pairs of distinct rows; with
    parity over N^2. Fewer than three rows carry no relation: zero, still part of the graph.

    >>> import torch
    >>> student = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1 2 3, mean 2
    >>> teacher = torch.tensor([[0.0], [2.0], [4.0]])  # distances 2 2 4, mean 8/3
    >>> round(rkd_distance(student, teacher).item(), 6)  # (.25^2 + .25^2 + 0^2) / 2 / 3
    0.020833
    """
    same_rows(student, teacher, what="rkd_distance")
    num = student.shape[0]
    if num < FEWEST_ROWS:
        return _nothing(student)
    with _arithmetic(student, parity):
        with torch.no_grad():
            relative_t = _relative_distances(_rows(teacher, parity))
        errors = F.smooth_l1_loss(_relative_distances(_rows(student, parity)), relative_t, reduction="sum")
    return errors / (num * num if parity else num * (num - 1))


def rkd_angle(student: Tensor, teacher: Tensor, *, parity: bool = False) -> Tensor:
    """Smooth-L1 between the cosines of the angles at i between j and k, of both sides (equation 6).

    student: (N, D_s), teacher: (N, D_t), any two widths. Mean over the N(N-1)(N-2) ordered triples of distinct rows;
    with parity over N^3. Fewer than three rows make no triangle: zero, still part of the graph. Memory: N^2 D + N^3
    numbers a side, 59 MB in fp32 for N = 128, D = 768.

    >>> import torch
    >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # cosines 0, 1/sqrt 2, 1/sqrt 2
    >>> rkd_angle(student, 7 * student).item()  # the same triangle, only larger
    0.0
    """
    same_rows(student, teacher, what="rkd_angle")
    num = student.shape[0]
    if num < FEWEST_ROWS:
        return _nothing(student)
    with _arithmetic(student, parity):
        with torch.no_grad():
            cosines_t = _cosines(_rows(teacher, parity))
        errors = F.smooth_l1_loss(_cosines(_rows(student, parity)), cosines_t, reduction="sum")
    return errors / (num**3 if parity else num * (num - 1) * (num - 2))


def _relative_distances(rows_ND: Tensor) -> Tensor:
    """(N, N): Euclidean distances, 0 on the diagonal, divided by the mean of the others."""
    squares = rows_ND.square().sum(dim=1)
    gram = rows_ND @ rows_ND.T
    # Clamped before the root: the root has no slope at 0, and rounding may bring the difference below it.
    distances = (squares[:, None] + squares[None] - 2 * gram).clamp(min=_TINY).sqrt()
    num = rows_ND.shape[0]
    others = ~torch.eye(num, dtype=torch.bool, device=rows_ND.device)
    distances = torch.where(others, distances, 0.0)
    return distances / (distances.sum() / (num * (num - 1)))


def _cosines(rows_ND: Tensor) -> Tensor:
    """(N, N, N): entry i, j, k is the cosine at i between the directions to j and to k; 0 where there is none."""
    differences = rows_ND[None] - rows_ND[:, None]
    squares = differences.square().sum(dim=2, keepdim=True)
    # A row has no direction to itself or to its double. Masked before the root, or the gradient would be 1e12 times
    # something that cancels only on paper.
    apart = squares > _TINY
    unit = torch.where(apart, differences / torch.where(apart, squares, 1.0).sqrt(), 0.0)
    return unit @ unit.transpose(1, 2)


def _rows(rows_ND: Tensor, parity: bool) -> Tensor:
    if parity:
        return rows_ND
    wide = rows_ND if rows_ND.dtype == torch.float64 else rows_ND.float()
    # Relations do not move with the origin, but the difference of large squares loses digits far away from it.
    return wide - wide.mean(dim=0)


def _arithmetic(rows_ND: Tensor, parity: bool) -> AbstractContextManager[object]:
    """No autocast: in bf16 the Gram matrix of features with a common offset is off by more than the distances."""
    return nullcontext() if parity else torch.autocast(rows_ND.device.type, enabled=False)


def _nothing(student: Tensor) -> Tensor:
    return student.sum() * 0.0
