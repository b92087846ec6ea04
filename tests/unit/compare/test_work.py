"""Runs are claimed, watched and never lost sight of, however their process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from understudy.base import disk
from understudy.base.errors import Interrupted
from understudy.base.lock import lock
from understudy.compare import work
from understudy.compare.arms import Arm, Plan
from understudy.compare.one import OUTCOME
from understudy.recipe.load import recipe_from, recipe_hash
from understudy.train.guard import StopSignals

RECIPE = recipe_from({"task": "demo/intent", "teacher": "big", "student": {"num_layers": 2}, "method": "automm"})


@pytest.fixture
def runs(tmp_path: Path) -> list[work.ArmRun]:
    plan = Plan((Arm("a", RECIPE, (), 3.0), Arm("b", RECIPE, (), 3.0)), 3.0)
    return work.runs_of(plan, 2, tmp_path)


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What is started in place of Python; it gets `-m understudy.compare.one CLAIM RUN PARENT`."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(work.sys, "executable", str(path))


def finish(run: work.ArmRun) -> None:
    """Make a run look finished."""
    disk.write_json(run.folder / "run.json", {"state": "finished", "recipe": recipe_hash(run.recipe)})
    disk.write_json(run.folder / disk.MANIFEST, {"files": {}})


def test_every_arm_once_then_every_arm_again(runs):
    assert [(run.name, run.recipe.seed) for run in runs] == [("a-s0", 0), ("b-s0", 0), ("a-s1", 1), ("b-s1", 1)]


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 3", 3, "ended with exit code 3"),
        ("exit 0", 1, "exit code 0 and without a result"),
        ("kill -9 $$", 6, "signal 9 (SIGKILL), as happens when memory runs out"),
    ],
)
def test_whoever_cannot_say_why_it_ended_is_said_to_have(runs, tmp_path, monkeypatch, script, code, reason):
    program(tmp_path, monkeypatch, script)
    began = work.work(runs[:2], StopSignals())
    for run in runs[:2]:
        assert run.failed(began) and run.outcome["code"] == code and reason in run.outcome["reason"]
        assert not run.failed(time.time()), "the next command tries again"


def test_what_is_finished_is_not_started(runs, tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, f"touch {tmp_path}/started")
    for run in runs:
        finish(run)
    work.work(runs, StopSignals())
    assert not (tmp_path / "started").exists()
    changed = Arm("a", recipe_from({**RECIPE.model_dump(mode="json"), "seed": 9}), (), 3.0)
    other = work.ArmRun(changed, 0, runs[0].folder, runs[0].claim)
    assert not other.finished, "another recipe is another run"


def test_what_another_holds_is_left_to_it(runs, tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "exit 3")
    with lock(runs[0].claim):
        assert work._attempt(runs[0], 0.0, StopSignals(), done=0, total=2) is False
    assert work._attempt(runs[0], time.time(), StopSignals(), done=0, total=2) is True


def test_a_signal_is_passed_on_and_ends_the_work(runs, tmp_path, monkeypatch):
    wait = f"trap 'touch {tmp_path}/told; exit 143' TERM\ntouch {tmp_path}/on\nwhile :; do sleep 0.05; done"
    program(tmp_path, monkeypatch, wait)
    stop = StopSignals()
    monkeypatch.setattr(work, "LOOK_EVERY", 0.01)
    sleep = time.sleep

    def tick(seconds: float) -> None:
        if (tmp_path / "on").exists():
            stop.received = 15
        sleep(seconds)

    monkeypatch.setattr(work.time, "sleep", tick)
    with pytest.raises(Interrupted):
        work.work(runs, stop)
    assert (tmp_path / "told").exists() and runs[0].outcome == {}


def test_an_orphan_stops_by_itself(tmp_path):
    """A run whose comparison was killed is told to stop, and what it had is kept."""
    code = (
        "import os, signal, time\n"
        "from understudy.compare import one\n"
        f"signal.signal(signal.SIGTERM, lambda *_: open({str(tmp_path / 'told')!r}, 'w').close())\n"
        "import threading; threading.Thread(target=one._stop_with, args=(1 << 30,), daemon=True).start()\n"
        "time.sleep(1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(work.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "told").exists()


def test_the_outcome_is_read_back(runs):
    disk.write_json(runs[0].claim / OUTCOME, {"code": 5, "reason": "NaN", "ended": 10.0})
    assert runs[0].failed(9.0) and not runs[0].failed(11.0)
