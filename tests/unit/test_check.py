"""`understudy check`: what would fail is found, with the code it would fail with; what fits is said to fit."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toys

from understudy.base.errors import RecipeError
from understudy.check import Finding, check, exit_code
from understudy.recipe.load import recipe_from, to_yaml


@pytest.fixture
def data(toy_checkpoint: Path, toy_csv: Path) -> dict[str, Any]:
    return {
        "task": {
            "name": "custom",
            "kind": "classification",
            "files": {"train": str(toy_csv / "train.csv"), "test": str(toy_csv / "test.csv")},
            "columns": {"text": "body", "label": "mood"},
            "max_length": 32,
        },
        "teacher": {"model": str(toy_checkpoint), "finetune": {"epochs": 1}},
        "student": {"num_layers": 1},
        "method": "automm",
    }


def errors(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.level == "error"]


def test_a_recipe_that_fits(data, tmp_path):
    findings = check(recipe_from(data), out=tmp_path / "run")
    assert exit_code(findings) == 0, errors(findings)
    text = "\n".join(map(str, findings))
    assert "2 labels: glad, sad" in text
    assert "2 layers of width 32" in text and "1 layer of width 32" in text
    assert "automm fits" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "code", "sentence"),
    [
        ("task.files.train=nowhere.csv", 3, "nowhere.csv"),
        ("task.columns.label=moood", 3, "moood"),
        ("task.labels=[glad, grim]", 3, "sad"),
        ("student={keep: [0, 5]}", 2, "the teacher's layers are numbered from 0 to 1"),
        ("student={num_layers: 3}", 2, "numbered from 0 to 1"),
        ("student={config: {hidden_size: 30}}", 2, "can be built"),
        ("student={model: ./nowhere}", 2, "nowhere"),
        ("teacher.finetune=null", 2, "no trained head"),
        ("method={name: automm, hidden_weight: 1, hidden_mapping: [7]}", 2, "names teacher layer 7"),
        ("task.select=f7", 2, "f7"),
    ],
)
def test_what_would_fail_is_found(data, tmp_path, override, code, sentence):
    findings = check(recipe_from(data, [override]), out=tmp_path / "run")
    assert exit_code(findings) == code
    assert any(sentence in line for line in errors(findings)), errors(findings)


def test_a_teacher_with_other_labels(data, tmp_path):
    folder = toys.save_checkpoint(tmp_path / "other", head="BertForSequenceClassification")
    config = folder / "config.json"
    text = config.read_text().replace('"model_type"', '"id2label": {"0": "red", "1": "blue"}, "model_type"')
    config.write_text(text)
    findings = check(recipe_from(data | {"teacher": {"model": str(folder)}}), out=tmp_path / "run")
    assert exit_code(findings) == 3
    assert any("'red'" in line and "'glad'" in line for line in errors(findings)), errors(findings)


def test_what_is_on_the_hub_is_only_a_warning_from_here(data, tmp_path):
    changes = {"task": "glue/mrpc", "teacher": {"model": "google-bert/bert-base-uncased", "finetune": {}}}
    findings = check(recipe_from(data | changes), out=tmp_path / "run")
    assert exit_code(findings) == 0
    warnings = [finding for finding in findings if finding.level == "warning"]
    assert [finding.key for finding in warnings] == ["task", "teacher"]
    assert all("not reachable from here" in finding.text for finding in warnings)


def test_the_output_folder(data, tmp_path):
    recipe = recipe_from(data)
    (tmp_path / "file").write_text("x")
    assert exit_code(check(recipe, out=tmp_path / "file" / "run")) == 6
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert any("holds this run already" in finding.text for finding in check(recipe, out=run))
    other = check(recipe_from(data, ["seed=1"]), out=run)
    assert exit_code(other) == 2 and "another --out" in "".join(errors(other))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(data, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert exit_code(check(recipe_from(data), out=tmp_path / "closed" / "run")) == 6


def test_too_little_disk(data, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    findings = check(recipe_from(data), out=tmp_path / "run")
    assert exit_code(findings) == 6
    assert "make room" in "".join(errors(findings))


def test_unexpected_errors_are_not_swallowed(data, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("understudy.data.tasks.load_task", broken)
    with pytest.raises(ZeroDivisionError):
        check(recipe_from(data))


def test_the_first_error_decides_the_exit_code():
    findings = [Finding("ok", "a", ""), Finding("error", "b", "", 3), Finding("error", "c", "", RecipeError.exit_code)]
    assert exit_code(findings) == 3
