"""What may be said of a pruned student, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.base.errors import RecipeError
from understudy.recipe.load import recipe_from
from understudy.recipe.settings import Recipe


def recipe_of(student: dict[str, Any], **more: Any) -> Recipe:
    return recipe_from({"task": "demo/intent", "teacher": "x", "student": student, "method": "automm", **more})


@pytest.mark.parametrize(
    "student",
    [
        {"sparsity": 0.9},
        {"sparsity": 0.35, "num_layers": 3, "init": "teacher"},
        {"sparsity": 0.9, "keep": [0, 2], "prune": {"min_heads": 1, "uniform": True, "multiple": 16}},
        {"prune": {"budget": {"parameters": 1000}, "count": "total"}},
        {"prune": {"budget": {"latency_ms": 2.5}}},
    ],
    ids=str,
)
def test_a_pruned_student(student: dict[str, Any]):
    settings = recipe_of(student).student
    assert settings.prunes and settings.keeps_layers
    assert not recipe_of({"num_layers": 3}).student.prunes


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"sparsity": 0.9, "model": "y"}, "`model` and pruning exclude each other"),
        ({"sparsity": 0.9, "config": {"hidden_size": 8}}, "`config` and pruning exclude each other"),
        ({"sparsity": 0.9, "prune": {"budget": {"flops": 1e9}}}, "both say how much"),
        ({"num_layers": 3, "prune": {"min_heads": 1}}, "say how much"),
        ({"prune": {"budget": {"flops": 1e9, "parameters": 9}}}, "not parameters and flops"),
        ({"prune": {"budget": {}}}, "not none"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"sparsity": 90}, "less than 1"),
        ({"init": "teacher"}, "needs `num_layers`"),
        ({}, "sparsity: 0.9"),
    ],
    ids=str,
)
def test_contradictions_are_named(student: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        recipe_of(student)


def test_a_pruned_student_needs_a_teacher():
    with pytest.raises(RecipeError, match="needs a teacher"):
        recipe_of({"sparsity": 0.9}, method="finetune", teacher=None)
