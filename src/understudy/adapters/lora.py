"""Adapters of single linear maps: LoRA (Hu et al. 2022) and (IA)^3 (Liu et al. 2022), with peft's numbers.

Both can be merged into the weights they stand beside; the merged model is a stock model that computes the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.recipe.adapter import LoraAdapter


class Lora(nn.Module):
    """y + s B A x beside one Linear. Shapes: A (r, in), B (out, r); s = alpha / r."""

    def __init__(self, config: LoraAdapter, linear: nn.Linear) -> None:
        super().__init__()
        self.config = config
        self.A = nn.Parameter(torch.empty(config.r, linear.in_features))
        self.B = nn.Parameter(torch.zeros(linear.out_features, config.r))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def on_output(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        x = F.dropout(inputs[0], self.config.dropout, self.training)
        return output + F.linear(F.linear(x, self.A), self.B) * self.config.scaling

    @torch.no_grad()
    def merge(self, host: nn.Linear) -> None:
        host.weight += self.config.scaling * (self.B @ self.A)


class Ia3(nn.Module):
    """l ⊙ y (or W (l ⊙ x), on a feed-forward map) of one Linear. Shape: l (out,), or (in,)."""

    def __init__(self, linear: nn.Linear, *, on_input: bool) -> None:
        super().__init__()
        self.scales_input = on_input
        self.l = nn.Parameter(torch.ones(linear.in_features if on_input else linear.out_features))

    def on_input(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] * self.l, *inputs[1:])

    def on_output(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output * self.l

    @torch.no_grad()
    def merge(self, host: nn.Linear) -> None:
        if self.scales_input:
            host.weight *= self.l
            return
        host.weight *= self.l[:, None]
        if host.bias is not None:
            host.bias.mul_(self.l)
