"""From the student's width to the teacher's: small trainable maps, thrown away after training.

They belong to the objective, are trained and saved in checkpoints with it, and never reach the finished student.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from understudy.base.errors import RecipeError
from understudy.base.seeds import torch_seed
from understudy.base.suggest import did_you_mean
from understudy.losses import head_logits

ADAPTORS = ("auto", "identity", "linear", "linear_norm", "mlp")


class Projection(NamedTuple):
    """A module and the name it is stored under. Terms that name the same one share it."""

    name: str
    module: nn.Module


def projection(name: str, kind: str, *, student_width: int, teacher_width: int, seed: int) -> Projection:
    """A map (N, D_s) -> (N, D_t), initialised by the seed and its name and by nothing else.

    auto: linear where the widths differ, else identity (AutoMM's rule). linear: with bias. linear_norm: LayerNorm
    behind it. mlp: linear, GELU, linear. Raises RecipeError for identity between different widths.
    """
    if kind == "auto":
        kind = "identity" if student_width == teacher_width else "linear"
    if kind == "identity":
        if student_width != teacher_width:
            raise RecipeError(
                f"An identity adaptor needs equal widths, but the student's is {student_width} and the teacher's "
                f"{teacher_width}; set its adaptor to auto, linear, linear_norm or mlp."
            )
        return Projection(name, nn.Identity())
    with torch_seed(seed, "projection", name):
        linear = nn.Linear(student_width, teacher_width)
        if kind == "linear":
            return Projection(name, linear)
        if kind == "linear_norm":
            return Projection(name, nn.Sequential(linear, nn.LayerNorm(teacher_width)))
        if kind == "mlp":
            return Projection(name, nn.Sequential(linear, nn.GELU(), nn.Linear(teacher_width, teacher_width)))
    raise RecipeError(f"Unknown adaptor '{kind}'; use one of {', '.join(ADAPTORS)}.{did_you_mean(kind, ADAPTORS)}")


class FrozenHead(nn.Module):
    """The teacher's last Linear: moves with the objective from device to device, and is neither trained nor saved.

    Args:
        weight: (C, D_t). bias: (C,) or None. Copied, so the teacher is left alone.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        weight = weight.detach().clone()
        weight = weight if weight.dtype == torch.float64 else weight.float()
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias.detach().clone().to(weight)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, feature_ND: Tensor) -> Tensor:
        return head_logits(feature_ND, self.weight, self.bias)
