"""A pruned student with any method, on every family and kind of task: cut for real, and loadable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import tiny_models
import torch
import transformers

from understudy.base.errors import RecipeError
from understudy.evaluate.measure import flops, num_parameters
from understudy.models.load import load_model
from understudy.models.restructure import num_units
from understudy.models.structure import structure_of
from understudy.recipe.load import recipe_from
from understudy.run import train
from understudy.students.sparsify import parameters_of

FAST = [("roberta", "regression"), ("electra", "multilabel"), ("bert", "text"), ("deberta-v2", "pair"), ("modernbert", "tokens")]
TABLE = [
    pytest.param(family, kind, id=f"{family}-{kind}", marks=[] if (family, kind) in FAST else pytest.mark.slow)
    for family in tiny_models.FAMILIES
    for kind in checkpoints.KINDS
]


def recipe_of(folder: Path, student: dict[str, Any], *, family: str = "bert", kind: str = "classification") -> dict[str, Any]:
    head = "text" if kind == "text" else "backbone"
    model = checkpoints.save_checkpoint(folder / "model", family, head=head, num_hidden_layers=3)
    return {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {"model": str(model), "finetune": {"epochs": 1}},
        "student": student,
        "method": {"name": "automm"},
        "train": {"epochs": 1, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 0, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }


@pytest.mark.parametrize(("family", "kind"), TABLE)
def test_from_files_to_a_small_student(family: str, kind: str, tmp_path: Path, understudy_home: Path):
    recipe = recipe_of(tmp_path, {"sparsity": 0.5}, family=family, kind=kind)
    result = train(recipe_from(recipe), tmp_path / "run")
    model = load_model(str(tmp_path / "run" / "student"))
    heads, neurons = num_units(model.net)
    layers = 1 if family == "albert" else 3
    assert (len(heads), sum(heads), sum(neurons)) == (layers, 2 * layers, 24 * layers)
    assert result["student"]["num_parameters"] == num_parameters(model.net) < 0.9 * num_parameters_of(tmp_path / "model")
    assert (tmp_path / "run" / "steps" / "importance" / "step.json").exists()
    notes = json.loads((tmp_path / "run" / "details.json").read_text())["notes"]
    assert any(f"{2 * layers} of {4 * layers} heads and {24 * layers} of {48 * layers} neurons" in note for note in notes)
    auto = {"tokens": transformers.AutoModelForTokenClassification, "text": transformers.AutoModelForMaskedLM}
    again = auto.get(kind, transformers.AutoModelForSequenceClassification).from_pretrained(tmp_path / "run" / "student")
    weights = model.net.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())


def num_parameters_of(folder: Path) -> int:
    return num_parameters(transformers.AutoModel.from_pretrained(folder))


@pytest.mark.parametrize(
    ("student", "layers"),
    [
        ({"sparsity": 0.5, "num_layers": 2, "keep": "last"}, 2),
        pytest.param({"sparsity": 0.9, "keep": [0, 2], "prune": {"min_heads": 1}}, 2, marks=pytest.mark.slow),
        pytest.param({"sparsity": 0.6, "prune": {"uniform": True}}, 3, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_layers_and_units_go_together(student: dict[str, Any], layers: int, tmp_path: Path, understudy_home: Path):
    train(recipe_from(recipe_of(tmp_path, student)), tmp_path / "run")
    heads, _ = num_units(load_model(str(tmp_path / "run" / "student")).net)
    assert len(heads) == layers and min(heads) >= student.get("prune", {}).get("min_heads", 0)


def test_runs_share_the_scores_and_a_finished_run_repeats_nothing(tmp_path: Path, understudy_home: Path, monkeypatch):
    recipe = recipe_of(tmp_path, {"sparsity": 0.5})
    train(recipe_from(recipe), tmp_path / "one")
    monkeypatch.setattr("understudy.lab.pruning.importance", lambda *a, **k: pytest.fail("measured again"))
    train(recipe_from({**recipe, "student": {"sparsity": 0.8}, "method": "finetune"}), tmp_path / "two")
    small, large = (structure_of(load_model(str(tmp_path / name / "student")).net) for name in ("two", "one"))
    assert small is not None and large is not None and small.neurons is not None and large.neurons is not None
    assert all(set(few) <= set(many) for few, many in zip(small.neurons, large.neurons, strict=True))


_SLOW = [pytest.param(what, marks=pytest.mark.slow) for what in ("parameters", "latency_ms", "total")]


@pytest.mark.parametrize("what", ["flops", *_SLOW])
def test_budgets(what: str, tmp_path: Path, understudy_home: Path):
    recipe = recipe_of(tmp_path, {"sparsity": 0.2, "prune": {"count": "total"}})
    if what != "total":
        recipe["student"] = {"prune": {"budget": {what: {"parameters": 20_000, "flops": 300_000, "latency_ms": 1000}[what]}}}
    train(recipe_from(recipe), tmp_path / "run")
    net = load_model(str(tmp_path / "run" / "student")).net
    encoder = sum(parameter.numel() for layer in net.bert.encoder.layer for parameter in layer.parameters())
    if what == "parameters":
        assert 20_000 - (4 * 8 * 33 + 8 * 65) < encoder <= 20_000  # one head and one block of neurons more are too many
    elif what == "flops":
        assert 250_000 < flops(net, length=8) <= 300_000
    elif what == "latency_ms":  # a second is enough for everything
        assert num_units(net) == ([4] * 3, [48] * 3)
    else:
        whole = load_model(str(tmp_path / "run" / "steps" / "student" / "model")).net
        assert num_parameters(whole) == num_parameters(net)
        teacher = parameters_of(transformers.BertForSequenceClassification.from_pretrained(tmp_path / "model"), count="total")
        full = teacher.rest + 3 * (4 * teacher.per_head[0] + 48 * teacher.per_neuron[0])
        assert 0.8 * full - 8 * 65 < num_parameters(net) <= 0.8 * full


def test_a_budget_out_of_reach_says_what_is_left(tmp_path: Path, understudy_home: Path):
    recipe = recipe_of(tmp_path, {"prune": {"budget": {"parameters": 10}}})
    with pytest.raises(RecipeError, match=r"student\.prune\.budget\.parameters is 10, but .* still 576 "):
        train(recipe_from(recipe), tmp_path / "run")


def test_as_released(tmp_path: Path, understudy_home: Path):
    """Scores from the rows that choose checkpoints; widths rounded layer by layer."""
    recipe = recipe_of(tmp_path, {"sparsity": 0.45, "prune": {"parity": True}})
    train(recipe_from(recipe), tmp_path / "run")
    heads, neurons = num_units(load_model(str(tmp_path / "run" / "student")).net)
    assert sum(heads) == 12 - 5 and all(number % 8 == 0 for number in neurons)
    about = json.loads((tmp_path / "run" / "steps" / "importance" / "step.json").read_text())["about"]
    assert about["granularity"] == "batch"
