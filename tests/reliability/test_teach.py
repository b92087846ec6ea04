"""Processes that let the teacher answer ahead share the rows, and the run after them asks it nothing about these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import toys

from understudy.base.errors import RecipeError
from understudy.recipe.load import load_recipe, recipe_from
from understudy.run import teach, train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path, toy_checkpoint: Path, understudy_home: Path) -> Path:
    toys.save_csv(tmp_path / "data", rows=96)
    data: dict[str, Any] = {
        "task": {
            "name": "custom", "kind": "classification",
            "files": {part: str(tmp_path / "data" / f"{part}.csv") for part in ("train", "dev", "test")},
            "columns": {"text": "body", "label": "mood"},
        },
        "teacher": {"model": str(toy_checkpoint), "finetune": {"epochs": 1}},
        "student": {"num_layers": 1},
        "method": "automm",
        "train": {"epochs": 1, "batch_size": 16, "lr": 1e-3},
        "evaluate": {"latency": {"repeats": 3, "length": 16}, "bootstrap": 20, "baseline": False},
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(data))
    return path


def test_the_run_after_it_asks_nothing_about_the_training_rows(recipe: Path, tmp_path: Path) -> None:
    asked = load_recipe(recipe)
    assert teach(asked) == 96
    assert teach(asked) == 0
    result = train(asked, tmp_path / "run")
    assert result["teacher_forwards"] == len((tmp_path / "data" / "test.csv").read_text().splitlines()) - 1  # its own scores


@pytest.mark.slow
def test_processes_share_the_rows(recipe: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "understudy", "teach", str(recipe), "--json"]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    examples = [json.loads(one.communicate(timeout=300)[0])["examples"] for one in both]
    assert sum(examples) == 96  # each row once, by whoever was free
    assert teach(load_recipe(recipe)) == 0


def test_a_recipe_without_a_teacher_to_run_is_refused(recipe: Path) -> None:
    data = json.loads(recipe.read_text())
    with pytest.raises(RecipeError, match="no teacher is run"):
        teach(recipe_from(data | {"method": "finetune"}))
