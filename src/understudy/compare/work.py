"""Doing the runs of a comparison, one after the other, alone or beside others who do the same.

    DIR/
      config.yaml        the complete comparison
      arms/ARM-sSEED/    a run like any other (`understudy report`, `verify`, `predict`, … work on it)
      claims/ARM-sSEED/  whose it is (a lock), its recipe, how it last ended
      comparison.json    what it showed, for programs              report.html    the same, for people

A run belongs to the process that holds the lock of its claim, which is free when that process ends. So any number of
processes may be started with the same command, killed, and started again. What is finished is never done twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.lock import InUse, lock
from understudy.base.progress import duration, say
from understudy.compare.arms import Arm, Plan
from understudy.compare.one import OUTCOME
from understudy.recipe.load import recipe_hash, to_yaml
from understudy.recipe.settings import Recipe
from understudy.train.guard import StopSignals

LOOK_EVERY = 0.2
"""Seconds between looks at a run under way, or at those of others."""


@dataclass(frozen=True)
class ArmRun:
    """One arm with one seed."""

    arm: Arm
    seed: int
    folder: Path
    claim: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def recipe(self) -> Recipe:
        return self.arm.of(self.seed)

    @property
    def finished(self) -> bool:
        """Whether this very run is there and complete."""
        path = self.folder / "run.json"
        if not path.exists() or not (self.folder / disk.MANIFEST).exists():
            return False
        about = disk.read_json(path)
        return about["state"] == "finished" and about["recipe"] == recipe_hash(self.recipe)

    @property
    def outcome(self) -> dict[str, Any]:
        """How it last ended: `code`, `reason`, `ended`, `seconds`, `peak_memory_mb`; empty before the first time."""
        path = self.claim / OUTCOME
        return disk.read_json(path) if path.exists() else {}

    def failed(self, since: float) -> bool:
        """Whether it ended in an error after a moment (seconds since 1970): earlier ones are tried again."""
        outcome = self.outcome
        return bool(outcome.get("code")) and outcome["ended"] >= since and not self.finished


def runs_of(plan: Plan, seeds: int, folder: Path) -> list[ArmRun]:
    """All runs of a comparison; every arm once, then every arm again, so that something can be seen early."""
    return [
        ArmRun(arm, seed, folder / "arms" / f"{arm.name}-s{seed}", folder / "claims" / f"{arm.name}-s{seed}")
        for seed in range(seeds)
        for arm in plan.arms
    ]


def work(runs: Sequence[ArmRun], stop: StopSignals) -> float:
    """Do unclaimed runs until all are finished or failed; returns when this began (see `ArmRun.failed`).

    Raises:
        Interrupted: after a signal, with the run under way committed.
    """
    since = time.time()
    while left := [run for run in runs if not run.finished and not run.failed(since)]:
        if not any(_attempt(run, since, stop, done=len(runs) - len(left), total=len(runs)) for run in left):
            _pause(stop)  # other processes hold all of them
    return since


def _attempt(run: ArmRun, since: float, stop: StopSignals, *, done: int, total: int) -> bool:
    """Do a run unless another process is working on it; False then."""
    try:
        with lock(run.claim):
            if not run.finished and not run.failed(since):
                say(f"[{done + 1}/{total}] {run.arm.name}, seed {run.recipe.seed}")
                _train(run, stop)
            return True
    except InUse:
        return False


def _train(run: ArmRun, stop: StopSignals) -> None:
    """The run in a process of its own; a signal is passed on to it, once."""
    disk.write_text(run.claim / "recipe.yaml", to_yaml(run.recipe))
    began = time.time()
    command = [sys.executable, "-m", "understudy.compare.one", str(run.claim), str(run.folder), str(os.getpid())]
    # In a session of its own, or Ctrl-C in the terminal would reach it twice: the second signal ends it without saving.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    told = False
    while (code := process.poll()) is None:
        if stop.received is not None and not told:
            process.send_signal(signal.SIGTERM)
            told = True
        time.sleep(LOOK_EVERY)
    if stop.received is not None:
        raise stop.interruption("the arm under way and all finished ones are saved.")
    if code in (130, 143):
        say(f"{run.name} was interrupted; it goes on.")
    elif code == 0 and run.finished:
        say(f"{run.name} took {duration(time.time() - began)}.")
    else:
        if not run.failed(began):  # it was killed before it could write its outcome
            outcome = {"code": code if code > 0 else 6 if code < 0 else 1, "reason": _why(code), "ended": time.time()}
            disk.write_json(run.claim / OUTCOME, {**run.outcome, **outcome})
        say(f"{run.name} failed: {run.outcome['reason']} The others go on.")


def _why(code: int) -> str:
    """How a process ended that wrote no reason; `code` as in subprocess, negative for signals."""
    if code >= 0:
        return f"It ended with exit code {code} and without a result."
    memory = ", as happens when memory runs out" if code == -signal.SIGKILL else ""
    return f"It was ended by signal {-code} ({signal.Signals(-code).name}){memory}."


def _pause(stop: StopSignals) -> None:
    if stop.received is not None:
        raise stop.interruption("all finished arms are saved.")
    time.sleep(LOOK_EVERY)
