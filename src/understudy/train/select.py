"""Choosing the best weights: scored on the selection rows, the best so far remembered, of the model or of each view."""

from __future__ import annotations

import torch

from understudy.kinds import sign_of
from understudy.train.best import PROJECTIONS, Best
from understudy.train.devices import accelerator
from understudy.train.record import Record, digest
from understudy.train.task import Fit, State


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


