"""`understudy check` knows what pruning will leave, and what it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from understudy.check import check, exit_code
from understudy.recipe.load import recipe_from


def findings(checkpoint: Path, csv: Path, student: dict[str, Any], **more: Any):
    recipe = {
        "task": {
            "name": "custom",
            "kind": "classification",
            "files": {"train": str(csv / "train.csv"), "test": str(csv / "test.csv")},
            "columns": {"text": "body", "label": "mood"},
            "max_length": 32,
        },
        "teacher": {"model": str(checkpoint), "finetune": {"epochs": 1}},
        "student": student,
        "method": "automm",
    }
    return check(recipe_from({**recipe, **more}))


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        ({"sparsity": 0.5}, "4 of 8 heads and 64 of 128 neurons are kept"),
        ({"sparsity": 0.5, "num_layers": 1}, "2 of 4 heads and 32 of 64 neurons are kept"),
        ({"prune": {"budget": {"parameters": 10_000}}}, "heads and"),
        ({"prune": {"budget": {"latency_ms": 3}}}, "is measured during the run"),
    ],
    ids=str,
)
def test_what_will_be_left(student: dict[str, Any], sentence: str, toy_checkpoint: Path, toy_csv: Path):
    found = findings(toy_checkpoint, toy_csv, student)
    assert exit_code(found) == 0, found
    assert sentence in "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        ({"sparsity": 0.5, "prune": {"min_heads": 5}}, "min_heads is 5, but a layer has no more than 4 heads"),
        ({"prune": {"budget": {"parameters": 10}}}, "student.prune.budget.parameters is 10"),
        ({"sparsity": 0.95, "prune": {"count": "total"}}, "embeddings"),
        ({"sparsity": 0.5, "num_layers": 5}, "numbered from 0 to 1"),
    ],
    ids=str,
)
def test_what_cannot_be(student: dict[str, Any], sentence: str, toy_checkpoint: Path, toy_csv: Path):
    found = findings(toy_checkpoint, toy_csv, student)
    assert exit_code(found) == 2
    assert sentence in "\n".join(map(str, found))


def test_pruning_needs_a_trained_teacher_whatever_the_method(toy_checkpoint: Path, toy_csv: Path):
    teacher = {"model": str(toy_checkpoint)}
    found = findings(toy_checkpoint, toy_csv, {"sparsity": 0.5}, method="finetune", teacher=teacher)
    assert exit_code(found) == 2 and "no trained head" in "\n".join(map(str, found))
