"""`student: {config: …, init: teacher}`: from files to a folder that transformers alone loads, with equal outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import tiny_models
import torch
import transformers

from understudy.base.errors import RecipeError
from understudy.check import check
from understudy.models.load import load_model
from understudy.models.structure import structure_of
from understudy.recipe.load import recipe_from
from understudy.run import train

FAST = [("roberta", "tokens"), ("bert", "classification"), ("modernbert", "regression")]
TABLE = [
    pytest.param(family, kind, id=f"{family}-{kind}", marks=[] if (family, kind) in FAST else pytest.mark.slow)
    for family in tiny_models.FAMILIES
    for kind in checkpoints.KINDS
]
SHAPE = {"hidden_size": 16, "intermediate_size": 24}


def recipe_of(folder: Path, student: dict[str, Any], *, family: str = "bert", kind: str = "classification") -> dict[str, Any]:
    head = "text" if kind == "text" else "backbone"
    return {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {
            "model": str(checkpoints.save_checkpoint(folder / "model", family, head=head, num_hidden_layers=3)),
            "finetune": {"epochs": 1},
        },
        "student": student,
        "method": {"name": "automm"},
        "train": {"epochs": 1, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 0, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }


@pytest.mark.parametrize(("family", "kind"), TABLE)
def test_from_files_to_a_stock_student(family: str, kind: str, tmp_path: Path, understudy_home: Path):
    layers = {} if family == "albert" else {"num_hidden_layers": 2}
    recipe = recipe_of(tmp_path, {"config": SHAPE | layers, "init": "teacher"}, family=family, kind=kind)
    if family == "electra":  # as wide as its embeddings there is no place for what stands between
        recipe["student"]["config"]["hidden_size"] = 24
    loaded = recipe_from(recipe)
    assert not [one for one in check(loaded) if one.level == "error"]
    train(loaded, tmp_path / "run")
    student = load_model(str(tmp_path / "run" / "student"))
    assert structure_of(student.net) is None and student.net.config.model_type == family
    content = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert content["dim" if family == "distilbert" else "hidden_size"] == recipe["student"]["config"]["hidden_size"]
    auto = {"tokens": transformers.AutoModelForTokenClassification, "text": transformers.AutoModelForMaskedLM}
    stock = auto.get(kind, transformers.AutoModelForSequenceClassification).from_pretrained(tmp_path / "run" / "student").eval()
    ids = tiny_models.tiny_ids(2, 8)
    with torch.no_grad():
        np.testing.assert_allclose(stock(ids).logits, student.net(ids).logits, rtol=1e-5, atol=1e-6)


def test_sizes_that_no_stock_class_has_are_refused_before_anything_is_trained(tmp_path: Path, understudy_home: Path):
    recipe = recipe_of(tmp_path, {"config": {"hidden_size": 20}, "init": "teacher"})
    findings = check(recipe_from(recipe))
    assert any(one.level == "error" and "heads are 8 wide" in one.text for one in findings)
    with pytest.raises(RecipeError, match="name them by a rule"):
        recipe_from({**recipe, "student": {"config": SHAPE, "init": "teacher", "keep": [0, 1]}})
