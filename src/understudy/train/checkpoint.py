"""A checkpoint: everything a fit needs to go on as if nothing had happened, and no pickle.

    step-00000120/
      model.safetensors      the student's parameters and buffers, by name
      objective.safetensors  projections of the objective, if there are any
      optimizer.safetensors  `<parameter name>.exp_avg`, … by name, so that order never matters
      state.json             step, best score so far, split of the batch, length of metrics.jsonl, …
      manifest.json          checksums, written last

Two things that belong to it lie beside it: metrics.jsonl up to the recorded length (state.json holds its checksum), and
best/, the best weights so far. A checkpoint whose companions are lost is not used: going on from an older one, or from
the beginning, makes them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file, save
from torch import Tensor, nn

from understudy.base import disk
from understudy.base.progress import say
from understudy.train.record import METRICS

PREFIX = "step-"
KEEP = 2
BEST = "best"


def named_parameters(net: nn.Module, objective: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters that are trained, under the names they have in checkpoints."""
    named = {f"model.{name}": parameter for name, parameter in net.named_parameters()}
    return named | {f"objective.{name}": parameter for name, parameter in objective.named_parameters()}


def _unshared(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors that may change: all but frozen parameters. One that has two names (tied weights) is stored
    once, under its first."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
        if id(tensor) not in seen and not frozen:
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
    """Commit `step-…` and let older ones go, all but the last `KEEP`.

    Args:
        state: JSON. `metrics_bytes` and `best_step`, where given, tie metrics.jsonl and best/ to the checkpoint.
    """
    path = folder / f"{PREFIX}{step:08d}"
    if (folder / METRICS).exists():
        disk.sync_file(folder / METRICS)
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
        metrics = _beginning(folder / METRICS, state.get("metrics_bytes", 0))
        disk.write_json(temporary / "state.json", {"step": step, "metrics_bytes": 0, **state, "metrics_xxh3": metrics})
    committed = sorted(p for p in folder.glob(f"{PREFIX}*") if p.is_dir())
    older = [p for p in committed if p.name <= path.name]
    unusable = [p for p in committed if p.name > path.name]  # skipped when this run was continued
    for old in unusable + older[:-KEEP]:
        disk.remove(old)
    return path


def _beginning(path: Path, length: int) -> str | None:
    """Checksum of the first `length` bytes of a file; None where it is shorter."""
    content = b""
    if path.exists():
        with open(path, "rb") as handle:
            content = handle.read(length)
    return xxhash.xxh3_128_hexdigest(content) if len(content) == length else None


def _lost(path: Path) -> list[str]:
    """What an intact checkpoint lacks outside its own folder."""
    state, folder = disk.read_json(path / "state.json"), path.parent
    found = []
    if "metrics_xxh3" in state and state["metrics_xxh3"] != _beginning(folder / METRICS, state["metrics_bytes"]):
        found.append(f"{folder / METRICS} is not what it was when {path.name} was saved")
    best = state.get("best_step")
    if best is not None:
        # After a kill between the two commits best/ may already hold a later step; going on from here reaches it again.
        wrong = disk.problems(folder / BEST)
        wrong = wrong or ([] if disk.read_json(folder / BEST / "best.json")["step"] >= best else ["it is an older one"])
        found += [f"the best weights for {path.name} are lost: {wrong[0]}"] if wrong else []
    return found


def load_checkpoint(
    folder: Path, *, net: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Continue from the newest intact checkpoint; None where there is none. Says which ones it had to skip."""
    path, skipped = disk.latest_valid(folder, PREFIX, also=_lost)
    for wrong in skipped:
        then = f"continuing from {path.name}" if path else "starting again from the beginning"
        say(f"A checkpoint is damaged ({wrong}); {then}.")
    if path is None:
        return None
    restore(path, net=net, objective=objective, optimizer=optimizer)
    return read_state(path)


def read_state(path: Path) -> dict[str, Any]:
    """The `state` a checkpoint was saved with, and its step."""
    state = disk.read_json(path / "state.json")
    state.pop("metrics_xxh3", None)
    return state


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
