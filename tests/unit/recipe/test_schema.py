"""The JSON Schema takes every recipe of the repository, and refuses what is written wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from understudy.__main__ import main
from understudy.recipe.comparison import read_document
from understudy.recipe.method import methods
from understudy.recipe.objective import terms
from understudy.recipe.reference import FILE, template
from understudy.recipe.schema import schema

RECIPES = sorted((Path(__file__).parents[3] / "recipes").rglob("*.yaml"))
BASE = {"task": "demo/intent", "teacher": "big", "student": "small", "method": "automm"}


@pytest.fixture(scope="module")
def validator():
    made = schema()
    Draft7Validator.check_schema(made)
    return Draft7Validator(made)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_is_valid(path, validator):
    errors = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(read_document(path).data)]
    assert not errors


@pytest.mark.parametrize("method", methods())
def test_the_recipes_of_init_are_valid_and_name_the_schema(method, validator, tmp_path):
    text = template(method)
    assert text.startswith(f"# yaml-language-server: $schema={FILE}\n")
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    assert not [*validator.iter_errors(read_document(path).data)]


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"task": {"name": "custom", "kind": "classification", "files": {"train": "a.csv"}, "labels": ["no", 1]}},
        {"objective": {"hard": 0.1, "soft": {"weight": {"start": 1, "end": 0}, "temperature": 5}}},
        {"objective": {"hidden": {"mapping": "uniform"}}},
        {"objective": {"hidden": {"mapping": [[0, 0], [2, 4]]}, "rkd_angle": {"start": 0, "end": 2}, "patient": None}},
        {"method": {"name": "automm", "soft_label_weight": 1, "soft_label_loss_type": ""}},
        {"method": {"name": "peakd", "ptp": False, "alpha": 0.5, "layers": "skip"}},
        {"method": {"name": "minidisc", "sparsity": 0.5, "min_assistant_sparsity": "50"}},
        {"method": {"name": "maxidisc", "path": "80,90S"}},
        {"method": {"name": "kdnas", "parity": True}},
        {"method": {"name": "mkd", "layer_map": [0, 2], "topk": 10}, "train": {"only": "adapter", "adapter": "lora[r=8]"}},
        {"train": {"only": "adapter", "adapter": {"kind": "pfeiffer", "reduction_factor": 8}}, "track": "tensorboard"},
        {"student": {"keep": "uniform", "num_layers": 3}},
        {"arms": {"rkd": {"objective.rkd_angle": 2}}, "compare": {"methods": "automm,peakd"}},
        {"glue_task": "mrpc", "max_epochs": 12, "distiller": {"temperature": 3}},
    ],
)
def test_short_forms_and_names_of_papers_are_valid(written, validator):
    assert not [error.message for error in validator.iter_errors(BASE | written)]


@pytest.mark.parametrize(
    "written",
    [
        {"metod": "automm"},
        {"method": {"name": "automm", "temprature": 3}},
        {"method": {"name": "autom"}},
        {"method": {"parity": True}},
        {"objective": {"sofd": 1}},
        {"objective": {"soft": "much"}},
        {"objective": {"soft": {"temperature": 0}}},
        {"objective": {"soft": {"loss": "kl2"}}},
        {"objective": {"hidden": {"mapping": "spraed"}}},
        {"train": {"epochs": 1.5}},
        {"train": {"lr": -1}},
        {"student": {"keep": "spraed"}},
        {"task": {"name": "demo/intent", "max_lenght": 64}},
    ],
)
def test_what_is_written_wrongly_is_refused(written, validator):
    assert [*validator.iter_errors(BASE | written)]


def test_every_term_has_its_place_with_a_description(validator):
    section = validator.schema["$defs"]["ObjectiveSettings"]["properties"]
    assert set(section) == {"of", *terms()} and all(entry["description"] for entry in section.values())


def test_the_command_prints_it(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["understudy", "schema"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and json.loads(capsys.readouterr().out) == schema()
