"""Choosing the best weights: scored on the selection rows, the best so far remembered, of the model or of each view.

They are kept in memory, and committed with each checkpoint as a directory of their own:

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
from understudy.kinds import sign_of
from understudy.train.devices import accelerator
from understudy.train.record import Record, digest
from understudy.train.task import Fit, State

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

        # Most checkpoints follow no better score: the same bytes need not be written again.
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


class Selection:
    """The best weights of one fit and how they were found."""

    def __init__(self, task: Fit, record: Record) -> None:
        self.task, self.record, self.net, self.along = task, record, task.model.net, task.objective.projections
        self.best = Best(task.folder)

    def evaluate(self, state: State, epoch: int) -> None:
        """Score the current weights, keep them if they are better than all before, and write it down."""
        self.net.eval()
        shown = {"select": self._whole(state)} if self.task.views is None else {"views": self._each(state)}
        self.net.train()
        self.record.add({"step": state.step, "epoch": epoch, **shown, "weights": digest(self.net)})

    def _whole(self, state: State) -> dict[str, float]:
        values = self._scores()
        value = values[self.task.select]
        if self._better(value, state.best_value):
            state.best_step, state.best_value, state.best_metrics, state.since_best = state.step, value, values, 0
            self.best.take(self.net, state.step)
            if any(True for _ in self.along.parameters()):  # a held-out objective is that of net and projections together
                self.best.take(self.along, state.step, PROJECTIONS)
        else:
            state.since_best += 1
        return values

    def _each(self, state: State) -> dict[str, dict[str, float]]:
        """Every view by itself. Patience counts evaluations in which no watched view got better."""
        views, scores, waited = self.task.views, {}, True
        assert views is not None
        for name in views.all:
            with views.use(name):
                scores[name] = values = self._scores()
            value = values[self.task.select]
            seen = state.views.setdefault(name, {"best_step": None, "best_value": None, "best_metrics": {}, "values": []})
            seen["values"].append([state.step, value])
            if self._better(value, seen["best_value"]):
                seen.update(best_step=state.step, best_value=value, best_metrics=values)
                self.best.take(views.small(name), state.step, name)
                state.best_step = state.step
                waited = waited and name not in views.watched
        state.since_best = state.since_best + 1 if waited else 0
        state.best_value = sum(seen["best_value"] for seen in state.views.values()) / len(state.views)
        return scores

    def finish(self, state: State, epoch: int) -> None:
        """At the end of a fit: the model gets its best weights; those of views are left in `best/`."""
        if not self.best.tensors and self.task.score is not None:
            self.evaluate(state, epoch)
        if self.task.views is None:
            self.best.put_back(self.net)
            self.best.put_back(self.along, PROJECTIONS)
        elif accelerator().is_main_process:
            self.best.save()

    def _better(self, value: float, best: float | None) -> bool:
        """Strictly; so that any first value, 0 or below, is better than none."""
        sign = sign_of(self.task.select)
        return best is None or sign * value > sign * best

    def _scores(self) -> dict[str, float]:
        """The main process's numbers, so that all of them stop and choose alike."""
        assert self.task.score is not None
        values, acc = self.task.score(), accelerator()
        if acc.num_processes == 1:
            return values
        mine = torch.tensor(list(values.values()), dtype=torch.float64, device=acc.device)
        agreed = torch.as_tensor(acc.reduce(mine if acc.is_main_process else torch.zeros_like(mine), reduction="sum"))
        return dict(zip(values, agreed.tolist(), strict=True))
