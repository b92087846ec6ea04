"""What people read about recipes is made from the settings, and is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from understudy.base.errors import RecipeError
from understudy.data.tasks import TASK_NAMES as DATA_TASKS
from understudy.recipe import settings as recipe_settings
from understudy.recipe.comparison import is_comparison, load_comparison
from understudy.recipe.load import load_recipe, recipe_from
from understudy.recipe.method import methods
from understudy.recipe.reference import methods_table, reference, template
from understudy.recipe.settings import TASK_NAMES, Recipe

METHODS = methods()
ROOT = Path(__file__).parents[3]


def test_the_page_in_docs_is_current():
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert page == reference(), "docs/recipe.md is not what the settings say; run `make docs`"


def _sections() -> list[type[BaseModel]]:
    found = [
        value for value in vars(recipe_settings).values() if isinstance(value, type) and issubclass(value, BaseModel)
    ]
    return [*found, *(one.Settings for one in METHODS.values())]


def test_every_setting_is_described_and_documented():
    page = reference()
    for section in _sections():
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no description"
            assert f"| `{name}` |" in page, f"{section.__name__}.{name} is not in the reference"


@pytest.mark.parametrize("method", METHODS)
def test_the_template_loads_as_the_defaults(method, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(template(method), encoding="utf-8")
    recipe = load_recipe(path)
    plain = recipe_from(
        {
            "task": "demo/intent",
            "teacher": {"model": "google-bert/bert-base-uncased", "finetune": {"epochs": 3, "lr": 2e-5}},
            "student": METHODS[method].student_example,
            "method": method,
        }
    )
    assert recipe.model_copy(update={"objective": plain.objective}) == plain
    assert recipe.objective.terms() == plain.objective.terms()


@pytest.mark.parametrize("method", METHODS)
def test_the_template_names_every_setting(method):
    text = template(method)
    for section in (Recipe, METHODS[method].Settings, recipe_settings.TrainSettings, recipe_settings.StudentSettings):
        for name in section.model_fields:
            assert f"{name}:" in text


def test_unknown_method():
    with pytest.raises(RecipeError, match="no method 'autom'.* Did you mean 'automm'"):
        template("autom")


def test_every_method_is_in_the_table():
    assert all(name in methods_table() for name in METHODS)


def test_recipe_and_data_know_the_same_tasks():
    assert set(TASK_NAMES) == set(DATA_TASKS)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_valid(path):
    assert load_comparison(path) if is_comparison(path) else load_recipe(path)
