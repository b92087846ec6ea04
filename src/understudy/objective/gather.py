"""Pairwise terms need the rows of all processes in one place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """How many processes train together; 1 outside torchrun."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather_rows(rows_ND: Tensor) -> Tensor:
    """The rows of all processes one behind the other, (sum of N, D). Processes may have different numbers of rows.

    The gradient of a process's own rows is the sum of what all processes send back to them. So if each computes 1/W of
    the same loss, gradients added over the W processes are those of one process with the whole batch.
    """
    counts = torch.zeros(world_size(), dtype=torch.int64, device=rows_ND.device)
    counts[distributed.get_rank()] = rows_ND.shape[0]
    distributed.all_reduce(counts)
    return _Gather.apply(rows_ND, counts.tolist())  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        most = max(counts)
        padded = rows_ND.new_zeros((most, *rows_ND.shape[1:]))
        padded[: rows_ND.shape[0]] = rows_ND
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        start = sum(ctx.counts[: distributed.get_rank()])
        return total[start : start + ctx.counts[distributed.get_rank()]], None
