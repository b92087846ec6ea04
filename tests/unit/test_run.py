"""What can be done with a saved student: which rows it is scored on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import toys

from understudy.recipe.load import recipe_from
from understudy.run import evaluate_folder


def test_a_student_is_scored_on_the_rows_that_were_held_out_of_its_training(tmp_path: Path):
    """Without a test file these are rows of train, and `task.split_seed` says which."""
    files = {"train": str(toys.save_csv(tmp_path / "data") / "train.csv")}
    model = toys.save_checkpoint(tmp_path / "model", head="BertForSequenceClassification")

    def scores(seed: int, **task: Any) -> dict[str, float]:
        own = {"name": "custom", "kind": "classification", "columns": {"text": "body", "label": "mood"}, "select": "loss"}
        recipe = {"seed": seed, "task": {**own, "files": files, **task}, "student": str(model), "method": "finetune"}
        return evaluate_folder(model, recipe_from(recipe))["metrics"]["test"]

    assert scores(1, split_seed=0) == scores(0) != scores(1)
