"""Gradients of large embeddings on a CPU: only the rows of a step's own words are written and cleared.

torch allocates a new gradient for a table of 30,522 words in each step, zero but for a few hundred rows. Allocating and
clearing that memory was a tenth of a step of a small student. Here one gradient is kept, and whatever reads it (norm,
optimiser) sees the same dense tensor as always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FEWEST_ROWS = 4096
"""Below, as in tables of positions, most rows occur in every step."""


class RowGradients:
    """The gradients of a network's large embeddings."""

    def __init__(self, net: nn.Module) -> None:
        self.tables = [
            module
            for module in net.modules()
            if isinstance(module, nn.Embedding) and module.num_embeddings >= FEWEST_ROWS and module.weight.requires_grad
        ]
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        """Number of the table -> its gradient, and the rows of it that are not zero."""

    @contextmanager
    def sparse(self) -> Iterator[None]:
        """Within, a backward pass leaves the rows of its words alone; `fill` makes a gradient of them."""
        before = [table.sparse for table in self.tables]
        for table in self.tables:
            table.sparse = True
        try:
            yield
        finally:
            for table, was in zip(self.tables, before, strict=True):
                table.sparse = was

    def fill(self) -> None:
        """Make dense gradients of what backward passes left; one that is dense (tied to an output layer) stays."""
        for number, table in enumerate(self.tables):
            rows = table.weight.grad
            if rows is None or not rows.is_sparse:
                continue
            if number in self._kept:
                dense, written = self._kept[number]
                dense.index_fill_(0, written, 0)
            else:
                dense = torch.zeros_like(table.weight)
            written, values = rows._indices()[0], rows._values()
            dense.index_add_(0, written, values)
            self._kept[number] = dense, written
            table.weight.grad = None  # its layout may not change while it is there
            table.weight.grad = dense
