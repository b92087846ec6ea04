"""A checkpoint: everything a fit needs to go on as if nothing had happened, and no pickle.

    step-00000120/
      model.safetensors      the student's parameters and buffers, by name
      objective.safetensors  projections of the objective, if there are any
      optimizer.safetensors  `<parameter name>.exp_avg`, … by name, so that order never matters
      state.json             step, best score so far, split of the batch, length of metrics.jsonl, …
      manifest.json          checksums, written last
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from understudy.base import disk
from understudy.base.progress import say

PREFIX = "step-"
KEEP = 2


def named_parameters(net: nn.Module, objective: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters that are trained, under the names they have in checkpoints."""
    named = {f"model.{name}": parameter for name, parameter in net.named_parameters()}
    return named | {f"objective.{name}": parameter for name, parameter in objective.named_parameters()}


def _unshared(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors; one that has two names (tied weights) is stored once, under its first."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().cpu().contiguous()
    return tensors


def write_module(path: Path, module: nn.Module) -> None:
    """The tensors of a module as one safetensors file."""
    disk.write_bytes(path, save(_unshared(module)))


def read_module(path: Path, module: nn.Module) -> None:
    """Put saved tensors into a module of the same shape, in place."""
    own = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            own[name].copy_(tensor)


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    net: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> Path:
    """Commit `step-…` and let older ones go, all but the last `KEEP`."""
    path = folder / f"{PREFIX}{step:08d}"
    names = {id(parameter): name for name, parameter in named_parameters(net, objective).items()}
    moments = {
        f"{names[id(parameter)]}.{key}": value.detach().cpu().contiguous()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }
    with disk.commit_dir(path) as temporary:
        write_module(temporary / "model.safetensors", net)
        write_module(temporary / "objective.safetensors", objective)
        disk.write_bytes(temporary / "optimizer.safetensors", save(moments))
        disk.write_json(temporary / "state.json", {"step": step, **state})
    kept = sorted(p for p in folder.glob(f"{PREFIX}*") if p.is_dir())
    for old in kept[:-KEEP]:
        disk.remove(old)
    return path


def load_checkpoint(
    folder: Path, *, net: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Continue from the newest intact checkpoint; None where there is none. Says which ones it had to skip."""
    path, skipped = disk.latest_valid(folder, PREFIX)
    for wrong in skipped:
        then = f"continuing from {path.name}" if path else "starting again from the beginning"
        say(f"A checkpoint is damaged ({wrong}); {then}.")
    if path is None:
        return None
    restore(path, net=net, objective=objective, optimizer=optimizer)
    return disk.read_json(path / "state.json")


def restore(path: Path, *, net: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put one checkpoint's tensors into the model, the objective and the optimiser."""
    read_module(path / "model.safetensors", net)
    read_module(path / "objective.safetensors", objective)
    parameters = named_parameters(net, objective)
    for key, value in load_file(path / "optimizer.safetensors").items():
        name, moment = key.rsplit(".", 1)
        parameter = parameters[name]
        # AdamW keeps its step count on the CPU unless it is fused on a GPU; moments live with their parameter.
        optimizer.state[parameter][moment] = value.to(parameter.device)
