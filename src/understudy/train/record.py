"""metrics.jsonl: one line for each logged step and each evaluation. Trackers and reports are fed from it.

No line holds a time, so that two identical runs write identical files; a continued fit cuts the file back to what its
checkpoint knew, so that no line is doubled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import nn

from understudy.base import disk
from understudy.base.progress import say

METRICS = "metrics.jsonl"
MAX_STEPS = 2000
"""Rows of per-step values at most; longer fits log every so many steps."""


class Record:
    """Writes the file of one fit. `size` is its length in bytes, part of every checkpoint."""

    def __init__(self, folder: Path, name: str, trackers: Sequence[Any], *, writes: bool) -> None:
        self.path, self.name, self.trackers, self.writes = folder / METRICS, name, trackers, writes
        self.size = 0

    def cut(self, size: int) -> None:
        """Forget what was written after a checkpoint."""
        self.size = size
        if self.writes and self.path.exists():
            disk.truncate(self.path, size)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row, and tell the trackers."""
        if not self.writes:
            return
        line = json.dumps(row, allow_nan=False)
        disk.append_line(self.path, line)
        self.size += len(line.encode()) + 1
        flat = {key: row[key] for key in ("loss", "lr", "grad_norm") if key in row}
        flat |= {f"select/{key}": value for key, value in row.get("select", {}).items()}
        flat |= {f"term/{key}": value["value"] for key, value in row.get("terms", {}).items()}
        flat |= {f"select/{view}/{key}": x for view, of in row.get("views", {}).items() for key, x in of.items()}
        for tracker in self.trackers:
            try:
                tracker.log({f"{self.name}/{key}": value for key, value in flat.items()}, step=row["step"])
            except Exception as error:  # metrics.jsonl is the truth; a dead tracker cannot hurt a run
                say(f"A tracker failed ({error}); the run goes on.")


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The rows of a fit's file, in order; none where there is no file."""
    path = folder / METRICS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def digest(net: nn.Module) -> str:
    """xxh3-128 over all tensors of a module: the flight recorder's fingerprint of the weights."""
    state = xxhash.xxh3_128()
    for name, tensor in sorted(net.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()
