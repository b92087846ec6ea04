"""Students of several sparsities in one set of weights, as the loop trains them together (train/task.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from torch import nn

from understudy.base import seeds
from understudy.models.model import Model
from understudy.students.allocation import Allocation
from understudy.students.sparsify import Prefixes, sparsify


class Nested:
    """Sub-networks of a model, each a prefix of every layer.

    Args:
        model: cut to the largest of them, its units in the order of their importance.
        allocations: by name, from the largest to the smallest.
        sandwich: which of them take part in a step: all, or the largest, the smallest and one drawn from the others.
        seed: of that draw.
        watched: those whose scores patience waits for; None: all.
    """

    def __init__(
        self,
        model: Model,
        allocations: Mapping[str, Allocation],
        *,
        sandwich: Literal["all", "sampled"] = "all",
        seed: int = 0,
        watched: Sequence[str] | None = None,
    ) -> None:
        self.model, self.allocations, self.sandwich, self.seed = model, dict(allocations), sandwich, seed
        self.all = tuple(self.allocations)
        self.watched = self.all if watched is None else tuple(watched)
        self._prefixes = Prefixes(model, self.allocations)

    def names(self, step: int) -> Sequence[str]:
        """Those that take part in this optimiser step."""
        if self.sandwich == "all" or len(self.all) <= 3:
            return self.all
        # The largest and the smallest always: they bound what lies between (the sandwich rule of slimmable networks).
        largest, *others, smallest = self.all
        return (largest, others[seeds.numpy_rng(self.seed, "sandwich", step).integers(len(others))], smallest)

    def use(self, name: str) -> AbstractContextManager[None]:
        """Inside this context the model is that sub-network."""
        return self._prefixes.use(name)

    def small(self, name: str) -> nn.Module:
        """That sub-network by itself, with copies of the weights."""
        return sparsify(self.model, self.allocations[name]).net
