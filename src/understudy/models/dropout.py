"""Dropout whose random numbers cost a seventh on a CPU: sixteen random bits for each number instead of 64.

torch draws one 64-bit number for each place; that was a fifth of a training step of a small student on a processor with
fast matrix products. The probability is rounded to 1/65,536. On other devices torch's own dropout is as good as it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


def factors(shape: Sequence[int], probability: float, like: Tensor) -> Tensor:
    """What dropout multiplies by: 0 with `probability`, else 1 / (1 - probability); `shape`, on the CPU, as `like`'s type.

    Drawn from torch's generator, so that its seed decides.
    """
    dropped = round(probability * _LEVELS)
    count = prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    kept = bits.ge_(dropped - _LEVELS // 2)  # 0 or 1 in place: turning booleans into numbers takes six times as long
    return kept.to(like.dtype).mul_(_LEVELS / (_LEVELS - dropped)).view(*shape)


def dropout(x: Tensor, probability: float) -> Tensor:
    """Training-time dropout."""
    if x.device.type != "cpu" or not 0 < probability < 1 - 1 / _LEVELS:
        return F.dropout(x, probability)
    return x * factors(x.shape, probability, x)


class Dropout(nn.Dropout):
    """nn.Dropout by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def quicken(net: nn.Module) -> None:
    """Let a model's dropouts use it. What they are saved as, and what they do in eval mode, stays."""
    for module in net.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = Dropout
