"""The section `objective` of a recipe: what is listed is learned, methods give the rest, names of papers set it."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.base.errors import RecipeError
from understudy.recipe.load import apply_changes, load_recipe, recipe_from, recipe_hash, to_yaml
from understudy.recipe.method import methods
from understudy.recipe.objective import TermSettings, objective_section, terms

BASE = {"task": "demo/intent", "teacher": "big", "student": "small", "method": "automm"}


def lines(*overrides: str, **sections) -> list[str]:
    return recipe_from({**BASE, **sections}, overrides).objective.lines()


def test_a_method_brings_its_own():
    assert lines() == ["hard 0.1", "soft 1 (temperature 5)", "output_feature 0.01", "hidden 50 (if_possible true)"]
    assert lines(method="finetune") == ["hard 1"]
    assert lines(method="minidisc", student={"sparsity": 0.5}) == ["soft 0.5", "hidden 0.5 (mapping even)"]
    assert lines(method="peakd") == ["hard 0.3", "logit_kl 0.7 (temperature 10)", "patient 100 (over mean)"]


def test_it_is_another_one_where_a_kind_of_task_needs_it():
    assert lines(method="peakd", task="glue/stsb") == ["hard 0.3", "logit_mse 0.7", "patient 100 (over mean)"]
    text = {"name": "custom", "kind": "text", "files": {"train": "a.txt"}}
    assert lines(method="kdnas", task=text, student={}) == ["two_layers 1"]
    assert "hard 1" in lines(method="kdnas", student={})


def test_what_is_listed_is_all_that_is_learned_and_takes_the_rest_from_the_method():
    assert lines(objective={"hard": 0.5, "rkd_angle": 2}) == ["hard 0.5", "rkd_angle 2"]
    assert lines(objective={"soft": 3}) == ["soft 3 (temperature 5)"]  # the temperature of AutoMM
    assert lines(objective={"soft": 3}, method="finetune") == ["soft 3"]
    assert lines(objective={"hidden": 2}) == ["hidden 2"]  # asked for by name: not only if possible
    assert lines(objective={"rkd_angle": {"feature": "cls"}}) == ["rkd_angle 1 (feature cls)"]  # off in AutoMM
    moving = {"start": 1, "end": 0}
    both = {"hard": moving, "soft": {"weight": moving, "temperature": 2}}
    assert lines(objective=both) == ["hard 1 to 0", "soft 1 to 0 (temperature 2)"]


def test_on_the_command_line_one_setting_of_what_is_there_changes():
    more = lines("objective.rkd_angle=2")
    assert more[-1] == "hidden 50 (if_possible true)" and "rkd_angle 2" in more
    assert lines("objective.soft.temperature=3")[:2] == ["hard 0.1", "soft 1 (temperature 3)"]
    assert lines("objective.soft.temperature=3", objective={"soft": 1}) == ["soft 1 (temperature 3)"]
    assert lines("method=minidisc", "objective.hard=1", student={"sparsity": 0.5})[0] == "hard 1"


def test_names_of_the_paper_set_it_under_method():
    method = {
        "name": "automm",
        "temperature": 3,
        "soft_label_weight": {"start": 1, "end": 0},
        "hidden_weight": None,
        "relation_weight": 1,
    }
    assert lines(method=method) == [
        "hard 0.1", "soft 1 to 0 (temperature 3)", "output_feature 0.01", "hidden 50 (if_possible true)", "relations 1"
    ]  # fmt: skip
    assert "temperature" not in recipe_from({**BASE, "method": method}).method.model_dump()
    assert lines(method={"name": "automm", "hard_label_weight": 1}, objective={"soft": 1}) == ["hard 1", "soft 1 (temperature 5)"]


@pytest.mark.parametrize(
    ("method", "objective", "words"),
    [
        (
            {"name": "automm", "temperature": 3},
            {"soft": {"temperature": 2}},
            "method.temperature: means objective.soft",
        ),
        ({"name": "automm", "soft_label_weight": 3}, {"soft": 1}, "method.soft_label_weight: means objective.soft.weight"),
        ({"name": "peakd", "alpha": 0.5}, {"hard": 1}, "method.alpha: shapes the method's own objective"),
        ({"name": "peakd", "alpha": 2}, None, "method.alpha: should be a number from 0 to 1"),
        ({"name": "automm", "soft_label_weight": -1}, None, "method.soft_label_weight: should be at least 0"),
        ("automm", {"sofd": 1}, "objective.sofd: unknown key. Did you mean 'soft'?"),
        ("automm", {"soft": {"temprature": 1}}, "objective.soft.temprature: unknown key. Did you mean 'temperature'?"),
        ("automm", {"soft": "much"}, "objective.soft: should be a section"),
        ("automm", {"hidden": {"mapping": "spraed"}}, "objective.hidden.mapping"),
    ],
)
def test_mistakes_name_key_and_remedy(method, objective, words):
    with pytest.raises(RecipeError) as caught:
        recipe_from({**BASE, "method": method, "objective": objective})
    assert words in str(caught.value)


@pytest.mark.parametrize("method", methods())
def test_it_is_written_down_in_full_and_read_back(method, tmp_path: Path):
    recipe = recipe_from({**BASE, "student": methods()[method].student_example, "method": method})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe and recipe_hash(again) == recipe_hash(recipe)


def test_another_method_has_its_own_again_and_what_was_asked_for_stays():
    own, asked = (recipe_from({**BASE, **more}).model_dump(mode="json") for more in ({}, {"objective": {"hard": 1}}))
    other = {"method": "peakd", "student": {"num_layers": 2}}
    assert recipe_from(apply_changes(own, other, source="test")).objective.lines()[1] == "logit_kl 0.7 (temperature 10)"
    assert recipe_from(apply_changes(asked, other, source="test")).objective.lines() == ["hard 1"]


def test_the_order_in_a_file_does_not_matter():
    one, other = ({**BASE, "objective": dict(order)} for order in ([("hard", 1), ("soft", 2)], [("soft", 2), ("hard", 1)]))
    assert recipe_hash(recipe_from(one)) == recipe_hash(recipe_from(other))
    assert [*recipe_from(one).objective.terms()] == [*recipe_from(other).objective.terms()]


class Quiet(TermSettings):
    """A term of somebody else's."""

    loudness: float = 1.0


class Point:
    name, value = "quiet", "somewhere:Quiet"

    def __init__(self, found=Quiet):
        self.found = found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def others(monkeypatch):
    """Entry points of the group `understudy.terms`, as installed packages would have them."""

    def install(*points: Point) -> None:
        monkeypatch.setattr(
            "understudy.base.plugins.metadata.entry_points", lambda group: points if group == "understudy.terms" else ()
        )

    for cached in (terms, objective_section):
        cached.cache_clear()
    yield install
    for cached in (terms, objective_section):
        cached.cache_clear()


def test_a_term_of_another_package_is_one_of_them(others):
    others(Point())
    section = objective_section().model_validate({"quiet": {"weight": 2, "loudness": 0.5}, "hard": 1})
    assert section.lines() == ["hard 1", "quiet 2 (loudness 0.5)"]


def test_a_term_that_cannot_be_had_is_named(others):
    others(Point(ImportError("no module named numpyy")))
    with pytest.raises(RecipeError, match="term 'quiet' of somewhere:Quiet cannot be imported: no module"):
        terms()
    taken = Point()
    taken.name = "soft"
    others(taken)
    with pytest.raises(RecipeError, match="term 'soft' .* there is a term of that name already"):
        terms()
