"""Plain text with models that have no head on the vocabulary: what they learn, how they are chosen and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
import transformers

from understudy.base.errors import RecipeError
from understudy.cache import LiveTeacher, content_digest
from understudy.check import check, exit_code
from understudy.data.encode import collate
from understudy.lab import Lab
from understudy.lab.fits import loss_by_row
from understudy.methods.automm.distil import distil
from understudy.models.needs import Needs
from understudy.models.signals import forward
from understudy.objective import Objective
from understudy.objective.terms import hidden_states
from understudy.recipe.load import recipe_from
from understudy.run import train, verify
from understudy.train.guard import StopSignals


def recipe(folder: Path, *, head: str = "backbone", **method: Any) -> dict[str, Any]:
    return {
        "task": checkpoints.task_settings(folder / "data", "text"),
        "teacher": {"model": str(checkpoints.save_checkpoint(folder / "model", "bert", head=head, num_hidden_layers=2))},
        "student": {"keep": [1]},
        "method": {"name": "automm", **method},
        "train": {"epochs": 3, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 8}},
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("bare")
    settings = recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_HOME", str(folder / "home"))
        result = train(recipe_from(settings), folder / "run")
    return settings, folder / "run", result


def test_the_check_passes_and_the_run_ends_with_the_objective_as_its_score(finished):
    settings, folder, result = finished
    assert exit_code(check(recipe_from(settings))) == 0
    assert result["task"]["metrics"] == ["loss"] and list(result["student"]["metrics"]["test"]) == ["loss"]
    score = result["student"]["metrics"]["test"]["loss"]
    assert score["low"] <= score["value"] <= score["high"]
    assert "perplexity" not in (folder / "student" / "README.md").read_text()
    assert "pipeline_tag: feature-extraction" in (folder / "student" / "README.md").read_text()
    report = (folder / "report.html").read_text()
    assert "objective.hard is left out" in report and "objective.soft is left out" in report
    terms = json.loads((folder / "steps/student/metrics.jsonl").read_text().splitlines()[0])["terms"]
    assert set(terms) == {"output_feature", "hidden"}
    assert verify(folder)["files"] > 10


def test_the_student_is_a_base_model(finished):
    _, folder, _ = finished
    net, report = transformers.AutoModel.from_pretrained(folder / "student", output_loading_info=True)
    assert type(net).__name__ == "BertModel" and net.config.num_hidden_layers == 1
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_the_second_run_of_the_command_finds_the_scores(finished, monkeypatch):
    settings, folder, result = finished
    monkeypatch.setenv("UNDERSTUDY_HOME", str(folder.parent / "home"))
    monkeypatch.setattr("understudy.lab.bench.fit", lambda *a, **k: pytest.fail("trained again"))
    again = train(recipe_from(settings), folder)
    assert again["student"] == json.loads(json.dumps(result))["student"] and again["teacher_forwards"] == 0


@torch.no_grad()
def test_the_values_of_the_rows_average_to_the_loss_over_all_tokens(tmp_path: Path, understudy_home: Path):
    """Against the loss written out: squared differences of all tokens of all rows, over width and number of tokens."""
    lab = Lab(recipe_from(recipe(tmp_path)), tmp_path / "run", StopSignals())
    teacher, student = lab.teacher(), lab.student()
    width = student.net.config.hidden_size
    objective = Objective(hidden=3.0 * hidden_states(((1, 2),), student_width=width, teacher_width=width, seed=0))
    rows = lab.encoded(student, lab.data.tests["test"])[0]
    theirs = lab.encoded(teacher.model, lab.data.select)[0]
    says = lab.signals(teacher, objective.needs_teacher, theirs)
    assert lab.signals(teacher, objective.needs_teacher, theirs) is says  # once is enough

    class Live:
        def signals(self, indices: Any) -> Any:
            return forward(teacher.model.net, collate(rows, indices), objective.needs_teacher, kind="text")

    values = loss_by_row(student, rows, objective, Live())
    summed = tokens = 0.0
    for i in range(len(rows)):
        ids = torch.from_numpy(rows.input_ids[rows.offsets[i] : rows.offsets[i + 1]].astype(np.int64))[None]
        one = student.net(ids, output_hidden_states=True).hidden_states[1]
        two = teacher.model.net(ids, output_hidden_states=True).hidden_states[2]
        summed += float(((one - two) ** 2).sum())
        tokens += ids.numel()
    assert values.mean() == pytest.approx(3.0 * summed / tokens / width, rel=1e-4)


def test_masks_belong_to_the_rows_and_not_to_the_seed(tmp_path: Path, understudy_home: Path):
    """Several seeds on the same rows: what is hidden, in training as in tests, follows `task.split_seed`, as hold-outs do."""
    settings = recipe(tmp_path)

    def masked(seed: int, split_seed: int | None) -> list[str]:
        task = settings["task"] | {"split_seed": split_seed}
        lab = Lab(recipe_from(settings | {"seed": seed, "task": task}), tmp_path / "run", StopSignals())
        model = lab.pretrained().model
        return [
            content_digest(one) for rows in (lab.data.train, lab.data.select, lab.data.tests["test"])
            for one in lab.encoded(model, rows)
        ]  # fmt: skip

    assert masked(1, 0) == masked(2, 0) == masked(0, None)
    assert not set(masked(1, None)) & set(masked(2, None))


def test_that_outputs_are_too_many_for_the_disk_is_said_once(tmp_path: Path, understudy_home: Path, capsys):
    """And not for each masking of the rows, whose outputs are stored one by one."""
    settings = recipe(tmp_path) | {"cache": {"budget_gb": 1e-6}}
    settings["task"]["mask_variants"] = 3
    lab = Lab(recipe_from(settings), tmp_path / "run", StopSignals())
    teacher = lab.teacher()
    maskings = [lab.signals(teacher, Needs(hidden=(1,)), part) for part in lab.encoded(teacher.model, lab.data.train)]
    assert all(isinstance(one, LiveTeacher) for one in maskings) and len(set(map(id, maskings))) == 3
    assert capsys.readouterr().err.count("more than cache.budget_gb allows") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": {"name": "finetune"}}, "objective.hard: it compares outputs, and the student has no head on the vocabulary"),
        ({"method": {"name": "automm", "hidden_weight": 0, "output_feature_loss_weight": 0}},
         "nothing to learn.*objective.hard is left out: it compares outputs, and the student has no head.*objective.soft"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_learnt_it_is_said(changes, words: str, tmp_path: Path, understudy_home: Path):
    with pytest.raises(RecipeError, match=words):
        train(recipe_from(recipe(tmp_path) | changes), tmp_path / "run")


def test_fine_tuning_a_bare_teacher_is_refused_early(tmp_path: Path, understudy_home: Path):
    settings = recipe(tmp_path)
    settings["teacher"]["finetune"] = {"epochs": 1}
    (error,) = (finding for finding in check(recipe_from(settings)) if finding.level == "error")
    assert error.exit_code == 2 and "leave teacher.finetune out" in error.text
    with pytest.raises(RecipeError, match="has no head on the vocabulary to fine-tune on"):
        train(recipe_from(settings), tmp_path / "run")


def test_a_student_with_a_head_may_learn_the_states_of_a_teacher_without(tmp_path: Path, understudy_home: Path):
    """Its words are scored as those of any language model; the labels it still has are learnt."""
    settings = recipe(tmp_path)
    model = checkpoints.save_checkpoint(tmp_path / "mlm", "bert", head="text", num_hidden_layers=1, seed=1)
    settings["student"] = {"model": str(model)}
    lab = Lab(recipe_from(settings), tmp_path / "run", StopSignals())
    student = distil(lab.recipe.method, lab)
    assert not student.bare and student.notes[-1].startswith("objective.soft is left out: it compares outputs, and the teacher")
    assert set(lab.predictions("student", type(lab.teacher())(student, "x"))["test"].gold.tolist()) != {1.0}
