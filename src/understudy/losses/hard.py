"""Learning from the labels: one loss for each kind of task. There is no temperature here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import Reduction, labelled, over_rows, same_shape


def cross_entropy(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """-log softmax(z)_y: one right class per row.

    logits: (N, C). labels: (N,) int64 in 0..C-1. weights: (C,), how much a row of each class counts; the mean is still
    over N rows, so weights of 1 on average leave it as large as it was.

    >>> import torch
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()  # log 2
    0.6931471824645996
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"cross_entropy takes logits (N, C) and labels (N,); got {_shapes(logits, labels)}.")
    return over_rows(F.cross_entropy(logits, labels, weight=weights, reduction="none"), reduction)


def focal(
    logits: Tensor, labels: Tensor, *, gamma: float, weights: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """(1 - p_y)^gamma times cross-entropy: rows that are right already count less (Lin et al. 2017, eq. 4 and 5).

    logits: (N, C). labels: (N,) int64. weights: (C,), as in `cross_entropy`. gamma 0 is cross-entropy.

    >>> import torch
    >>> round(focal(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), gamma=2.0).item(), 4)  # log 2 / 4
    0.1733
    """
    plain_N = cross_entropy(logits, labels, reduction="none")
    costs_N = plain_N if weights is None else cross_entropy(logits, labels, weights=weights, reduction="none")
    wrong_N = (-torch.expm1(-plain_N)).clamp_min(1e-12)  # 1 - p_y; at 0 a power below 1 has no gradient
    return over_rows(wrong_N**gamma * costs_N, reduction)


def token_cross_entropy(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy over the tokens that have a label; the others, -100, neither count nor cost.

    logits: (T, C), or (M, C) for the M labelled tokens alone. labels: (T,) int64. weights: (C,), as in `cross_entropy`.

    >>> import torch
    >>> token_cross_entropy(torch.tensor([[9.0, 0.0], [0.0, 0.0]]), torch.tensor([-100, 0])).item()
    0.6931471824645996
    """
    rows_MC, labels_M = labelled(labels, logits, labels)
    return cross_entropy(rows_MC, labels_M, weights=weights, reduction=reduction)


def binary_cross_entropy(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Multi-label: the mean over C independent yes-or-no labels of -w y log s(z) - (1-y) log(1 - s(z)), s the sigmoid.

    logits, labels: (N, C), labels 0 or 1 as floating point. weights: (C,) w, how much a row that has the label counts; 1
    where they are None.

    >>> import torch
    >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item()
    0.6931471824645996
    """
    same_shape(logits, labels, what="binary_cross_entropy")
    values = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), pos_weight=weights, reduction="none")
    return over_rows(values.mean(dim=1), reduction)


def squared_error(prediction: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Regression: (z - y)^2.

    prediction: (N, 1) or (N,). labels: (N,) floating point, on the scale the student is trained on.

    >>> import torch
    >>> squared_error(torch.tensor([[3.0], [0.0]]), torch.tensor([1.0, 1.0])).item()  # (4 + 1) / 2
    2.5
    """
    # Made equal here on purpose: (N, 1) against (N,) would broadcast to N x N.
    flat_N = prediction.squeeze(1) if prediction.ndim == 2 and prediction.shape[1] == 1 else prediction
    if flat_N.ndim != 1 or flat_N.shape != labels.shape:
        raise ValueError(f"squared_error takes one number per row; got {_shapes(prediction, labels)}.")
    return over_rows((flat_N - labels).square(), reduction)


def _shapes(logits: Tensor, labels: Tensor) -> str:
    return f"{tuple(logits.shape)} and {tuple(labels.shape)}"
