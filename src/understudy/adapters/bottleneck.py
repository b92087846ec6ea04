"""Bottleneck adapters: x + U f(D x), beside the attention or feed-forward block of a frozen layer.

One formula covers Houlsby et al. (2019), Pfeiffer et al. (2021) and the parallel form of He et al. (2022), by where the
residual and LayerNorm stand; the settings are AdapterHub's. With h what the block adds to the residual sum, e the block's
entry (the residual), N the layer's own LayerNorm, and D, U, f the bottleneck:

    sequential   x = N(h + e) if original_ln_before else h
                 r = h if residual_before_ln else x
    parallel     x = e, r = h
    then         o = r + s U f(D x)
                 N(o + e) goes on if original_ln_after, else o

Families with the norm before the block have no N behind it: N is left out, and e is added by the layer itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.base.errors import RecipeError
from understudy.recipe.adapter import BottleneckAdapter

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "swish": F.silu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leakyrelu": F.leaky_relu,
}


def size_of(width: int, reduction_factor: float) -> int:
    """Width of the bottleneck, as AdapterHub rounds it: downwards, and at least one.

    >>> size_of(768, 16), size_of(10, 16)
    (48, 1)
    """
    return max(1, int(width // reduction_factor))


class Caught:
    """A value caught in this forward pass, until it is used. Copying a model does not copy it."""

    def __init__(self) -> None:
        self._tensor: Tensor | None = None

    def on_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._tensor = inputs[0]

    def on_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._tensor = output

    def take(self) -> Tensor:
        assert self._tensor is not None, "a forward pass reached an adapter without passing its block"
        tensor, self._tensor = self._tensor, None
        return tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> Caught:
        memo[id(self)] = fresh = Caught()
        return fresh


class Bottleneck(nn.Module):
    """One bottleneck. `host` is the module whose output it changes: the block's LayerNorm, or, where the norm comes
    first, what the block adds to the residual sum.

    Shapes: any (..., D) with D = `width`; M = size of the bottleneck.
    """

    def __init__(self, config: BottleneckAdapter, width: int, *, pre_norm: bool) -> None:
        super().__init__()
        if pre_norm and not config.original_ln_after:
            raise RecipeError(
                "original_ln_after: false leaves out the residual sum, which families with the norm before the block "
                "always make; leave it at true."
            )
        self.config, self.pre_norm = config, pre_norm
        self.norm_before = nn.LayerNorm(width) if config.ln_before else None
        self.down = nn.Linear(width, size_of(width, config.reduction_factor))
        self.up = nn.Linear(self.down.out_features, width)
        self.norm_after = nn.LayerNorm(width) if config.ln_after else None
        self.block, self.entry = Caught(), Caught()
        self._initialise(config.init_weights)

    def _initialise(self, how: str) -> None:
        for linear in (self.down, self.up):
            nn.init.zeros_(linear.bias)
            if how == "bert":
                nn.init.normal_(linear.weight, std=0.02)
            elif how == "houlsby":
                nn.init.trunc_normal_(linear.weight, std=0.01, a=-0.02, b=0.02)
        if how == "mam_adapter":
            nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
            nn.init.zeros_(self.up.weight)

    def change(self, x: Tensor, residual: Tensor) -> Tensor:
        """o of the formula above."""
        config = self.config
        x = x if self.norm_before is None else self.norm_before(x)
        added = self.up(ACTIVATIONS[config.non_linearity](self.down(x))) * config.scaling
        added = F.dropout(added, config.dropout, self.training)
        if self.norm_after is None:
            return residual + added
        if config.adapter_residual_before_ln and not config.is_parallel:
            return self.norm_after(residual + added)
        return residual + self.norm_after(added)

    def on_output(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """The hook on `host`: its output with the adapter in place."""
        config, entry = self.config, self.entry.take()
        block = output if self.pre_norm else self.block.take()
        behind = block + entry if self.pre_norm else output
        if config.is_parallel:
            changed = self.change(entry, block)
        else:
            x = behind if config.original_ln_before else block
            changed = self.change(x, block if config.residual_before_ln else x)
        if self.pre_norm or not config.original_ln_after:
            return changed
        return host.forward(changed + entry)
