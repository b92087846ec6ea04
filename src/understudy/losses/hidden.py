"""Hidden states, token by token, of several layers at once (Jiao et al. 2020, TinyBERT, equation 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.losses.features import output_feature
from understudy.losses.rows import FeatureLoss, Reduction


def hidden_states(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, kind: FeatureLoss = "mse", reduction: Reduction = "mean"
) -> Tensor:
    """The mean over layer pairs of mean_D (W h_s - h_t)^2 or 1 - cos(W h_s, h_t); rows are tokens.

    student, teacher: one packed (T, D) per pair of layers, the student's already projected to the teacher's width.
    TinyBERT adds its layers up; the mean keeps the meaning of a weight when the number of layers changes.

    >>> import torch
    >>> one, other = torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.zeros(2, 2)
    >>> hidden_states([one, other], [other, other]).item()  # ((1 + 2) / 2 + 0) / 2
    0.75
    """
    if not student or len(student) != len(teacher):
        raise ValueError(f"hidden_states pairs layers: {len(student)} of the student, {len(teacher)} of the teacher.")
    pairs = zip(student, teacher, strict=True)
    return torch.stack([output_feature(s, t, kind=kind, reduction=reduction) for s, t in pairs]).mean()
