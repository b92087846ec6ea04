"""Promise R1: killed at any instant, any number of times, and repeated: the same bits as a run left in peace."""

from __future__ import annotations

import random
import re
import shutil
import signal
from pathlib import Path

import pytest
import runs

PHASES = {
    "fine-tuning": r"/home/steps/",
    "caching": r"/home/signals/",
    "distilling": r"/run/steps/student",
    "saving": r"/run/(\.tmp-\d+@\w+-)?(student|result|details|run\.json|report|manifest)",
}


def outcome(folder: Path) -> dict[str, str]:
    return runs.outcome(folder / "run", folder / "home")


@pytest.mark.parametrize("phase", PHASES)
def test_killed_three_times_in_each_phase(phase, reference, train, tmp_path: Path):
    draw = random.Random(phase)
    whole = sum(bool(re.search(PHASES[phase], line)) for line in reference.operations)
    assert whole > 10
    for _ in range(3):
        # A third of the phase's operations: so many are left to a run that was continued, whatever was lost.
        ended = train(fault={"do": "kill", "match": PHASES[phase], "at": draw.randrange(whole // 3)})
        assert ended.code == -signal.SIGKILL, ended.err
    assert train().code == 0
    assert outcome(tmp_path) == reference.outcome


def killed_from_outside(train, reference, folder: Path, *, kills: int, seed: int) -> None:
    """Kill runs by SIGKILL after random processor times; whenever one gets through, compare it and begin another."""
    seconds = 0.02, reference.ended.cpu / 3
    runs.killed(train, outcome, reference.outcome, folder, seconds=seconds, kills=kills, seed=seed)


def test_killed_at_twelve_random_moments(reference, train, tmp_path: Path):
    killed_from_outside(train, reference, tmp_path, kills=12, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_killed_at_fifty_random_moments(seed, reference, train, tmp_path: Path):
    killed_from_outside(train, reference, tmp_path, kills=50, seed=seed)


def killed_at_each(pattern: str, train) -> int:
    """Kill a run at the first operation of a kind, continue it and kill it at the second, and so on, to its end."""
    at = 0
    while (ended := train(fault={"do": "kill", "match": pattern, "at": at})).code != 0:
        assert ended.code == -signal.SIGKILL, ended.err
        at += 1
    return at


def test_killed_at_each_write_and_rename_of_a_checkpoint(reference, train, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")  # teacher, baseline and signals are there: the student remains
    assert killed_at_each(r"before-(write|rename|remove) .*/run/steps/student/\S*step-0", train) > 12
    assert outcome(tmp_path) == reference.outcome


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/run/steps/student", "/run/", "/home/signals/", "/home/steps/"])
def test_killed_at_every_operation(where, reference, train, tmp_path: Path):
    if where.startswith("/run/"):
        shutil.copytree(reference.home, tmp_path / "home")
    assert killed_at_each(where, train) > 20
    assert outcome(tmp_path) == reference.outcome
