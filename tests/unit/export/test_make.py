"""What an export leaves behind, and that a wrong one leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import toys
from exports import inputs, pruned, student

from understudy.base import disk
from understudy.base.errors import RecipeError, VerifyError
from understudy.export import export_folder, export_model, graph, make
from understudy.export.describe import lines, readme
from understudy.models.load import load_model
from understudy.models.save import save_model
from understudy.recipe.settings import LatencySettings

QUICK = LatencySettings(length=8, repeats=3)
CARD = "---\nlibrary_name: transformers\ntags:\n- understudy\n---\n\n# A student\n\nIts scores.\n"


@torch.no_grad()
def test_the_padded_form_of_a_pruned_student(tmp_path: Path):
    model = pruned(student(types=True))
    made = export_model(model, "padded", out=tmp_path / "out", card=CARD, eval_results="- {}\n", latency=QUICK)
    back = load_model(str(tmp_path / "out"))
    given = inputs(types=True)
    torch.testing.assert_close(back.net(**given).logits, model.net(**given).logits, atol=1e-6, rtol=1e-5)
    assert back.labels == model.labels
    facts = json.loads((tmp_path / "out" / "structure.json").read_text())
    assert {"folder": str(tmp_path / "out"), **facts} == made
    assert facts["structure"]["heads"][0] == [] and facts["uncut"]["heads"] == 4 and not facts["needs_understudy"]
    assert facts["compared"]["max_abs_difference"] < 1e-5 and facts["compared"]["rows"] == 64
    assert facts["num_parameters"] == sum(p.numel() for p in back.net.parameters())
    assert set(facts["latency_ms"]) == set(facts["size_mb"]) == {"student", "padded"}
    assert facts["latency_ms"]["padded"]["length"] == 8 and facts["flops"] > 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith(CARD.rstrip()) and "zeros stand in their place" in text
    assert 'AutoModelForSequenceClassification.from_pretrained(".")' in text
    assert (tmp_path / "out" / ".eval_results" / "understudy.yaml").read_text() == "- {}\n"
    assert not disk.problems(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert any("padded" in line for line in lines(made))


@torch.no_grad()
def test_the_exact_form_is_small_and_says_what_it_needs(tmp_path: Path):
    model = pruned(student())
    made = export_model(model, "exact", out=tmp_path / "out", latency=QUICK)
    back = load_model(str(tmp_path / "out"))
    assert torch.equal(back.net(**inputs()).logits, model.net(**inputs()).logits)
    assert made["num_parameters"] == sum(p.numel() for p in model.net.parameters())
    assert made["needs_understudy"]
    assert "it loads only after `understudy.register()`" in (tmp_path / "out" / "README.md").read_text()
    assert "understudy.register()" in lines(made)[-1]
    assert not export_model(student(), "exact", out=tmp_path / "stock", latency=QUICK)["needs_understudy"]


def test_a_wrong_export_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    def broken(model):
        return student(seed=1)

    monkeypatch.setattr(make, "to_padded", broken)
    with pytest.raises(VerifyError, match="Nothing was written"):
        export_model(student(), "padded", out=tmp_path / "out", latency=QUICK)
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_is_replaced_only_by_a_good_one(tmp_path: Path, monkeypatch):
    export_model(student(), "hf", out=tmp_path / "out", latency=QUICK)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    monkeypatch.setattr(make, "to_hf", lambda model: student(seed=1))
    with pytest.raises(VerifyError):
        export_model(student(), "hf", out=tmp_path / "out", latency=QUICK)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    monkeypatch.undo()
    export_model(student(seed=2), "hf", out=tmp_path / "out", latency=QUICK)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a finished run looks like to an export."""
    folder = tmp_path / "runs" / "first"
    toys.save_csv(tmp_path / "data")
    (folder / "steps").mkdir(parents=True)
    files = {part: str(tmp_path / "data" / f"{part}.csv") for part in ("train", "dev", "test")}
    columns = {"text": "body", "label": "mood"}
    recipe = {
        "task": {"name": "custom", "kind": "classification", "files": files, "columns": columns, "max_length": 32},
        "method": {"name": "finetune"},
        "student": {"model": str(folder / "student")},
        "evaluate": {"latency": {"length": 8, "repeats": 3}},
    }
    (folder / "config.yaml").write_text(json.dumps(recipe))
    model = student()
    model.net, model.tokenizer, model.labels = toys.bert(), toys.tokenizer(), ("glad", "sad")
    save_model(model, folder / "student", card=CARD)
    return folder


@pytest.mark.parametrize("inside", ["", "student"])
def test_a_run_is_exported_beside_itself_and_compared_on_its_rows(run: Path, inside):
    made = export_folder(run / inside, "hf")
    assert made["folder"] == str(run.with_name("first-hf"))
    assert made["compared"]["rows"] > 10 and "built-in" not in made["compared"]["on"]
    assert made["latency_ms"]["hf"]["length"] == 8
    assert (run.with_name("first-hf") / "README.md").read_text().startswith(CARD.rstrip())


def test_without_its_data_a_run_is_compared_on_the_built_in_texts(run: Path):
    for file in (run.parents[1] / "data").iterdir():
        file.unlink()
    assert export_folder(run, "hf")["compared"]["on"].startswith("the built-in texts")


def test_a_model_folder_is_exported_beside_itself(run: Path, tmp_path: Path):
    (run / "student").rename(tmp_path / "model")
    made = export_folder(tmp_path / "model", "hf")
    assert made["folder"] == str(tmp_path / "model-hf") and "built-in" in made["compared"]["on"]
    made = export_folder(tmp_path / "model", "hf", recipe=run / "config.yaml")
    assert "built-in" not in made["compared"]["on"]


def test_places_that_would_be_damaged_are_refused(run: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match="lies in the run"):
        export_folder(run, "hf", out=run / "hf")
    with pytest.raises(RecipeError, match="exists and is not an earlier export"):
        export_folder(run, "hf", out=tmp_path / "data")
    model = (run / "student").rename(tmp_path / "model")
    with pytest.raises(RecipeError, match="is the folder being exported"):
        export_folder(model, "hf", out=model)
    with pytest.raises(RecipeError, match="has no student yet"):
        export_folder(run, "hf")


def test_what_cannot_be_asked_for(run: Path, tmp_path: Path, monkeypatch):
    with pytest.raises(RecipeError, match="choose one of hf, padded, exact, onnx"):
        export_folder(run, "tflite")
    with pytest.raises(RecipeError, match="--int8 goes with --to onnx"):
        export_folder(run, "hf", int8=True)
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(RecipeError, match=r"^--to onnx needs onnxruntime, .*: pip install 'understudy-lm\[onnx\]'$"):
        export_folder(run, "onnx")
    assert not run.with_name("first-onnx").exists()


def test_the_card_names_the_library_that_runs_it():
    took = {"median": 1.0, "iqr": 0.1, "batch_size": 1, "length": 8, "device": "cpu", "threads": 1}
    facts = {
        "form": "onnx", "kind": "classification", "decides": True, "needs_understudy": False, "size_mb": {"onnx": 1.0},
        "inputs": ["input_ids", "attention_mask"], "latency_ms": {"onnx": took},
        "compared": {"on": "toys", "rows": 1, "max_abs_difference": 0.0},
    }  # fmt: skip
    assert "library_name: onnx\ntags:\n- understudy\n---" in readme(CARD, facts)
    assert readme("", facts).startswith("# Student\n\n## This folder: the onnx form\n")
    assert "token_type_ids" not in readme("", facts)
