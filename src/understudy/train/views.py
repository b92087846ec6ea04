"""Several sub-networks of one model, trained together: what the loop must know of them.

A view is a part of the model that works by itself, such as the first heads and neurons of every layer. Views share their
weights, so one optimiser step adds up the gradients of all of them (MiniDisc; slimmable networks).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import nn


class Views(Protocol):
    """The sub-networks of the model of a fit."""

    @property
    def all(self) -> Sequence[str]:
        """Their names; each is scored at every evaluation."""
        ...

    @property
    def watched(self) -> Sequence[str]:
        """Those whose scores patience waits for."""
        ...

    def names(self, step: int) -> Sequence[str]:
        """Those that take part in an optimiser step: a function of the step alone, and the same in all processes."""
        ...

    def use(self, name: str) -> AbstractContextManager[Any]:
        """Inside this context the model *is* that sub-network, with the shared weights."""
        ...

    def small(self, name: str) -> nn.Module:
        """A network of that size and no larger, with copies of the present weights: what is kept of the best."""
        ...
