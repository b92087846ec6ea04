"""One vector of the student should equal one vector of the teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import FeatureLoss, Reduction, over_rows, same_shape


def output_feature(
    student: Tensor,
    teacher: Tensor,
    *,
    kind: FeatureLoss = "mse",
    over: Reduction = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """mse: |f_s - f_t|^2, divided by D unless `over` is "sum"; cosine: 1 - cos(f_s, f_t), in [0, 2].

    student, teacher: (N, D), the student's already adapted to the teacher's width. AutoMM's output-feature loss is
    mse with the mean over D, which makes the same weight count less for wider features; `over="sum"` does not.

    >>> import torch
    >>> student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]])
    >>> output_feature(student, teacher).item(), output_feature(student, teacher, over="sum").item()
    (8.0, 16.0)
    >>> round(output_feature(student, teacher, kind="cosine").item(), 6)  # 1 - 9 / (5 * 3)
    0.4
    """
    same_shape(student, teacher, what="output_feature")
    if student.ndim != 2:
        raise ValueError(f"output_feature takes one vector per row, (N, D); got {tuple(student.shape)}.")
    if kind == "cosine":
        return over_rows(1 - F.cosine_similarity(student, teacher.detach(), dim=1), reduction)
    if kind != "mse" or over not in ("mean", "sum"):
        raise ValueError(f"output_feature takes kind mse or cosine over mean or sum, not {kind!r} over {over!r}.")
    squares = (student - teacher.detach()).square()
    return over_rows(squares.mean(dim=1) if over == "mean" else squares.sum(dim=1), reduction)
