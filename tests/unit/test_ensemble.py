"""Teachers that teach together: what they say is the mean of what each would say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import toys

from understudy.base.errors import RecipeError
from understudy.kinds import kind
from understudy.models.load import load_model
from understudy.recipe.load import recipe_from
from understudy.run import train
from understudy.steps import step_folder
from understudy.train.record import recorded


def test_the_mean_of_outputs() -> None:
    one, two = torch.randn(5, 3, generator=torch.manual_seed(0)) * 8, torch.randn(5, 3, generator=torch.manual_seed(1)) * 8
    mean = kind("classification").mean([one, two])
    torch.testing.assert_close(mean.softmax(-1), (one.softmax(-1) + two.softmax(-1)) / 2)
    mean = kind("multilabel").mean([one, two])
    torch.testing.assert_close(mean.sigmoid(), (one.sigmoid() + two.sigmoid()) / 2)
    assert kind("multilabel").mean([torch.tensor([[200.0]]), torch.tensor([[300.0]])]).isfinite().all()
    torch.testing.assert_close(kind("regression").mean([one, two]), (one + two) / 2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, toy_checkpoint: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A run with two teachers: its folder, its recipe and its result."""
    folder = tmp_path_factory.mktemp("ensemble")
    toys.save_csv(folder / "data", rows=48)
    recipe = {
        "task": {
            "name": "custom", "kind": "classification", "labels": ["glad", "sad"],
            "files": {part: str(folder / "data" / f"{part}.csv") for part in ("train", "dev", "test")},
            "columns": {"text": "body", "label": "mood"},
        },
        "teacher": {"model": str(toy_checkpoint), "ensemble": 2, "finetune": {"epochs": 2, "lr": 1e-3}},
        "student": {"model": str(toy_checkpoint)},
        "method": "automm",
        "objective": {"soft": {"weight": 1, "temperature": 2}},
        "train": {"epochs": 2, "batch_size": 16, "lr": 1e-3, "precision": "fp32"},
        "evaluate": {"latency": {"repeats": 3, "length": 16}, "bootstrap": 20, "baseline": False},
    }  # fmt: skip
    return folder, recipe, train(recipe_from(recipe), folder / "run")


def test_both_are_fine_tuned_with_seeds_of_their_own(world: Any) -> None:
    folder, _, result = world
    one, two = (load_model(str(_model(folder, name))).net.state_dict() for name in ("teacher", "teacher-2"))
    assert any(not torch.equal(one[key], two[key]) for key in one)
    notes = json.loads((folder / "run" / "details.json").read_text())["notes"]
    assert any("the mean of 2 models" in note for note in notes)
    assert result["teacher"]["metrics"]["test"]


def test_the_student_learns_from_their_mean(world: Any) -> None:
    """An oracle: a teacher whose answers in the file are the mean of both teachers' probabilities."""
    folder, recipe, result = world
    nets = [load_model(str(_model(folder, name))).net.eval() for name in ("teacher", "teacher-2")]
    cut = toys.tokenizer()
    files = {}
    for part, path in recipe["task"]["files"].items():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        files[part] = str(folder / f"told-{part}.csv")
        with open(files[part], "w", newline="") as file, torch.no_grad():
            writer = csv.writer(file)
            writer.writerow(["body", "mood", "p"])
            for row in rows:
                said = [net(**cut(row["body"], return_tensors="pt")).logits[0].double().softmax(0) for net in nets]
                writer.writerow([row["body"], row["mood"], json.dumps(((said[0] + said[1]) / 2).tolist())])
    told = recipe | {"task": recipe["task"] | {"files": files}, "teacher": {"columns": {"probabilities": "p"}}}
    other = train(recipe_from(told), folder / "told")
    losses = [
        [line["loss"] for line in recorded(step_folder(folder / run, "student")) if "loss" in line] for run in ("run", "told")
    ]
    assert losses[0]
    np.testing.assert_allclose(*losses, atol=1e-6)
    assert other["teacher"]["metrics"] == result["teacher"]["metrics"]


def test_they_must_be_fine_tuned_here(world: Any) -> None:
    _, recipe, _ = world
    with pytest.raises(RecipeError, match="`ensemble: 2` is how many are fine-tuned"):
        recipe_from(recipe | {"teacher": {"model": "x", "ensemble": 2}})


def _model(folder: Path, step: str) -> Path:
    return step_folder(folder / "run", step) / "model"
