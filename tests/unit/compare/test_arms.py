"""From a file to arms: comparable students, one teacher, and early refusals that name the arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs

from understudy.base.errors import RecipeError
from understudy.compare.arms import Arm, make_plan
from understudy.lab.pruning import nearest_sparsity
from understudy.recipe.comparison import is_comparison, load_comparison


@pytest.fixture
def arms(toy_checkpoint, toy_csv, tmp_path) -> Any:
    """The arms of the toy recipe with these changes at the top, by name."""

    def make(*overrides: str, **changes: Any) -> dict[str, Arm]:
        path = tmp_path / "compare.yaml"
        path.write_text(json.dumps({**runs.recipe(toy_checkpoint, toy_csv), **changes}), encoding="utf-8")
        return {arm.name: arm for arm in make_plan(load_comparison(path, ["train.epochs=12", *overrides])).arms}

    return make


def test_an_objective_of_the_file_is_for_all_arms_that_have_a_teacher(arms):
    found = arms("compare.methods=automm,minidisc", objective={"hard": 0.2, "soft": 1.0, "rkd_angle": 2.0})
    assert set(found["finetune"].recipe.objective.terms()) == {"hard"}
    for name in ("automm", "minidisc"):
        terms = found[name].recipe.objective.terms()
        assert set(terms) == {"hard", "soft", "rkd_angle"} and terms["rkd_angle"].weight == 2.0


def test_methods_get_the_student_that_suits_them(arms):
    found = arms("compare.methods=automm,peakd,minidisc,maxidisc,mkd,kdnas")
    assert set(found["finetune"].recipe.objective.terms()) == {"hard"}  # each has the objective of its method
    assert "logit_kl" in found["peakd"].recipe.objective.terms() and "soft" in found["automm"].recipe.objective.terms()
    assert list(found) == ["finetune", "automm", "peakd", "minidisc", "maxidisc", "mkd", "kdnas"]
    for name in ("automm", "peakd", "mkd", "finetune"):
        assert found[name].recipe.student.num_layers == 1
    assert found["peakd"].recipe.share == "sps" and found["automm"].recipe.share == "none"
    for name in ("minidisc", "maxidisc"):
        assert found[name].recipe.student.sparsity == pytest.approx(0.5, abs=0.05)  # one layer of two
    assert found["kdnas"].recipe.method.space.max_parameters is not None
    for arm in found.values():
        assert arm.spends <= 12 and arm.recipe.evaluate.baseline is False


def test_auto_chooses_within_the_size_of_the_others(arms):
    found = arms("compare.methods=automm,auto")
    assert found["auto"].recipe.method.name == "automm" and found["auto"].spends == 12
    assert found["auto"].recipe.student.sparsity == pytest.approx(0.5, abs=0.06)  # one layer of two


def test_auto_is_put_together_with_limits_that_no_clock_decides(arms):
    tight = {"student": {"searched": True}, "method": {"name": "auto", "max_parameters": 90_000}}
    found = arms(arms={"tight": tight})["tight"].recipe
    assert found.method.name == "automm" and found.student.sparsity is not None  # a run of what was chosen
    with pytest.raises(RecipeError, match="arm tight: .*each time"):
        arms(arms={"tight": {**tight, "method": {"name": "auto", "max_latency_ms": 3.0}}})


def test_teacher_and_rows_are_the_same_for_all_arms_and_seeds(arms):
    found = arms("compare.methods=automm,mkd", "seed=5")
    made = [arm.of(seed) for arm in found.values() for seed in range(3)]
    assert {recipe.teacher.model_dump_json() for recipe in made} == {made[0].teacher.model_dump_json()}
    assert {(recipe.task.split_seed, recipe.teacher.seed) for recipe in made} == {(5, 5)}
    assert [recipe.seed for recipe in made] == [5, 6, 7] * 3
    assert made[0].teacher.finetune.epochs == 2  # as in the base recipe, whatever an arm's own epochs are


def test_anything_can_be_put_together(arms):
    found = arms(arms={
        "sps-rkd": {"student.share": "sps", "method": {"name": "automm", "rkd_distance_loss_weight": 1.0}},
        "pruned-adapter": {"student": {"sparsity": 0.5}, "train.only": "adapter"},
        "minidisc-patient": {"student": {"sparsity": 0.8}, "method": {"name": "minidisc", "objective": "pkd"}},
    })  # fmt: skip
    assert list(found) == ["finetune", "sps-rkd", "pruned-adapter", "minidisc-patient"]
    assert found["sps-rkd"].recipe.share == "sps" and found["sps-rkd"].recipe.train.epochs == 12
    assert found["minidisc-patient"].recipe.train.epochs == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"sparsity": 0.5, "share": "sps"}, "method": {"name": "minidisc"}}, "share does not go with it"),
        ({"method": {"name": "minidisc"}}, "give student.sparsity alone"),
        ({"method": {"name": "automm", "rkd_distnce_loss_weight": 1.0}}, "Did you mean 'rkd_distance_loss_weight'"),
        ({"method.temprature": 2.0}, "Did you mean 'temperature'"),
        ({"teacher.finetune.epochs": 9}, "changes `teacher`, which is the same for all arms"),
        ({"task.max_length": 16}, "changes `task`"),
        ({"student": {"num_layers": 5}}, "numbered from 0 to 1"),
        ({"method": {"name": "maxidisc", "path": ["50S", "60S", "70S", "80S"]}, "student": {"sparsity": 0.8}, "train.epochs": 3},
         "4 trainings costs 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_name_and_reason(arms, changes, words):
    with pytest.raises(RecipeError) as caught:
        arms("train.epochs=3", arms={"good": {"student.share": "sps"}, "odd": changes})
    assert "arm odd" in str(caught.value) and words in str(caught.value) and "arm good" not in str(caught.value)


def test_all_refusals_are_said_at_once(arms):
    with pytest.raises(RecipeError) as caught:
        arms(arms={"a": {"method.x": 1}, "b": {"method": {"name": "minidisc"}}})
    assert "arm a" in str(caught.value) and "arm b" in str(caught.value)


@pytest.mark.slow
def test_seconds_need_a_limit_and_share_it_out(arms):
    with pytest.raises(RecipeError, match="train.time_limit"):
        arms("compare.budget=seconds", "compare.methods=automm")
    found = arms("compare.budget=seconds", "compare.methods=peakd", "train.time_limit=30")
    assert found["peakd"].recipe.train.time_limit == 15 and found["finetune"].recipe.train.time_limit == 30
    with pytest.raises(RecipeError, match="arm kdnas: .*no clock"):
        arms("compare.budget=seconds", "compare.methods=kdnas", "train.time_limit=30")


def test_flops_count_what_a_step_trains(arms):
    found = arms("compare.budget=flops", "compare.methods=automm,peakd,minidisc")
    assert found["automm"].recipe.train.epochs == found["finetune"].recipe.train.epochs == 12
    peakd = found["peakd"].recipe  # each layer is used twice
    assert peakd.train.epochs + peakd.method.ptp.epochs == pytest.approx(6, abs=1)
    assert len({round(arm.spends, 1) for arm in found.values() if arm.name != "minidisc"}) == 1


def test_what_the_recipe_says_of_its_own_method_is_kept(arms):
    found = arms("compare.methods=peakd,automm", method={"name": "peakd", "ptp": {"epochs": 6}, "beta": 7.0})
    assert found["peakd"].recipe.objective.terms()["patient"].weight == 7.0
    assert (found["peakd"].recipe.method.ptp.epochs, found["peakd"].recipe.train.epochs) == (4, 8)  # 6 to 12, scaled to 12
    given = arms(method={"name": "maxidisc", "assistants": ["20S"]}, student={"sparsity": 0.5})
    assert given["maxidisc"].recipe.method.assistants == ("20S",)
    free = arms(method={"name": "maxidisc"}, student={"sparsity": 0.5})
    assert free["maxidisc"].recipe.method.assistants == ("30S", "40S")
    assert free["maxidisc"].recipe.train.epochs == 2  # the student alone, and twice two: 5 trainings for 12 epochs


def test_students_of_another_size_are_said_to_be(arms):
    found = arms(arms={"small": {"student": {"sparsity": 0.9}}})
    assert "parameters, the recipe's" in found["small"].notes[0] and not found["finetune"].notes


def test_the_sparsity_can_be_said(arms):
    assert arms("compare.methods=minidisc", "compare.sparsity=0.8")["minidisc"].recipe.student.sparsity == 0.8


def test_nearest_sparsity():
    assert nearest_sparsity(0, lambda s: 10) == 0.99  # nothing is near: the smallest
    assert nearest_sparsity(1000, lambda s: round(1000 * (1 - s))) == 0.01
    assert nearest_sparsity(333, lambda s: round(1000 * (1 - s))) == 0.67


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"compare": {"budgt": "steps"}}, "line 1: compare.budgt: unknown key. Did you mean 'budget'?"),
        ({"compare": {"methods": ["autom"]}}, "Did you mean 'automm'?"),
        ({"compare": {"budget": "hours"}}, "should be one of 'steps', 'flops', 'seconds'"),
        ({"arms": {"finetune": {}}}, "that is the name of another arm"),
        ({"arms": {"../up": {}}}, "letters, digits"),
        ({"method": "kdnas", "student": None}, "kdnas finds its student"),
    ],
)  # fmt: skip
def test_the_file_is_checked_as_strictly_as_any_recipe(tmp_path: Path, section, words):
    base = {"task": "demo/intent", "teacher": "big", "student": {"num_layers": 2}, "method": "automm"}
    made = {key: value for key, value in {**base, **section}.items() if value is not None}
    path = tmp_path / "compare.yaml"
    path.write_text(json.dumps(made), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_comparison(path)
    assert words in str(caught.value)


def test_a_file_with_arms_is_no_recipe_of_one_run(tmp_path: Path):
    from understudy.recipe.load import load_recipe

    path = tmp_path / "compare.yaml"
    path.write_text("task: demo/intent\nteacher: big\nstudent: {num_layers: 2}\nmethod: automm\narms: {}\n", encoding="utf-8")
    assert is_comparison(path)
    with pytest.raises(RecipeError, match="line 5: arms: belongs to a comparison"):
        load_recipe(path)
