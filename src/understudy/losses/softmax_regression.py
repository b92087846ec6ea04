"""The student's feature, read by the teacher's own head (Yang et al., ICLR 2021, "softmax regression", equation 7)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import Reduction
from understudy.losses.soft import soft_binary_cross_entropy, soft_cross_entropy, soft_mse


def head_logits(feature: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W f + b with a frozen head: the gradient flows through it into the feature and never into the head.

    feature: (N, D). weight: (C, D), bias: (C,) or None, the teacher's last Linear. Returns (N, C).
    """
    if feature.ndim != 2 or weight.ndim != 2 or feature.shape[1] != weight.shape[1]:
        raise ValueError(
            f"The teacher's head {tuple(weight.shape)} cannot read features {tuple(feature.shape)}: adapt the width."
        )
    return F.linear(feature, weight.detach(), None if bias is None else bias.detach())


def softmax_regression(
    feature: Tensor,
    teacher: Tensor,
    *,
    weight: Tensor,
    bias: Tensor | None = None,
    kind: Literal["mse", "cross_entropy", "binary_cross_entropy"] = "mse",
    reduction: Reduction = "mean",
) -> Tensor:
    """l(W A(f_s) + b, z_t) without a temperature: A(f_s) must mean to the teacher's head what f_t means.

    feature: (N, D), the student's feature, already adapted to the teacher's width D. teacher: logits (N, C).
    weight, bias: the teacher's head, (C, D) and (C,). kind: mse is averaged over the C outputs; cross_entropy is taken
    with softmax(z_t), binary_cross_entropy with sigmoid(z_t) for multi-label tasks.

    >>> import torch
    >>> feature, head = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> softmax_regression(feature, torch.tensor([[0.0, 0.0]]), weight=head).item()  # (1 + 4) / 2
    2.5
    """
    student = head_logits(feature, weight, bias)
    if kind == "mse":
        return soft_mse(student, teacher, reduction=reduction)
    if kind == "cross_entropy":
        return soft_cross_entropy(student, teacher, reduction=reduction)
    if kind == "binary_cross_entropy":
        return soft_binary_cross_entropy(student, teacher, reduction=reduction)
    raise ValueError(f"Softmax regression takes mse, cross_entropy or binary_cross_entropy, not {kind!r}.")
