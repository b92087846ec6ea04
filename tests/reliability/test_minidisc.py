"""MiniDisc killed at random moments and repeated: the same assistant, the same student, bit for bit; and proof by
repetition of a fit of several sub-networks."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
from runs import Ended, Launcher

METHODS: dict[str, dict[str, Any]] = {
    "ours": {"name": "minidisc", "candidates": [0.2, 0.4, 0.5, 0.6], "sandwich": "sampled"},
    "released": {"name": "minidisc", "candidates": [0.25, 0.5], "parity": True, "lam": 0.0, "hidden_map": [[0, 0], [2, 2]]},
}


@pytest.fixture(scope="module", params=["ours", pytest.param("released", marks=pytest.mark.slow)])
def staged_recipe(request, toy_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"student": {"sparsity": 0.75}, "method": METHODS[request.param]}
    changes["train"] = toy_recipe["train"] | {"epochs": 2, "checkpoint_steps": 4}
    changes["evaluate"] = toy_recipe["evaluate"] | {"baseline": False}
    path = tmp_path_factory.mktemp("minidisc") / "toy.yaml"
    path.write_text(json.dumps(toy_recipe | changes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def left_in_peace(launcher: Launcher, staged_recipe: Path, tmp_path_factory: pytest.TempPathFactory):
    """(folder, what it came to, processor seconds) of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("peace")
    ended = launcher.run("train", staged_recipe, "--out", folder / "run", home=folder / "home")
    assert ended.code == 0, ended.err
    return folder, outcome(folder), ended.cpu


def outcome(folder: Path) -> dict[str, Any]:
    choice = json.loads((folder / "run" / "steps" / "choice-1" / "done.json").read_text())["value"]
    return {**runs.outcome(folder / "run", folder / "home"), "choice": choice}


@pytest.fixture
def train(launcher: Launcher, staged_recipe: Path, tmp_path: Path) -> Callable[..., Ended]:
    def run(**options: Any) -> Ended:
        return launcher.run("train", staged_recipe, "--out", tmp_path / "run", home=tmp_path / "home", **options)

    return run


def killed(train: Callable[..., Ended], left_in_peace: Any, folder: Path, *, kills: int, seed: int) -> None:
    """Kill by SIGKILL after random processor times; a run that gets through is compared, and another one begun."""
    _, reference, cpu = left_in_peace
    runs.killed(train, outcome, reference, folder, seconds=(0.05, cpu / 2), kills=kills, seed=seed)


def test_killed_and_repeated(train, left_in_peace, tmp_path):
    killed(train, left_in_peace, tmp_path, kills=4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_killed_at_many_moments(seed, train, left_in_peace, tmp_path):
    killed(train, left_in_peace, tmp_path, kills=30, seed=seed)


@pytest.mark.slow
def test_killed_while_candidates_are_saved(train, left_in_peace, tmp_path):
    """At operations on the step of the candidates, which lies in the shared store by its key."""
    folder, reference, _ = left_in_peace
    key = json.loads((folder / "run" / "steps" / "candidates-1" / "step.json").read_text())["key"]
    for at in (3, 9, 4):
        ended = train(fault={"do": "kill", "match": f"/steps/{key}", "at": at})
        assert ended.code == -signal.SIGKILL, ended.err
    assert train().code == 0
    assert outcome(tmp_path) == reference


def test_the_end_of_the_student_can_be_repeated(launcher, left_in_peace):
    folder, _, _ = left_in_peace
    ended = launcher.run("verify", folder / "run", "--replay", "5", home=folder / "home")
    assert ended.code == 0, ended.err
