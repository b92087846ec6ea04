"""Every way to name the student: a checkpoint with a tokenizer of its own, some of the teacher's layers, a new shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import pytest
import transformers
from safetensors.torch import load_file

from understudy.base.errors import RecipeError
from understudy.recipe.load import recipe_from
from understudy.run import train


def recipe_of(folder: Path, student: dict[str, Any], *, kind: str = "classification", **method: Any) -> dict[str, Any]:
    head = "text" if kind == "text" else "backbone"
    model = checkpoints.save_checkpoint(folder / "model", "bert", head=head, num_hidden_layers=3)
    return {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {"model": str(model), "finetune": {"epochs": 1}},
        "student": student,
        "method": {"name": "automm", **method},
        "train": {"epochs": 1, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 0, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }


def trained(recipe: dict[str, Any], folder: Path) -> transformers.PretrainedConfig:
    result = train(recipe_from(recipe), folder / "run")
    assert result["student"]["metrics"]["test"]
    return transformers.AutoConfig.from_pretrained(folder / "run" / "student")


@pytest.mark.parametrize(
    ("student", "layers"),
    [
        ({"keep": [0, 2]}, 2),
        pytest.param({"keep": "last", "num_layers": 1}, 1, marks=pytest.mark.slow),
        pytest.param({"keep": "skip", "num_layers": 2}, 2, marks=pytest.mark.slow),
        pytest.param({"num_layers": 2, "init": "teacher"}, 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_some_of_the_layers(student, layers, tmp_path, understudy_home):
    config = trained(recipe_of(tmp_path, student), tmp_path)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("bert", layers, 32)


def test_a_new_shape_of_another_width(tmp_path, understudy_home):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    recipe = recipe_of(
        tmp_path, {"config": sizes}, softmax_regression_weight=0.1, hidden_weight=0.1, relation_weight=0.1,
        relation_heads=2, patient_weight=0.1, patient_mapping="uniform",
        rkd_distance_loss_weight=0.1, rkd_angle_loss_weight=0.2,
    )  # fmt: skip
    config = trained(recipe, tmp_path)
    assert (config.hidden_size, config.num_hidden_layers) == (16, 2)
    saved = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert not any("adaptor" in name or "projection" in name for name in saved)  # what helped to learn stays behind


@pytest.mark.parametrize("kind", ["classification", "pair", "tokens", pytest.param("regression", marks=pytest.mark.slow)])
def test_a_checkpoint_with_another_tokenizer(kind, tmp_path, understudy_home):
    """The teacher reads words, the student letters: rows (and words) are what they have in common."""
    folder = checkpoints.save_checkpoint(
        tmp_path / "small", "roberta", tokenizer=checkpoints.letters(), hidden_size=16, num_hidden_layers=2,
        max_position_embeddings=200,
    )  # fmt: skip
    recipe = recipe_of(tmp_path, {"model": str(folder), "max_length": 128}, kind=kind, output_feature_loss_weight=0.1)
    config = trained(recipe, tmp_path)
    assert (config.model_type, config.hidden_size) == ("roberta", 16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "student")
    assert tokenizer.tokenize("good") == list("good")


@pytest.mark.parametrize(
    ("kind", "method"), [("classification", {"hidden_weight": 1.0}), ("text", {"soft_label_weight": 1.0})]
)
def test_token_by_token_needs_one_tokenizer(kind, method, tmp_path, understudy_home):
    head = "text" if kind == "text" else "backbone"
    folder = checkpoints.save_checkpoint(
        tmp_path / "small", "bert", head=head, tokenizer=checkpoints.letters(), max_position_embeddings=200
    )
    recipe = recipe_of(tmp_path, {"model": str(folder), "max_length": 128}, kind=kind, **method)
    with pytest.raises(RecipeError, match="same tokenizer"):
        train(recipe_from(recipe), tmp_path / "run")


def test_label_orders_may_differ(tmp_path, understudy_home):
    """A fine-tuned teacher whose outputs stand in another order teaches the same as one in the task's order."""
    from transformers import BertForSequenceClassification

    recipe = recipe_of(tmp_path, {"keep": [0]})
    folder = checkpoints.save_checkpoint(tmp_path / "tuned", "bert", head="classification", num_hidden_layers=3)
    net = BertForSequenceClassification.from_pretrained(folder)
    weights = []
    for order in ([0, 1], [1, 0]):
        names = [["glad", "sad"][i] for i in order]
        turned = BertForSequenceClassification.from_pretrained(folder)
        turned.classifier.weight.data = net.classifier.weight.data[order].clone()
        turned.classifier.bias.data = net.classifier.bias.data[order].clone()
        turned.config.id2label, turned.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
        place = tmp_path / "-".join(names)
        turned.save_pretrained(place)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(place)
        out = tmp_path / f"run-{place.name}"
        train(recipe_from({**recipe, "teacher": {"model": str(place)}}), out)
        weights.append(load_file(out / "student" / "model.safetensors"))
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


def test_on_plain_text_a_head_on_the_vocabulary_is_missed_by_neither_side_alone(tmp_path, understudy_home):
    """A teacher with a head teaches a student without, in hidden states; the student is scored by what it learnt."""
    recipe = recipe_of(tmp_path, {"keep": [0]}, kind="text")
    bare = checkpoints.save_checkpoint(tmp_path / "bare", "bert")
    result = train(recipe_from({**recipe, "student": {"model": str(bare)}}), tmp_path / "run")
    assert list(result["student"]["metrics"]["test"]) == ["loss"]
    assert type(transformers.AutoModel.from_pretrained(tmp_path / "run" / "student")).__name__ == "BertModel"
    report = (tmp_path / "run" / "report.html").read_text()
    assert "objective.hard is left out" in report and "objective.soft is left out" in report


def test_a_masked_language_model_teaches_as_it_is(tmp_path, understudy_home):
    """No task, no labels, no fine-tuning; its outputs over the vocabulary do not fit the budget, so it stays live."""
    recipe = recipe_of(tmp_path, {"keep": [0, 2]}, kind="text", hard_label_weight=0.0, hidden_weight=0.5)
    del recipe["teacher"]["finetune"]
    students = []
    for name, budget in (("disk", 1.0), ("live", 1e-6)):
        result = train(recipe_from({**recipe, "cache": {"budget_gb": budget}}), tmp_path / name)
        students.append(load_file(tmp_path / name / "student" / "model.safetensors"))
        assert result["teacher"] is None and result["student"]["metrics"]["test"]["perplexity"]["value"] > 1
    assert bool(list((understudy_home / "signals").glob("*/parts/*")))
    for key, tensor in students[0].items():
        assert tensor.allclose(students[1][key], atol=1e-5), key
