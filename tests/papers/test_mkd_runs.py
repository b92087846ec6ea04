"""mKD as a run: three durable stages, a frozen base, folders a user can take away."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import pytest
import torch
import toys
import transformers
from safetensors.torch import load_file

from understudy.adapters.files import read_adapter
from understudy.adapters.transfer.command import transfer_folder
from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.models.load import load_model
from understudy.recipe.load import recipe_from
from understudy.recipe.transfer import TransferSettings, transfer_settings
from understudy.run import evaluate_folder, predict, train, verify


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mkd")
    toys.save_csv(folder / "data", rows=96)
    long = {"max_position_embeddings": 64}
    checkpoints.save_checkpoint(folder / "large", "bert", num_hidden_layers=4, hidden_size=48, **long)
    checkpoints.save_checkpoint(folder / "small", "distilbert", dim=32, n_layers=2, seed=3, **long)
    return folder


def recipe(world: Path, adapter: str, **method):
    data = world / "data"
    return recipe_from({
        "task": {
            "name": "custom", "kind": "classification", "columns": {"text": "body", "label": "mood"}, "max_length": 32,
            "files": {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")},
        },
        "teacher": {"model": str(world / "large"), "finetune": {"epochs": 1, "evaluate_at": []}},
        "student": {"model": str(world / "small")},
        "method": {"name": "mkd", "topk": 40, **method},
        "train": {"adapter": adapter, "epochs": 1, "batch_size": 16, "lr": 1e-2, "precision": "fp32", "evaluate_at": [0, 2],
                  "checkpoint_steps": 4},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 16}},
    })  # fmt: skip


def test_lora_ends_as_a_stock_student_and_a_peft_folder(world, tmp_path, understudy_home):
    wanted = recipe(world, "lora[r=4]", soft_label_weight=0.5)
    assert exit_code(check(wanted, out=tmp_path / "run")) == 0
    result = train(wanted, tmp_path / "run")
    assert all(result[name]["metrics"] for name in ("teacher", "baseline", "student"))
    student = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
    assert student.config.model_type == "distilbert"
    base = load_model(str(world / "small"), task=None if student is None else _task(student), seed=0)
    adapter = read_adapter(tmp_path / "run" / "adapter", base.net)
    assert {role for _, role, _ in adapter.tensors} == {"query", "value"} and "pre_classifier.weight" in adapter.head
    # The base is what it was, but for what LoRA was merged into.
    before, after = base.net.state_dict(), student.state_dict()
    changed = {key.rpartition(".")[0].rpartition(".")[2] for key in before if not torch.equal(before[key], after[key])}
    assert "v_lin" in changed and changed <= {"q_lin", "v_lin", "pre_classifier", "classifier"}
    metrics = (tmp_path / "run" / "steps" / "student" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics if "select" in line] == [0, 2, 6]
    stored = next((tmp_path / "run" / "steps" / "student").glob("step-*/model.safetensors"))
    assert all(".adapters." in key or "classifier" in key for key in load_file(stored))
    assert verify(tmp_path / "run", replay=1)["replayed_steps"] >= 1
    notes = " ".join(json.loads((tmp_path / "run" / "details.json").read_text())["notes"])
    assert "student layer 1 <- teacher layer 2" in notes and "tokens matched" in notes


def _task(net):
    class Labels:
        kind = "classification"
        labels = tuple(net.config.id2label.values())

    return Labels()


def test_a_bottleneck_student_keeps_it(world, tmp_path, understudy_home):
    wanted = recipe(world, "pfeiffer[reduction_factor=4]")
    train(wanted, tmp_path / "run")
    student = load_model(str(tmp_path / "run" / "student"))
    assert student.net.config.model_type == "understudy-distilbert"
    base = load_file(world / "small" / "model.safetensors")
    after = {key.removeprefix("distilbert."): value for key, value in student.net.state_dict().items()}
    assert all(torch.equal(base[key], after[key]) for key in base)
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["student"]["metrics"]["test"]["accuracy"]["value"]
    assert evaluate_folder(tmp_path / "run", wanted)["metrics"]["test"]["accuracy"] == pytest.approx(scores)
    answers = list(predict(tmp_path / "run", world / "data" / "test.csv", text="body"))
    assert len(answers) == 24 and {answer["label"] for answer in answers} <= {"glad", "sad"}
    # And the adapter alone, moved once more from the command line to another model.
    report = transfer_folder(
        tmp_path / "run" / "adapter", teacher=str(world / "small"), student=str(world / "small"), out=tmp_path / "again",
        texts=None, settings=TransferSettings(),
    )  # fmt: skip
    assert report["align"] == "none" and (tmp_path / "again" / "transfer.json").exists()
    one, two = (read_adapter(folder, student.net) for folder in (tmp_path / "run" / "adapter", tmp_path / "again"))
    assert all(torch.equal(one.tensors[key], two.tensors[key]) for key in one.tensors)
    with pytest.raises(RecipeError, match="there already"):
        transfer_folder(
            tmp_path / "again", teacher="x", student="y", out=tmp_path / "again", texts=None, settings=TransferSettings()
        )  # fmt: skip


def test_an_adapter_that_exists_is_taken(world, tmp_path, understudy_home):
    first = recipe(world, "lora[r=2]")
    train(first, tmp_path / "first")
    method = first.method.model_copy(update={"adapter": str(tmp_path / "first" / "adapter")})
    own = first.model_copy(update={"method": method})
    assert "remove `teacher.finetune`" in " ".join(str(finding) for finding in check(own, out=tmp_path / "x"))
    data = own.model_dump(mode="json")
    data["teacher"].update(model=str(world / "small"), finetune=None)
    data["method"].update(align="none")
    again = recipe_from(data)
    result = train(again, tmp_path / "second")
    assert result["teacher"]["metrics"] and result["student"]["metrics"]


def test_what_cannot_work_is_said_before_anything_is_trained(world, tmp_path):
    wanted = recipe(world, "lora", layer_map=[0])
    assert "must name one teacher layer" in " ".join(str(finding) for finding in check(wanted, out=tmp_path / "x"))
    data = recipe(world, "lora").model_dump(mode="json")
    data["train"]["only"] = "all"
    assert "mkd trains an adapter" in " ".join(str(finding) for finding in check(recipe_from(data), out=tmp_path / "x"))
    with pytest.raises(RecipeError, match="layer_map"):
        transfer_settings(["layer_map=middle"])
