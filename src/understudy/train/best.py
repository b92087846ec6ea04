"""The best weights so far: kept in memory, committed with each checkpoint as a directory of their own.

    best/
      model.safetensors    of the whole model; or one file for each view, under its name
      projections.safetensors   what its objective trained along at that step, where there is any
      best.json            the step they are from (of several the last one), and the step of each
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from understudy.base import disk

WHOLE, PROJECTIONS = "model", "projections"


class Best:
    """A copy of the weights that scored best, and the step they are from; of the whole model, or of each view."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "best"
        self.steps: dict[str, int] = {}
        self.tensors: dict[str, dict[str, Tensor]] = {}

    def take(self, net: nn.Module, step: int, name: str = WHOLE) -> None:
        """Copy the current weights, frozen ones apart; tensors with two names (tied weights) are kept under the first."""
        first: dict[int, str] = {}
        for key, tensor in net.state_dict(keep_vars=True).items():
            if tensor.requires_grad or not isinstance(tensor, nn.Parameter):
                first.setdefault(id(tensor), key)
        kept = set(first.values())
        state = net.state_dict()
        self.tensors[name] = {key: tensor.detach().cpu().clone() for key, tensor in state.items() if key in kept}
        self.steps[name] = step

    def put_back(self, net: nn.Module, name: str = WHOLE) -> None:
        """Give the net its best weights; without any it keeps those it has."""
        own = net.state_dict(keep_vars=True)
        with torch.no_grad():
            for key, tensor in self.tensors.get(name, {}).items():
                own[key].copy_(tensor)

    def save(self) -> None:
        """Commit them, unless these are on disk already."""
        from safetensors.torch import save

        if not self.tensors or (self._saved_steps() == self.steps and not disk.problems(self.folder)):
            return
        with disk.commit_dir(self.folder) as folder:
            for name, tensors in self.tensors.items():
                disk.write_bytes(folder / f"{name}.safetensors", save(tensors))
            disk.write_json(folder / "best.json", {"step": max(self.steps.values()), "steps": self.steps})

    def load(self, step: int | None) -> None:
        """Read what was committed. A damaged copy is left: the fit passes its step again, or the next best one."""
        from safetensors.torch import load_file

        if step is not None and self.folder.is_dir() and not disk.problems(self.folder):
            self.steps = self._saved_steps()
            self.tensors = {name: load_file(self.folder / f"{name}.safetensors") for name in self.steps}

    def _saved_steps(self) -> dict[str, int]:
        mark = self.folder / "best.json"
        return disk.read_json(mark)["steps"] if mark.exists() else {}
