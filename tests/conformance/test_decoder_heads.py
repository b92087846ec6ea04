"""Decoders with a head for a task: they teach encoders, and are students that stock classes run on padded rows."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import decoders
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.data.encode import encode
from understudy.data.tasks import load_task
from understudy.evaluate.predict import predict
from understudy.models.load import load_model
from understudy.recipe.load import recipe_from
from understudy.run import train


def recipe(folder: Path, kind: str, **student: object) -> dict:
    teacher = decoders.save(folder / "decoder", "qwen2", AutoModel, max_position_embeddings=128)
    return {
        "task": {**checkpoints.task_settings(folder / "data", kind), "max_length": 128},  # bytes are many
        "teacher": {"model": str(teacher), "finetune": {"epochs": 1}},
        "student": student,
        "method": "kd",
        "train": {"epochs": 1, "batch_size": 16, "lr": 1e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 10, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }


@pytest.mark.parametrize("kind", ["pair", "multilabel", "tokens"])
def test_a_decoder_teaches_an_encoder_with_a_tokenizer_of_its_own(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    student = checkpoints.save_checkpoint(tmp_path / "bert", "bert", num_hidden_layers=1)
    settings = recipe(tmp_path, kind, model=str(student))
    assert exit_code(check(recipe_from(settings))) == 0
    result = train(recipe_from(settings), tmp_path / "run")
    assert result["teacher"]["num_parameters"] != result["student"]["num_parameters"]


def test_a_decoder_is_a_student_that_stock_classes_run_padded_on_either_side(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    settings = recipe(tmp_path, "classification", num_layers=1)
    assert exit_code(check(recipe_from(settings))) == 0
    train(recipe_from(settings), tmp_path / "run")
    folder = tmp_path / "run" / "student"
    data = load_task(recipe_from(settings).task, seed=0)
    rows, model = data.tests["test"], load_model(str(folder), task=data.task)
    ours = torch.tensor(predict(model, rows, encode(rows, model.tokenizer, data.task, max_length=128)).scores)
    net = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for side in ("left", "right"):
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
        inputs = tokenizer([row.text for row in rows], padding=True, truncation=True, max_length=128, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            torch.testing.assert_close(net(**inputs, use_cache=False).logits, ours, rtol=1e-4, atol=1e-5)


def test_a_regression_on_a_decoder_is_refused_early(tmp_path: Path) -> None:
    made = recipe_from(recipe(tmp_path, "regression", num_layers=1))
    assert any("has no bias" in one.text for one in check(made) if one.level == "error")
    with pytest.raises(RecipeError, match="has no bias"):
        load_model(str(tmp_path / "decoder"), task=load_task(made.task, seed=0).task)
