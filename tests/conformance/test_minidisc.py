"""MiniDisc and MaxiDisc from end to end on toys: every kind of task, every selector, stages shared, nothing mistaken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import toys
from transformers import AutoModelForSequenceClassification

from understudy.base.errors import RecipeError, VerifyError
from understudy.models.anatomy import anatomy
from understudy.recipe.load import recipe_from
from understudy.run import train, verify

TRAIN = {"epochs": 1, "batch_size": 16, "lr": 5e-3, "precision": "fp32"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_checkpoint(tmp_path_factory.mktemp("minidisc") / "teacher", layers=3)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    return {kind: checkpoints.task_settings(folder / kind, kind) for kind in ("classification", "regression", "tokens")}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    """One shared store for the tests of this file: the teachers are fine-tuned once."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("home")
        patch.setenv("UNDERSTUDY_HOME", str(path))
        yield path


def recipe(checkpoint: Path, task: dict[str, Any], method: dict[str, Any], **more: Any):
    return recipe_from(
        {
            "task": task,
            "teacher": {"model": str(checkpoint), "finetune": {"epochs": 2}},
            "train": TRAIN,
            "evaluate": {"baseline": False, "bootstrap": 5, "latency": {"repeats": 3, "length": 8}},
            "method": method,
            **more,
        }
    )


def kept(run: Path, step: str) -> Any:
    return json.loads((run / "steps" / step / "done.json").read_text())["value"]


@pytest.mark.parametrize("kind", ["classification", "regression", "tokens"])
def test_every_kind_of_task(kind, checkpoint, tasks, tmp_path):
    """Acceptance 5 and 13: classes, numbers and tags; the score that enters T(s) is at most 1."""
    run = tmp_path / "run"
    result = train(recipe(checkpoint, tasks[kind], {"name": "minidisc", "sparsity": 0.75}), run)
    choice = kept(run, "choice-1")
    assert [row["sparsity"] for row in choice["rows"]] == [0.5, 0.6, 0.7]
    assert all(-1 <= row["score"] <= 1 for row in choice["rows"])
    assert choice["chosen"] == max(choice["rows"], key=lambda row: (row["T"], row["sparsity"]))["sparsity"] < 0.75
    assert result["student"]["num_parameters"] < result["teacher"]["num_parameters"]
    page = (run / "report.html").read_text()
    assert "The assistant" in page and "T(s) = " in page and "times direct distillation" in page
    cost = kept(run, "cost")
    assert cost["stages"][0]["units"] == pytest.approx(1 + 3 * (0.5 + 0.4 + 0.3))
    assert cost["stages"][1]["units"] == pytest.approx(1 - choice["chosen"] + 3 * 0.25)


def test_the_student_is_small_for_real(checkpoint, tasks, tmp_path):
    run = tmp_path / "run"
    train(recipe(checkpoint, tasks["classification"], {"name": "minidisc", "sparsity": 0.75}), run)
    net = AutoModelForSequenceClassification.from_pretrained(run / "student")
    row = anatomy(net)
    assert sum(row.out(layer).in_features // 8 for layer in row.layers(net)) == 3  # of 12 heads of 8
    assert sum(row.down(layer).in_features for layer in row.layers(net)) == 48  # of 192 neurons


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ({"selector": "none"}, {"student"}),
        ({"selector": "capacity-gap"}, {"assistant-1", "student"}),
        ({"sandwich": "sampled", "candidates": [0.2, 0.3, 0.5, 0.6]}, {"candidates-1", "choice-1", "student"}),
        ({"iterations": 3, "candidates": [0.3, 0.6]}, {"candidates-1", "choice-1", "student"}),
        ({"parity": True, "lam": 0.0, "hidden_map": [[0, 0], [3, 3]]}, {"candidates-1", "choice-1", "student"}),
        ({"include_target": True, "lam": 100}, {"candidates-1", "choice-1"}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_selectors_and_schedules(method, steps, checkpoint, tasks, tmp_path):
    run = tmp_path / "run"
    train(recipe(checkpoint, tasks["classification"], {"name": "minidisc", "sparsity": 0.75, **method}), run)
    made = {path.parent.name for path in run.glob("steps/*/step.json")}
    assert steps <= made
    assert ("student" in steps) == ("student" in made) and ("assistant-1" in steps) == ("assistant-1" in made)
    if "iterations" in method and kept(run, "choice-1")["chosen"] == 0.3:
        assert "choice-2" in made
    if "include_target" in method:
        assert kept(run, "choice-1")["chosen"] == 0.75


def test_another_lam_trains_no_candidate_again(checkpoint, tasks, tmp_path):
    keys = []
    for lam in (0.2, 0.9):
        run = tmp_path / str(lam)
        train(recipe(checkpoint, tasks["classification"], {"name": "minidisc", "sparsity": 0.75, "lam": lam}), run)
        keys.append(json.loads((run / "steps" / "candidates-1" / "step.json").read_text())["key"])
    assert keys[0] == keys[1]


def steps_of(run: Path) -> dict[str, str]:
    marks = (json.loads(path.read_text()) for path in run.glob("steps/*/step.json"))
    return {mark["name"]: mark["key"] for mark in marks if mark["about"]["kind"] == "fit" and mark["name"] != "teacher"}


def test_the_sweep_shares_stages_and_keeps_the_best(checkpoint, tasks, tmp_path):
    run = tmp_path / "sweep"
    method = {"name": "maxidisc", "assistants": ["50S", "60S"], "seeds": [0, 1]}
    train(recipe(checkpoint, tasks["classification"], method, student={"sparsity": 0.75}), run)
    steps = {"75S", "50S", "50S-75S", "60S", "60S-75S"}
    assert set(steps_of(run)) == steps | {f"{name}-seed1" for name in steps}
    trials = kept(run, "trials")
    rows = {(row["way"], row["seed"]): row for row in trials["rows"]}
    assert set(rows) == {(way, seed) for way in ("75S", "50S-75S", "60S-75S") for seed in (0, 1)}
    assert rows["75S", 0]["units"] == pytest.approx(1 + 3 * 0.25)
    assert rows["50S-75S", 0]["units"] == pytest.approx(1 + 3 * 0.5 + 0.5 + 3 * 0.25)
    means = {way: (rows[way, 0]["score"] + rows[way, 1]["score"]) / 2 for way, _ in rows}
    assert means[trials["chosen"]["way"]] == max(means.values())
    assert "all together" in (run / "report.html").read_text()

    path = tmp_path / "path"  # one of its ways by itself: every stage is there already
    train(recipe(checkpoint, tasks["classification"], {"name": "maxidisc", "path": "60,75S"}), path)
    assert steps_of(path) == {name: steps_of(run)[name] for name in ("60S", "60S-75S")}


def test_numbers_that_look_alike_are_not_mistaken(checkpoint, tasks, tmp_path):
    """Acceptance 7: the original's "6,4L" found the assistant of "60,90S" by its prefix."""
    found = {}
    for path in ("2,1L", "20,90S", "2L,90S"):
        run = tmp_path / path
        train(recipe(checkpoint, tasks["classification"], {"name": "maxidisc", "path": path}), run)
        found[path] = steps_of(run)
    assert set(found["2,1L"]) == {"2L", "2L-1L"} and set(found["20,90S"]) == {"20S", "20S-90S"}
    keys = [key for steps in found.values() for key in steps.values()]
    assert found["2L,90S"]["2L"] == found["2,1L"]["2L"]  # the same stage of another way is shared
    assert len(set(keys)) == len(keys) - 1


def test_shallow_students_learn_with_the_default_loss(checkpoint, tasks, tmp_path):
    """Acceptance 8, conventional distillation: layer-dropped students of any depth."""
    run = tmp_path / "run"
    train(recipe(checkpoint, tasks["classification"], {"name": "maxidisc", "path": []}, student={"num_layers": 2}), run)
    assert set(steps_of(run)) == {"2L"}
    net = AutoModelForSequenceClassification.from_pretrained(run / "student")
    assert net.config.num_hidden_layers == 2


def test_a_score_of_zero_or_less_is_kept(checkpoint, tasks, tmp_path):
    """Acceptance 6: with a learning rate of almost nothing the correlation is what it is; the original saved nothing."""
    task = tasks["regression"] | {"select": "pearson"}
    made = recipe(checkpoint, task, {"name": "minidisc", "sparsity": 0.75}, train=TRAIN | {"lr": 1e-12},
                  teacher={"model": str(checkpoint), "finetune": {"lr": 1e-12}})  # fmt: skip
    result = train(made, tmp_path / "run")
    assert result["student"] and kept(tmp_path / "run", "choice-1")["rows"]


@pytest.mark.parametrize(
    ("method", "student", "remedy"),
    [
        ({"name": "minidisc"}, {"num_layers": 2}, "student.sparsity"),
        ({"name": "minidisc"}, {"num_layers": 2, "sparsity": 0.5}, "student.sparsity alone"),
        ({"name": "minidisc"}, {"sparsity": 0.4}, "min_assistant_sparsity"),
        ({"name": "minidisc", "candidates": [0.8]}, {"sparsity": 0.75}, "include_target"),
        ({"name": "maxidisc", "path": ["75S", "50S", "60S"]}, {"sparsity": 0.6}, "from larger to smaller"),
        ({"name": "maxidisc", "path": ["9L", "2L"]}, {"num_layers": 2}, "which has 3"),
        ({"name": "minidisc", "parity": True}, {"sparsity": 0.75}, "below six layers"),
    ],
)  # fmt: skip
def test_what_cannot_work_says_what_to_do(method, student, remedy, checkpoint, tasks, tmp_path):
    with pytest.raises(RecipeError, match=remedy):
        train(recipe(checkpoint, tasks["classification"], method, student=student), tmp_path / "run")


def test_a_metric_that_is_no_score_is_refused(checkpoint, tasks, tmp_path):
    task = tasks["regression"] | {"select": "mse"}
    with pytest.raises(RecipeError, match="capacity-gap"):
        train(recipe(checkpoint, task, {"name": "minidisc", "sparsity": 0.75}), tmp_path / "run")


def test_a_student_from_a_shared_step_cannot_be_replayed_and_says_so(checkpoint, tasks, tmp_path):
    train(recipe(checkpoint, tasks["classification"], {"name": "maxidisc", "path": "75S"}), tmp_path / "run")
    assert verify(tmp_path / "run")["files"] > 0
    with pytest.raises(VerifyError, match="leave --replay out"):
        verify(tmp_path / "run", replay=3)
