"""Patient knowledge distillation: the direction of the first token, layer by layer (Sun et al. 2019, equation 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from understudy.losses.features import output_feature
from understudy.losses.rows import Reduction


def patient(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    *,
    normalize: bool = True,
    over: Reduction = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    """The mean over layer pairs of | h_s/|h_s| - h_t/|h_t| |^2, h the state of the first token; in [0, 4].

    student, teacher: one (B, D) per pair of layers, the student's already projected to the teacher's width.
    Deviates: equation 7 adds the layers up, here they are averaged. The released code averages over D as well
    (`over="mean"`), which makes its weights 768 times as large as those of the equation.

    >>> import torch
    >>> patient([torch.tensor([[0.0, 5.0]])], [torch.tensor([[2.0, 0.0]])]).item()  # unit vectors at a right angle
    2.0
    """
    if not student or len(student) != len(teacher):
        raise ValueError(f"patient pairs layers: {len(student)} of the student, {len(teacher)} of the teacher.")
    values = []
    for s_BD, t_BD in zip(student, teacher, strict=True):
        if normalize:
            s_BD, t_BD = F.normalize(s_BD, dim=1), F.normalize(t_BD, dim=1)
        values.append(output_feature(s_BD, t_BD, over=over, reduction=reduction))
    return torch.stack(values).mean()
