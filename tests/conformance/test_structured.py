"""Students that no stock class can hold, of every family, through the lab: trained, saved, stopped, resumed, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import tiny_models
import torch
import transformers
from safetensors.numpy import load_file

from understudy.check import check, exit_code
from understudy.evaluate import measure
from understudy.models.load import load_model
from understudy.models.restructure import physical_layers
from understudy.models.structure import structure_of
from understudy.recipe.load import recipe_from
from understudy.run import train
from understudy.students import unroll

ROWS = [
    pytest.param(family, id=family, marks=[] if family == "bert" else pytest.mark.slow) for family in tiny_models.FAMILIES
]


def recipe_of(folder: Path, family: str) -> dict[str, Any]:
    model = checkpoints.save_checkpoint(folder / "model", family, num_hidden_layers=2)
    return {
        "task": checkpoints.task_settings(folder / "data", "classification"),
        "teacher": {"model": str(model), "finetune": {"epochs": 1}},
        "student": {"keep": [0, 1], "share": "sps"} if family != "albert" else {"model": str(model), "share": "sps"},
        "method": {"name": "automm"},
        "train": {"epochs": 2, "batch_size": 16, "lr": 3e-3, "precision": "fp32", "checkpoint_steps": 2},
        "evaluate": {"bootstrap": 10, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }


@pytest.mark.parametrize("family", ROWS)
def test_a_shared_student_through_the_lab(family: str, tmp_path: Path, understudy_home: Path):
    recipe = recipe_of(tmp_path, family)
    findings = check(recipe_from(recipe))
    assert exit_code(findings) == 0
    assert any("4 layers" in finding.text for finding in findings if finding.key == "student")

    result = train(recipe_from(recipe), tmp_path / "run")
    folder = tmp_path / "run" / "student"
    student = load_model(str(folder))
    assert len(structure_of(student.net).schedule) == 4
    assert result["student"]["num_parameters"] == measure.num_parameters(student.net)
    assert len(physical_layers(student.net)) == (1 if family == "albert" else 2)
    # Time is that of every use, size that of each tensor once.
    flat = unroll(student)
    assert measure.flops(student.net, length=8) == measure.flops(flat.net, length=8) == result["student"]["flops"]
    assert measure.num_parameters(flat.net) > measure.num_parameters(student.net)
    assert measure.size_mb(student.net) < measure.size_mb(flat.net)
    net = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = tiny_models.tiny_ids()
    with torch.no_grad():
        assert torch.equal(net(ids).logits, student.net(ids).logits)

    # The end of the last step lost: the run goes on from its checkpoint, and ends with the same weights.
    weights = load_file(folder / "model.safetensors")
    step = tmp_path / "run" / "steps" / "student"
    assert json.loads((step / "step.json").read_text())["name"] == "student"
    (step / "done.json").unlink()
    train(recipe_from(recipe), tmp_path / "run")
    again = load_file(folder / "model.safetensors")
    assert set(again) == set(weights) and all((again[name] == tensor).all() for name, tensor in weights.items())
