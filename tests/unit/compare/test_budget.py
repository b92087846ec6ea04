"""What each method trains, and how many epochs of it a budget buys: by hand."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.base.errors import RecipeError
from understudy.compare.budget import allot, planned
from understudy.recipe.load import recipe_from
from understudy.recipe.method import Facts, Stage
from understudy.recipe.settings import Recipe

FACTS = Facts(share=0.5, layers=12, rows=1000, found=0.2)


def recipe(method: dict[str, Any], student: dict[str, Any] | None = None, **train: Any) -> Recipe:
    return recipe_from({
        "task": "demo/intent", "teacher": {"model": "big", "finetune": {}}, "student": student or {"num_layers": 6},
        "method": method, "train": {"epochs": 10, "batch_size": 20, **train},
    })  # fmt: skip


def stages_of(made: Recipe, facts: Facts) -> list[Stage]:
    return made.how.stages(made.method, made, facts)


def seen(made: Recipe, facts: Facts = FACTS) -> list[tuple[str, float]]:
    return [(stage.name, round(stage.share, 4)) for stage in stages_of(made, facts)]


def test_one_stage_for_those_who_train_once():
    assert seen(recipe({"name": "automm"})) == seen(recipe({"name": "finetune"})) == [("student", 0.5)]


def test_an_adapter_saves_the_gradients_of_the_weights():
    assert seen(recipe({"name": "mkd"})) == [("student", round(0.5 * 2 / 3, 4))]
    assert seen(recipe({"name": "automm"}, only="head")) == [("student", round(0.5 / 3, 4))]


def test_peakd_trains_twice():
    assert seen(recipe({"name": "peakd"})) == [("ptp", 0.5), ("student", 0.5)]
    assert seen(recipe({"name": "peakd", "ptp": "off"})) == [("student", 0.5)]


def test_minidisc_trains_all_candidates_in_each_step():
    made = recipe({"name": "minidisc"}, {"sparsity": 0.9})
    facts = Facts(share=0.1, layers=12, rows=1000)
    # 50, 60, 70, 80 and 85 %: .5 + .4 + .3 + .2 + .15 of the teacher
    assert seen(made, facts) == [("candidates-1", 1.55), ("student", 0.1)]
    alone = recipe({"name": "minidisc", "selector": "capacity-gap"}, {"sparsity": 0.9})
    assert seen(alone, facts) == [("assistant-1", 0.25), ("student", 0.1)]
    drawn = recipe({"name": "minidisc", "sandwich": "sampled"}, {"sparsity": 0.9})
    assert seen(drawn, facts) == [("candidates-1", 0.95), ("student", 0.1)]  # .5 + (.4 + .3 + .2) / 3 + .15


def test_maxidisc_pays_for_every_way():
    made = recipe({"name": "maxidisc", "assistants": ["60S", "80S"]}, {"sparsity": 0.9})
    assert seen(made) == [("90S", 0.1), ("60S", 0.4), ("60S-90S", 0.1), ("80S", 0.2), ("80S-90S", 0.1)]
    layers = recipe({"name": "maxidisc", "path": ["9L", "6L"]})
    assert seen(layers) == [("9L", 0.75), ("9L-6L", 0.5)]


def test_kdnas_pays_for_every_candidate():
    method = {"name": "kdnas", "episodes": 2, "candidates": 3, "mini_kd": {"batch_size": 10}}
    search, student = stages_of(recipe(method, {"searched": True}), FACTS)
    assert (search.fits, search.passes) == (6, 30 / 50)  # 300 rows in tens, where an epoch is 1,000 rows in twenties
    assert search.cost("steps") == pytest.approx(3.6) and search.cost("flops") == pytest.approx(0.72)
    assert student.cost("steps") == 1.0


@pytest.mark.parametrize(
    ("kind", "total", "expected"),
    [("steps", 10.0, {"method.ptp.epochs": 2, "train.epochs": 8}), ("steps", 2.0, {"method.ptp.epochs": 1, "train.epochs": 1}),
     ("flops", 5.0, {"method.ptp.epochs": 2, "train.epochs": 8}), ("steps", 61.0, {"method.ptp.epochs": 10, "train.epochs": 51})],
)  # fmt: skip
def test_the_budget_is_spent_and_never_exceeded(kind, total, expected):
    stages = stages_of(recipe({"name": "peakd"}), FACTS)
    epochs = allot(stages, kind, total)
    assert epochs == expected
    assert planned(stages, epochs, kind) == pytest.approx(total)


def test_whole_epochs_leave_a_remainder_and_say_so():
    stages = stages_of(recipe({"name": "maxidisc", "assistants": ["60S"]}, {"sparsity": 0.9}), FACTS)
    epochs = allot(stages, "steps", 10.0)
    assert epochs == {"train.epochs": 3} and planned(stages, epochs, "steps") == 9.0


def test_what_cannot_be_paid_is_refused():
    stages = [Stage(name, "train.epochs", 10, 1.0, 1.0) for name in "abc"]
    with pytest.raises(RecipeError, match="each of its 3 trainings costs 3, and 2 are there.*1?2 times"):
        allot(stages, "steps", 2.0)


@pytest.mark.parametrize("total", [2.0, 3.0, 4.7, 10.0, 33.0, 100.0])
@pytest.mark.parametrize("kind", ["steps", "flops"])
def test_no_method_ever_spends_more(total, kind):
    for made in (recipe({"name": "peakd"}), recipe({"name": "peakd", "ptp": {"epochs": 30}}),
                 recipe({"name": "kdnas", "episodes": 1, "candidates": 2}, {"searched": True})):  # fmt: skip
        stages = stages_of(made, FACTS)
        epochs = allot(stages, kind, total)
        assert min(epochs.values()) >= 1 and planned(stages, epochs, kind) <= total + 1e-9
