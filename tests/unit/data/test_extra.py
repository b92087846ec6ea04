"""`task.extra`: rows without labels that the teacher answers, none of which is known already."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs

from understudy.base.errors import RecipeError
from understudy.data.tasks import load_task
from understudy.recipe.load import recipe_from
from understudy.run import train


def recipe_of(checkpoint: Path, csv: Path, folder: Path) -> dict:
    """The toy recipe; of five extra rows one is a test row, one a training row and one there twice."""
    known = [(csv / f"{name}.csv").read_text().splitlines()[1].rpartition(",")[0] for name in ("test", "train")]
    rows = ["the lamp is warm and kind", "my chair feels torn", "my chair feels torn", *known]
    (folder / "more.csv").write_text("\n".join(["body,mood", *(f"{row},glad" for row in rows)]) + "\n")
    recipe = runs.recipe(checkpoint, csv)
    return recipe | {"task": recipe["task"] | {"extra": [str(folder / "more.csv")]}}


def test_rows_are_added_without_labels_and_known_ones_left_out(toy_checkpoint, toy_csv, tmp_path: Path):
    settings = recipe_from(recipe_of(toy_checkpoint, toy_csv, tmp_path)).task
    data, before = load_task(settings, seed=0), load_task(settings.model_copy(update={"extra": None}), seed=0)
    added = data.train[len(before.train) :]
    assert [row.text for row in added] == ["the lamp is warm and kind", "my chair feels torn"]
    assert all(row.label is None for row in added) and data.train[: len(before.train)] == before.train
    assert data.select == before.select and data.tests == before.tests and data.labelled().train == before.train
    assert any("2 rows of" in note and "3 that are there already are left out" in note for note in data.notes)


def test_the_teacher_answers_these_alone_where_it_answered_the_others(
    toy_checkpoint: Path, toy_csv: Path, tmp_path: Path, understudy_home: Path
):
    """Same teacher, same baseline: both see labelled rows only; and a store that has the answers to these already."""
    recipe = recipe_of(toy_checkpoint, toy_csv, tmp_path)
    plain = recipe | {"task": {key: value for key, value in recipe["task"].items() if key != "extra"}}
    before = train(recipe_from(plain), tmp_path / "plain")
    made = train(recipe_from(recipe), tmp_path / "run")
    assert before["teacher_forwards"] > 100 and made["teacher_forwards"] == 2
    for model in ("teacher", "baseline"):
        assert before[model]["metrics"] == made[model]["metrics"]


def test_a_task_of_plain_text_has_none(toy_checkpoint, toy_csv, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("one text\nanother text\na third one\n" * 10)
    texts = str(tmp_path / "texts.txt")
    task = {"name": "custom", "kind": "text", "files": {"train": texts}, "extra": [texts]}
    recipe = runs.recipe(toy_checkpoint, toy_csv) | {"task": task}
    with pytest.raises(RecipeError, match=r"add these to task\.files\.train"):
        load_task(recipe_from(recipe).task, seed=0)
