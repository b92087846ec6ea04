"""Regression in two units. While training, a model's output has mean 0 and deviation 1 on the training labels, so that
one learning rate suits scores from 0 to 1 and prices in thousands; saved, it speaks the label's own units. The change is
exact: it is folded into the last Linear.
"""

from __future__ import annotations

import torch
from torch import nn

from understudy.models.anatomy import anatomy


def to_label_units(net: nn.Module, mean: float, deviation: float) -> None:
    """Standard units -> label units, in place: W·s, b·s + m."""
    head = anatomy(net).final_linear(net)
    with torch.no_grad():
        head.weight.mul_(deviation)
        head.bias.mul_(deviation).add_(mean)


def to_standard_units(net: nn.Module, mean: float, deviation: float) -> None:
    """Label units -> standard units, in place: W/s, (b - m)/s."""
    head = anatomy(net).final_linear(net)
    with torch.no_grad():
        head.weight.div_(deviation)
        head.bias.sub_(mean).div_(deviation)
