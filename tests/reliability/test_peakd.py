"""Promise R1 for a method of several stages: killed at any instant and repeated, Pea-KD ends with the same bits."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import runs
from runs import Ended, Launcher

PHASES = {
    "teachers of folds": r"/home/steps/",
    "classes": r"/run/steps/ptp-classes",
    "pre-training": r"/run/steps/ptp/",
    "distilling": r"/run/steps/student",
}


@dataclass(frozen=True)
class Reference:
    """The run left in peace: what it came to, its operations on the disk, its processor seconds."""

    outcome: dict[str, str]
    operations: list[str]
    cpu: float


def outcome(folder: Path) -> dict[str, str]:
    """Of a run: everything that must not depend on interruptions, the classes included."""
    made = json.loads((folder / "run/steps/ptp-classes/done.json").read_text())["value"]
    return runs.outcome(folder / "run", folder / "home") | {"classes": json.dumps(made, sort_keys=True)}


@pytest.fixture(scope="module")
def pea(toy_checkpoint: Path, toy_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages in a few seconds: teacher, two teachers of folds, classes, pre-training, distillation; layers shared."""
    recipe = runs.recipe(toy_checkpoint, toy_csv) | {
        "student": {"keep": "first", "num_layers": 1},
        "method": {"name": "peakd", "ptp": {"epochs": 2, "folds": 2, "few": 5}},
    }
    recipe["train"]["epochs"], recipe["teacher"]["finetune"]["epochs"] = 2, 1
    recipe["evaluate"]["baseline"] = False
    path = tmp_path_factory.mktemp("pea") / "pea.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.fixture
def train(launcher: Launcher, pea: Path, tmp_path: Path) -> Callable[..., Ended]:
    def run(**options: object) -> Ended:
        return launcher.run("train", pea, "--out", tmp_path / "run", home=tmp_path / "home", **options)

    return run


@pytest.fixture(scope="module")
def left_alone(launcher: Launcher, pea: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("alone")
    log = folder / "operations"
    ended = launcher.run("train", pea, "--out", folder / "run", home=folder / "home", fault={"log": str(log)})
    assert ended.code == 0, ended.err
    return Reference(outcome(folder), log.read_text().splitlines(), ended.cpu)


def killed_from_outside(train: Callable[..., Ended], left_alone: Reference, folder: Path, *, kills: int, seed: int) -> None:
    """Killed after random processor times until it gets through; then compared, and begun anew."""
    runs.killed(train, outcome, left_alone.outcome, folder, seconds=(0.05, left_alone.cpu / 2), kills=kills, seed=seed)


def test_killed_at_four_random_moments(train, left_alone, tmp_path: Path):
    killed_from_outside(train, left_alone, tmp_path, kills=4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_killed_at_forty_random_moments(seed, train, left_alone, tmp_path: Path):
    killed_from_outside(train, left_alone, tmp_path, kills=40, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_killed_three_times_in_each_stage(phase, train, left_alone, tmp_path: Path):
    draw = random.Random(phase)
    whole = sum(bool(re.search(PHASES[phase], line)) for line in left_alone.operations)
    assert whole > 3
    for _ in range(3):
        ended = train(fault={"do": "kill", "match": PHASES[phase], "at": draw.randrange(max(1, whole // 3))})
        assert ended.code in (0, -signal.SIGKILL), ended.err
    assert train().code == 0
    assert outcome(tmp_path) == left_alone.outcome
