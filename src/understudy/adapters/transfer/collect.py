"""How the dimensions of two models go together, from sums over tokens: memory does not grow with the text.

For each student layer, teacher layer, place and side (what a module reads, what it writes) six sums are kept in float64:
n, Σx, Σy, Σxy, Σx², Σy², all around the first token seen, so that a constant dimension has a variance of exactly zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.adapters.inject import places, resting
from understudy.adapters.transfer.match import Pairs
from understudy.adapters.transfer.plan import Plan
from understudy.base.errors import DataError
from understudy.data.encode import Encoded, collate
from understudy.kinds import kind
from understudy.models.anatomy import Net, anatomy
from understudy.models.attention import pad_index
from understudy.models.needs import Needs
from understudy.models.signals import forward
from understudy.recipe.adapter import AdapterSettings, BottleneckAdapter, LoraAdapter

Point = tuple[int, str, str]
"""(layer, place, side)."""
Link = tuple[int, int, str, str]
"""(student layer, teacher layer, place, side)."""
_ROWS = 8


class Sums:
    """Pearson correlation of (n, S) with (n, T), fed in pieces. Memory: S x T float64."""

    def __init__(self) -> None:
        self.n = 0
        self._start: tuple[Tensor, Tensor] | None = None

    def add(self, y: Tensor, x: Tensor) -> None:
        """Rows of y (n, S) and x (n, T) belong together."""
        if len(y) == 0:
            return
        y, x = y.double(), x.double()
        if self._start is None:
            self._start = (y[0].clone(), x[0].clone())
            self._y, self._x = torch.zeros_like(y[0]), torch.zeros_like(x[0])
            self._yy, self._xx = torch.zeros_like(y[0]), torch.zeros_like(x[0])
            self._yx = y.new_zeros(y.shape[1], x.shape[1])
        y, x = y - self._start[0], x - self._start[1]
        self.n += len(y)
        self._y += y.sum(0)
        self._x += x.sum(0)
        self._yy += (y * y).sum(0)
        self._xx += (x * x).sum(0)
        self._yx.addmm_(y.T, x)

    def correlation(self) -> np.ndarray:
        """(S, T) float64; rows and columns of constant dimensions are 0.

        Raises DataError where an activation was NaN or infinite.
        """
        if self.n == 0:
            raise DataError("No token was seen, so nothing can be correlated; give more rows.")
        covariance = self._yx - torch.outer(self._y, self._x) / self.n
        if not bool(torch.isfinite(covariance).all()):
            raise DataError("An activation of one of the models is NaN or infinite, so its dimensions cannot be aligned.")
        spread_y = (self._yy - self._y**2 / self.n).clamp(min=0).sqrt()
        spread_x = (self._xx - self._x**2 / self.n).clamp(min=0).sqrt()
        scale = torch.outer(spread_y, spread_x)
        found = torch.where(scale > 0, covariance / scale.where(scale > 0, 1.0), 0.0).clamp(-1, 1)
        return found.cpu().numpy()


def collect(
    teacher: Net, student: Net, plan: Plan, encoded: tuple[Encoded, Encoded], pairs: Pairs
) -> dict[Link, Sums]:
    """Run both bare models, in eval mode, over the same examples, and keep the sums of every pair of places. An adapter
    that is in one of them rests meanwhile.

    Args:
        encoded: the examples in the teacher's tokens, and in the student's.
        pairs: which of these belong together (`match_tokens`).
    """
    sums: dict[Link, Sums] = {}
    for start in range(0, len(pairs), _ROWS):
        rows = range(start, min(start + _ROWS, len(pairs)))
        with resting(teacher, student):
            theirs, ours = (
                _activations(net, data, rows, plan) for net, data in zip((teacher, student), encoded, strict=True)
            )
        left, right = (_positions(data, rows, pairs, side) for side, data in enumerate(encoded))
        for layer, place, side in ours:
            for source in plan.sources[layer]:
                y, x = ours[layer, place, side], theirs[source, place, side]
                link = (layer, source, place, side)
                sums.setdefault(link, Sums()).add(y[right.to(y.device)], x[left.to(x.device)].to(y.device))
    return sums


def _positions(encoded: Encoded, rows: Sequence[int], pairs: Pairs, side: int) -> Tensor:
    """Where the matched tokens of these rows stand in their packed batch."""
    lengths = encoded.lengths[list(rows)]
    starts = np.cumsum(lengths) - lengths
    return torch.from_numpy(np.concatenate([pairs[row][side] + start for row, start in zip(rows, starts, strict=True)]))


@torch.inference_mode()
def _activations(net: Net, encoded: Encoded, rows: Sequence[int], plan: Plan) -> dict[Point, Tensor]:
    """Point -> (T, D), packed, for these rows."""
    net.eval()
    row = anatomy(net)
    batch = collate(encoded, list(rows)).to(next(net.parameters()).device)
    with recording(net, plan.module, released=plan.settings.probe == "released") as seen:
        forward(net, batch, Needs(hidden=(row.num_layers(net),)), kind=kind("tokens"))

    def packed(tensor: Tensor) -> Tensor:
        if row.packs:
            return tensor.reshape(-1, tensor.shape[-1])
        return tensor.flatten(0, 1)[pad_index(batch.sizes, tensor.device)]

    return {point: packed(tensor) for point, tensor in seen.items()}


@contextmanager
def recording(net: Net, module: AdapterSettings, *, released: bool = False) -> Iterator[dict[Point, Tensor]]:
    """What passes the places of such a module in a bare model, during one forward pass. Nothing is changed.

    With `released` every layer of a LoRA's model runs the last layer's query projection instead, as in the released code.
    """
    seen: dict[Point, Tensor] = {}
    parts: dict[Any, Tensor] = {}
    handles = []

    def keep(point: Point, module: Any, *, entry: bool) -> None:
        def on_input(host: Any, inputs: Any) -> None:
            seen.setdefault(point, inputs[0])  # of several calls the first is the content

        def on_output(host: Any, inputs: Any, output: Tensor) -> None:
            seen.setdefault(point, output)

        handles.append(module.register_forward_pre_hook(on_input) if entry else module.register_forward_hook(on_output))

    def keep_sum(point: Point, host: Any, entry: Any) -> None:
        def on_entry(module: Any, inputs: Any) -> None:
            parts[point] = inputs[0]

        def on_output(module: Any, inputs: Any, output: Tensor) -> None:
            seen[point] = parts[point] + output

        handles.extend((entry.register_forward_pre_hook(on_entry), host.register_forward_hook(on_output)))

    for place in places(net, module):
        reads, writes = (place.layer, place.name, "in"), (place.layer, place.name, "out")
        if not isinstance(module, BottleneckAdapter):
            keep(reads, place.host, entry=True)
            keep(writes, place.host, entry=False)
            continue
        block = place.block or place.host
        keep(writes, block, entry=False)
        if module.is_parallel:
            keep(reads, place.entry, entry=True)
        elif not module.original_ln_before:
            keep(reads, block, entry=False)
        elif place.block is not None:
            keep(reads, place.host, entry=False)
        else:
            keep_sum(reads, place.host, place.entry)
    if released and isinstance(module, LoraAdapter):
        queries = [anatomy(net).qkv(layer)[0] for layer in anatomy(net).layers(net)]
        for query in queries[:-1]:
            handles.append(query.register_forward_hook(lambda host, inputs, output: queries[-1].forward(inputs[0])))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
