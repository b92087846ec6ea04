"""The best weights so far: kept in memory, committed with each checkpoint as a directory of their own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from understudy.base import disk


class Best:
    """A copy of the weights that scored best, and the step they are from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "best"
        self.step: int | None = None
        self.tensors: dict[str, Tensor] | None = None

    def take(self, net: nn.Module, step: int) -> None:
        """Copy the current weights; tensors with two names (tied weights) are kept under the first."""
        first: dict[int, str] = {}
        for name, tensor in net.state_dict(keep_vars=True).items():
            first.setdefault(id(tensor), name)
        kept = set(first.values())
        self.tensors = {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items() if name in kept}
        self.step = step

    def put_back(self, net: nn.Module) -> None:
        """Give the net its best weights; without any it keeps those it has."""
        if self.tensors is None:
            return
        own = net.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                own[name].copy_(tensor)

    def save(self) -> None:
        """Commit them, unless these are on disk already."""
        from safetensors.torch import save

        if self.tensors is None or (self._saved_step() == self.step and not disk.problems(self.folder)):
            return
        with disk.commit_dir(self.folder) as folder:
            disk.write_bytes(folder / "model.safetensors", save(self.tensors))
            disk.write_json(folder / "best.json", {"step": self.step})

    def load(self, step: int | None) -> None:
        """Read what was committed. A damaged copy is left: the fit passes its step again, or the next best one."""
        from safetensors.torch import load_file

        if step is not None and self.folder.is_dir() and not disk.problems(self.folder):
            self.tensors, self.step = load_file(self.folder / "model.safetensors"), self._saved_step()

    def _saved_step(self) -> int | None:
        mark = self.folder / "best.json"
        return disk.read_json(mark)["step"] if mark.exists() else None
