"""What a search for architectures tries: a student of given sizes, its short distillation, its latency, its reward.

All candidates learn from the same rows and from the teacher's outputs that were computed once. Each is a durable step
named by its number in the space; what is not among the best is deleted once its value is in the study.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from understudy.base import disk, seeds
from understudy.base.errors import RecipeError, ResourceError, UnderstudyError
from understudy.base.progress import say
from understudy.data.split import subset
from understudy.data.types import TaskData
from understudy.evaluate import measure
from understudy.kinds import lower_is_better
from understudy.lab.lab import Lab
from understudy.lab.objective import about, objective_for, variances_of
from understudy.lab.vocabulary import with_embeddings
from understudy.methods.kdnas.reward import FLOOR, over_budget, ranked, reward
from understudy.methods.kdnas.settings import KDNAS
from understudy.methods.kdnas.space import Architecture, as_config, space_below
from understudy.methods.kdnas.warm_start import start_from_teacher
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.objective import Objective
from understudy.objective.vocabulary import TwoLayers
from understudy.recipe.settings import TrainSettings
from understudy.steps import read_done, step_folder
from understudy.students.fresh import fresh
from understudy.train.guard import StopSignals
from understudy.train.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from understudy.methods.kdnas.study import Outcome, Report

NAME = "candidate"


class Candidates:
    """Tries the points of a space for a lab."""

    def __init__(self, cfg: KDNAS, lab: Lab) -> None:
        self.cfg, self.lab = cfg, lab
        self.latency = lab.recipe.evaluate.latency
        self.kind = lab.data.task.kind
        self.teacher = lab.teacher()
        self.source = lab.pretrained().model
        self.space, self.costs = space_below(self.source, cfg.space, length=self.latency.length)
        self.depth = anatomy(self.source.net).num_layers(self.source.net)

    # -- what candidates are -------------------------------------------------------------------------------------------

    def sizes(self, one: Architecture) -> dict[str, Any]:
        """An architecture as sizes for `students.fresh`."""
        return as_config(one, self.source.net.config)

    def student(self, one: Architecture) -> Model:
        """The untrained student of an architecture."""
        model = fresh(self.source, self.sizes(one), seed=self.lab.recipe.seed)
        model = start_from_teacher(model, self.teacher.model) if self.cfg.init == "teacher" else model
        return with_embeddings(self.lab, model)

    def objective(self, model: Model, *, thorough: bool = False) -> Objective:
        """What a student learns: in mini-KD, or with `thorough` in full KD."""
        without = () if thorough else self.cfg.mini_kd.without
        return objective_for(self.lab, model, self.teacher, without=without, variances=lambda layers: self.variances)

    @cached_property
    def rows(self) -> TaskData:
        """The share of the training rows that mini-KD sees; chosen on, like everything, by the selection rows."""
        data, recipe = self.lab.data, self.lab.recipe
        number = max(1, math.ceil(self.cfg.mini_kd.proxy * len(data.train)))
        if self.cfg.parity == "refactor":
            return replace(data, train=data.train[:number], tests={})  # its first rows
        return replace(data, train=subset(data.train, number, seed=seeds.derive(recipe.seed, "proxy")), tests={})

    @cached_property
    def variances(self) -> dict[int, torch.Tensor]:
        """Of the teacher's hidden states over the tokens of these rows; of the layers that any candidate learns from."""
        pairs = self.lab.recipe.objective.terms()["two_layers"]
        assert isinstance(pairs, TwoLayers)
        layers = {layer for depth in self.space.choices["layers"] for side in pairs.layers(depth, self.depth) for layer in side}
        return variances_of(self.lab, self.teacher, sorted(layers), self.rows)

    @cached_property
    def training(self) -> TrainSettings:
        """How a candidate is trained: `train`, but for what `method.mini_kd` says."""
        mini = self.cfg.mini_kd
        plain = {"max_grad_norm": None} if self.cfg.parity != "none" else {}
        update = {
            "epochs": mini.epochs, "lr": mini.lr, "batch_size": mini.batch_size, "schedule": "constant", "warmup": 0.0,
            "evaluations_per_epoch": 1, "patience": None, "time_limit": None, **plain,
        }  # fmt: skip
        return self.lab.recipe.train.model_copy(update=update)

    # -- trying one ----------------------------------------------------------------------------------------------------

    def evaluate(self, point: int, report: Report | None = None) -> Outcome:
        """Latency, mini-KD and reward of a point."""
        from understudy.methods.kdnas.study import Outcome

        began = time.monotonic()
        one = self.space[point]
        lab = self.lab
        if self.cfg.trial_timeout is not None:
            lab = lab.until(cast(StopSignals, Deadline(lab.stop, self.cfg.trial_timeout)))
        times = self._latencies(one)
        facts: dict[str, Any] = {
            "latency_ms": times["student"]["median"],
            "latency_iqr_ms": times["student"]["iqr"],
            "teacher_latency_ms": times["teacher"]["median"],
            "parameters": self.costs.parameters(one),
            "flops": self.costs.flops(one),
        }
        limit = self.cfg.space.max_latency_ms
        if limit is not None and facts["latency_ms"] > limit:
            say(f"{one}: {facts['latency_ms']:.1f} ms are over the budget; not trained.")
            return Outcome(over_budget(facts["latency_ms"], limit), {**facts, "over_budget": True})
        value = 0.0
        try:
            for epochs, model, objective in self._rungs(lab, point):
                facts |= self._quality(lab, point, epochs, model, objective)
                value = self.reward(facts["quality"], facts["latency_ms"], facts["teacher_latency_ms"])
                if report is not None and epochs < self.cfg.mini_kd.epochs:
                    report(value, epochs)
        finally:
            facts["train_seconds"] = self.take_seconds(point)
        say(f"{one}: quality {facts['quality']:.4f}, {facts['latency_ms']:.1f} ms, reward {value:.4f}.")
        return Outcome(value, {**facts, "wall_seconds": time.monotonic() - began})

    def reward(self, quality: float, student: float, teacher: float) -> float:
        """The reward of this recipe. Deviates under parity with main: the loss may be above 1 there, and is not caught."""
        floor = -math.inf if self.cfg.parity == "main" else FLOOR
        return reward(quality, student, teacher, alpha=self.cfg.alpha, beta=self.cfg.beta, floor=floor)

    def trained(self, point: int) -> tuple[Model, Objective]:
        """A candidate after all of its mini-KD, with the projection it was trained with."""
        *_, (_, model, objective) = self._rungs(self.lab, point)
        return model, objective

    def _rungs(self, lab: Lab, point: int) -> Iterator[tuple[int, Model, Objective]]:
        """Mini-KD in one piece, or in pieces that end after 1, h, h² … epochs: the epochs so far, model and objective.

        Each piece is a step of its own that starts from the one before, with a fresh optimiser.
        """
        one = self.space[point]
        model = self.student(one)
        objective = self.objective(model)
        before = 0
        for epochs in rungs(self.cfg.mini_kd.epochs, self.cfg.halving):
            model = lab.fit(
                self._step(point, epochs),
                model,
                objective,
                teacher=self.teacher,
                settings=self.training.model_copy(update={"epochs": epochs - before}),
                about={**learning(self.lab), "architecture": str(one), "epochs": epochs},
                rows=self.rows,
            )
            before = epochs
            yield epochs, model, objective

    def _step(self, point: int, epochs: int) -> str:
        return f"{NAME}-{point}" + ("" if self.cfg.halving is None else f"-{epochs}")

    def _quality(self, lab: Lab, point: int, epochs: int, model: Model, objective: Objective) -> dict[str, float]:
        """What the reward is read off: {"quality", and "loss" or "metric"}."""
        score = self.cfg.mini_kd.score
        if score == "auto":
            score = "metric" if self.kind.labelled else "held_out"
        folder = step_folder(self.lab.folder, self._step(point, epochs))
        if score == "metric":
            scores = read_done(folder)["best_metrics"]
            return {"quality": self.quality_of(scores), "metric": scores[self.lab.data.task.select]}
        if score != "held_out":
            loss = _training_loss(folder, last=score == "train_last")
        elif not self.kind.labelled:
            loss = read_done(folder)["best_metrics"]["loss"]
        else:
            select = lab.encoded(model, self.rows.select, rows=self.rows, max_length=lab.recipe.student.max_length)[0]
            loss = lab.held_out(model, objective, self.teacher, self.rows, select, self.training)
        return {"quality": 1 - loss, "loss": loss}

    def quality_of(self, scores: Mapping[str, float]) -> float:
        """More is better: the selection metric of a fit, or 1 - its loss."""
        metric = self.lab.data.task.select if self.kind.labelled else "loss"
        return 1 - scores[metric] if lower_is_better(metric) else scores[metric]

    def _latencies(self, one: Architecture) -> dict[str, dict[str, Any]]:
        """Teacher and student in turns, by the protocol of every report."""
        nets = {"teacher": self.teacher.model.net, "student": fresh(self.source, self.sizes(one), seed=0).net}
        device = self.lab.device
        return measure.latency_of({name: net.to(device) for name, net in nets.items()}, self.latency, device)

    def take_seconds(self, point: int) -> float:
        """How long a candidate's training took; it no longer counts as a step of the run then, but as part of the search."""
        names = [self._step(point, epochs) for epochs in rungs(self.cfg.mini_kd.epochs, self.cfg.halving)]
        return sum(self.lab.seconds.pop(name, 0.0) for name in dict.fromkeys(names))

    def tidy(self, rows: list[dict[str, Any]]) -> None:
        """Delete what candidates left that are not among the best: their values are in the study."""
        best = [] if self.cfg.reinit else ranked(rows)[: self.cfg.top_k]
        keep = {row["point"] for row in best}
        for row in rows:
            if row["point"] in keep:
                continue
            for epochs in dict.fromkeys(rungs(self.cfg.mini_kd.epochs, self.cfg.halving)):
                with suppress(FileNotFoundError, ResourceError):  # another worker is faster
                    disk.remove(self.lab.folder / "steps" / self._step(row["point"], epochs))


class Deadline:
    """The process's signals, and a time after which work is asked to stop as if by one of them."""

    def __init__(self, signals: StopSignals, seconds: float) -> None:
        self.signals, self.seconds = signals, seconds
        self.until = time.monotonic() + seconds

    @property
    def received(self) -> int | None:
        """The signal that was received; 0 where only time is up."""
        if self.signals.received is not None:
            return self.signals.received
        return 0 if time.monotonic() >= self.until else None

    def interruption(self, saved: str) -> UnderstudyError:
        if self.signals.received is not None:
            return self.signals.interruption(saved)
        return UnderstudyError(f"It took longer than method.trial_timeout allows ({self.seconds:g} s).")


def rungs(epochs: int, halving: int | None) -> list[int]:
    """After how many epochs a candidate is looked at.

    >>> rungs(5, None), rungs(5, 2), rungs(9, 3)
    ([5], [1, 2, 4, 5], [1, 3, 9])
    """
    found = []
    at = 1
    while halving is not None and at < epochs:
        found.append(at)
        at *= halving
    return [*found, epochs]


def learning(lab: Lab) -> dict[str, Any]:
    """The settings that decide how a candidate learns: part of the key of its step."""
    method = lab.recipe.method
    assert isinstance(method, KDNAS)
    return about(lab, init=method.init, parity=method.parity, without=list(method.mini_kd.without))


def _training_loss(folder: Path, *, last: bool) -> float:
    """The mean training loss of the last epoch, or of all."""
    steps = [row for row in recorded(folder) if "loss" in row]
    wanted = [row["loss"] for row in steps if not last or row["epoch"] == steps[-1]["epoch"]]
    if not wanted:
        raise RecipeError("method.mini_kd.score: the training loss was not recorded; use held_out.")
    return sum(wanted) / len(wanted)
