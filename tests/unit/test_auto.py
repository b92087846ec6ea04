"""`method: auto` takes the largest student within the limits, says why, and decides once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import runs
from transformers import AutoModelForSequenceClassification

from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.methods.auto import plan as auto
from understudy.recipe.load import load_recipe, recipe_from
from understudy.recipe.settings import Recipe
from understudy.run import train
from understudy.steps import difference


@pytest.fixture
def asked(toy_checkpoint, toy_csv):
    """The toy recipe with `method: auto` and these limits."""

    def make(**limits):
        recipe = {**runs.recipe(toy_checkpoint, toy_csv), "method": {"name": "auto", **limits}}
        return recipe_from({key: value for key, value in recipe.items() if key != "student"})

    return make


def choose(recipe: Recipe) -> auto.Choice:
    return auto.choose(recipe, recipe.method, auto._teacher(recipe))


def settled_in(recipe: Recipe, folder: Path) -> Recipe:
    return recipe.how.settle(recipe.method, recipe, folder)[0]


def looked_at(recipe: Recipe) -> Recipe:
    return recipe.how.settle(recipe.method, recipe, None, look=True)[0]


@pytest.fixture
def costs(asked):
    """(parameters, operations) of every student of a kind, the largest first, by making them all."""

    def of(kind: str) -> list[auto.Option]:
        recipe = asked()
        teacher = auto._teacher(recipe)
        return [auto._option(recipe, student, make(), beside=None) for student, make in auto.STUDENTS[kind](teacher)]

    return of


@pytest.mark.parametrize("cost", ["parameters", "flops"])
@pytest.mark.parametrize("place", [0, 7, 18])
def test_it_takes_the_largest_student_within_a_limit(asked, costs, cost, place):
    options = costs("pruned")
    limit = getattr(options[place], cost)
    fitting = [one for one in options if getattr(one, cost) <= limit]
    chosen = choose(asked(**{f"max_{cost}": limit}))
    assert chosen.changes["student"]["sparsity"] == fitting[0].student["sparsity"]
    assert chosen.changes["method"] == auto.OBJECTIVE


def test_all_limits_are_kept_together(asked, costs):
    options = costs("pruned")
    limits = {"max_parameters": options[3].parameters, "max_flops": options[9].flops}
    assert choose(asked(**limits)).changes["student"]["sparsity"] == options[9].student["sparsity"]


def test_without_a_limit_half_of_the_operations_are_left(asked):
    chosen = choose(asked())
    whole, found = chosen.options[0], next(
        one for one in chosen.options if one.student.get("sparsity") == chosen.changes["student"]["sparsity"]
    )
    assert 0.35 < found.flops / whole.flops <= auto.DEFAULT_SHARE


def test_time_is_measured_and_decided_once(asked, tmp_path, monkeypatch):
    times = {key: 10.0 * (1 - key) for key in (0.0, *(round(0.05 * n, 2) for n in range(1, 20)))}
    real = auto._option

    def timed(recipe, student, net, *, beside):
        assert beside is not None
        one = real(recipe, student, net, beside=None)
        return auto.Option(one.student, one.parameters, one.flops, times[student.get("sparsity", 0.0)])

    monkeypatch.setattr(auto, "_option", timed)
    recipe = asked(max_latency_ms=4.2)
    settled = settled_in(recipe, tmp_path)
    assert settled.student.sparsity == 0.65 and settled.method.name == "automm"  # 10 · 0.35 ms, of 0.9 · 4.2
    (tmp_path / "steps").mkdir()
    times.update(dict.fromkeys(times, 1.0))  # the clock says something else now
    assert settled_in(recipe, tmp_path) == settled
    with pytest.raises(RecipeError, match="different settings"):
        settled_in(asked(max_latency_ms=9.0), tmp_path)


def test_the_real_clock_is_read(asked):
    chosen = choose(asked(max_latency_ms=10_000.0))
    assert chosen.changes["student"]["sparsity"] == 0.05
    assert all(one.latency_ms is not None and one.latency_ms > 0 for one in chosen.options)


def test_so_many_times_as_fast_takes_a_stock_shape(asked, tmp_path, monkeypatch):
    """The first of the ladder of stock shapes that is fast enough, in turns with the teacher; the run keeps it."""
    real = auto._option

    def timed(recipe, student, net, *, beside):
        one = real(recipe, student, net, beside=None)
        share = student["config"]["hidden_size"] / 32 if "config" in student else 1.0
        return replace(one, latency_ms=10 * share, time_share=share)

    monkeypatch.setattr(auto, "_option", timed)
    recipe = asked(faster=1.7)
    recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"baseline": False})})
    # of 3/4, 1/2 and 1/4 of the teacher's time, with a tenth in reserve, the second
    train(recipe, tmp_path / "run")
    kept = load_recipe(tmp_path / "run" / "config.yaml")
    config = kept.student.config.model_dump(exclude_none=True)
    assert config == {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    assert (kept.student.init, kept.student.keep) == ("teacher", "best")
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
    assert stock.config.hidden_size == 16 and stock.config.num_attention_heads == 2
    notes = json.loads((tmp_path / "run" / "details.json").read_text())["notes"]
    assert any("at least 1.7 times as fast as the teacher asked for" in note for note in notes)
    with pytest.raises(RecipeError, match="at least 50.0 times as fast"):
        choose(asked(faster=50.0))


def test_megabytes_are_those_that_are_saved(asked, tmp_path):
    whole = choose(asked()).options[0]
    chosen = choose(asked(max_mb=0.5 * whole.size_mb))
    taken = [one for one in chosen.options if one.student.get("config") == chosen.changes["student"]["config"]]
    assert taken[0].size_mb <= 0.5 * whole.size_mb and whole.size_mb == pytest.approx(4e-6 * whole.parameters, rel=0.01)


def test_what_cannot_be_made_is_refused_with_what_can(asked):
    with pytest.raises(RecipeError) as refused:
        choose(asked(max_parameters=10))
    for part in ("at most 10 parameters", "student.sparsity 0.95", "student.num_layers 1", "Raise the limit"):
        assert part in str(refused.value)


def test_a_search_gets_the_limits(asked):
    settled = looked_at(asked(search=16, max_parameters=50_000, max_latency_ms=9.0))
    assert settled.method.name == "kdnas" and settled.student.searched
    assert settled.method.trials == 16 and settled.method.init == "teacher"
    assert (settled.method.space.max_parameters, settled.method.space.max_latency_ms) == (50_000, 9.0)
    with pytest.raises(RecipeError, match="leaves nothing to choose from"):
        asked(search=1)


def test_check_says_what_would_be_chosen(asked):
    found = check(asked())
    assert exit_code(found) == 0, found
    assert any(finding.text.startswith("auto: student.sparsity") for finding in found)
    refused = check(asked(max_flops=1))
    assert exit_code(refused) == 2 and "at most 1 operations" in "\n".join(map(str, refused))


def test_check_waits_for_a_teacher_that_is_elsewhere(asked, monkeypatch):
    recipe = asked()
    elsewhere = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"model": "somebody/large"})})
    found = check(elsewhere)
    assert exit_code(found) == 0, found
    assert any("auto chooses as soon as" in finding.text for finding in found)


def test_a_run_of_auto_is_the_run_of_what_it_chose(asked, tmp_path):
    """Its folder needs no `auto` any more, its report says why, and the same command finds everything done."""
    recipe = asked()
    made = train(recipe, tmp_path / "auto")
    kept = load_recipe(tmp_path / "auto" / "config.yaml")
    assert kept == looked_at(recipe) and kept.method.name == "automm"
    notes = json.loads((tmp_path / "auto" / "details.json").read_text())["notes"]
    assert notes[0].startswith("auto: student.sparsity") and "at most" in notes[1] and "asked for." in notes[1]
    assert notes[0].split(" (")[0] in (tmp_path / "auto" / "report.html").read_text()
    again = train(recipe, tmp_path / "auto")
    plain = train(kept, tmp_path / "plain")
    for other in (again, plain):
        assert other["student"]["metrics"] == made["student"]["metrics"], difference(other, made)


def test_more_epochs_go_on_from_what_was_chosen(toy_checkpoint, toy_csv, tmp_path):
    recipe = {**runs.recipe(toy_checkpoint, toy_csv), "method": {"name": "auto"}}
    recipe = {key: value for key, value in recipe.items() if key != "student"}
    course = ["train.schedule=constant", "train.warmup=0.0", "evaluate.baseline=false"]
    train(recipe_from(recipe, [*course, "train.epochs=1"]), tmp_path / "run")
    train(recipe_from(recipe, [*course, "train.epochs=2"]), tmp_path / "run")
    assert load_recipe(tmp_path / "run" / "config.yaml").train.epochs == 2
    taken = json.loads((tmp_path / "run" / "steps" / "student" / "done.json").read_text())
    assert taken["steps"] == taken["planned"] == 2 * 13
    with pytest.raises(RecipeError, match="chosen with different settings"):
        train(recipe_from(recipe, [*course, "train.epochs=2", "seed=1"]), tmp_path / "run")
