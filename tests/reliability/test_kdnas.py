"""A search killed at random moments and repeated: the same proposals, the same values, the same student, bit for bit.

Only with `alpha: 0`, where the measured latency, which no clock gives twice, does not enter the reward.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
from runs import Ended, Launcher

SPACE = {"layers": [1, 2], "heads": [2, 4], "hidden": [16, 32], "intermediate": [24, 48], "activations": ["gelu", "relu"]}
MINI = {"proxy": 0.5, "epochs": 2, "lr": 1e-2, "batch_size": 16}


@pytest.fixture(scope="module", params=["lstm", pytest.param("tpe", marks=pytest.mark.slow)])
def searching(request, toy_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = {
        "method": {
            "name": "kdnas", "engine": request.param, "episodes": 3, "candidates": 2, "alpha": 0.0, "space": SPACE,
            "mini_kd": MINI, "controller": {"epsilon_decay": 0.5}, "top_k": 2, "halving": 2,
        },
        "evaluate": toy_recipe["evaluate"] | {"baseline": False},
    }  # fmt: skip
    recipe = {name: value for name, value in toy_recipe.items() if name != "student"} | own
    path = tmp_path_factory.mktemp("kdnas") / "toy.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def left_in_peace(launcher: Launcher, searching: Path, tmp_path_factory: pytest.TempPathFactory):
    """What an uninterrupted run came to, and its processor seconds."""
    folder = tmp_path_factory.mktemp("peace")
    ended = launcher.run("train", searching, "--out", folder / "run", home=folder / "home")
    assert ended.code == 0, ended.err
    return outcome(folder), ended.cpu


def outcome(folder: Path) -> dict[str, Any]:
    """Of the candidates' values and of all students; when each was tried, but not by which trial of Optuna's."""
    found = json.loads((folder / "run" / "steps" / "search" / "done.json").read_text())["value"]
    full = json.loads((folder / "run" / "steps" / "full-kd" / "done.json").read_text())["value"]
    rows = [(row["point"], row["state"], row["value"], row["reports"]) for row in found["rows"]]
    chosen = [(row["point"], row["reward"]) for row in full["rows"]]
    assert len({point for point, *_ in rows}) == len(rows) == 6
    return {**runs.outcome(folder / "run", folder / "home"), "rows": rows, "full": chosen}


@pytest.fixture
def train(launcher: Launcher, searching: Path, tmp_path: Path) -> Callable[..., Ended]:
    def run(**options: Any) -> Ended:
        return launcher.run("train", searching, "--out", tmp_path / "run", home=tmp_path / "home", **options)

    return run


def killed(train: Callable[..., Ended], left_in_peace: Any, folder: Path, *, kills: int, seed: int) -> None:
    """Kill by SIGKILL after random processor times; a run that gets through is compared, and another one begun. Long enough
    for a candidate to end: one that was under way at every kill is given up in the end, and then the outcome is another."""
    reference, cpu = left_in_peace
    runs.killed(train, outcome, reference, folder, seconds=(cpu / 4, cpu), kills=kills, seed=seed)


def test_killed_and_repeated(train, left_in_peace, tmp_path):
    killed(train, left_in_peace, tmp_path, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 3))
def test_killed_at_many_moments(seed, train, left_in_peace, tmp_path):
    killed(train, left_in_peace, tmp_path, kills=15, seed=seed)


@pytest.mark.slow
def test_killed_while_candidates_are_saved(train, left_in_peace, tmp_path):
    reference, _ = left_in_peace
    for at in (4, 15):
        ended = train(fault={"do": "kill", "match": "/run/steps/candidate-", "at": at})
        assert ended.code == -signal.SIGKILL, ended.err
    assert train().code == 0
    assert outcome(tmp_path) == reference
