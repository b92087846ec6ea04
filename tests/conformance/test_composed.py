"""The composed recipes, as they are but for data, models and length, on toys: each learns what its objective says, on its
schedule, and its student has the shape it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import toys
from transformers import AutoModelForSequenceClassification

from understudy.models.restructure import num_units, schedule_of
from understudy.recipe.load import load_recipe
from understudy.run import train
from understudy.steps import step_folder
from understudy.train.record import recorded

COMPOSED = Path(__file__).parents[2] / "recipes" / "composed"
TINY = [
    "train.epochs=1", "train.batch_size=16", "train.precision=fp32", "teacher.finetune.epochs=1", "evaluate.baseline=false",
    "evaluate.bootstrap=5", "evaluate.latency={length: 8, repeats: 3}",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Each recipe once, on a four-layer teacher: name -> its run."""
    folder = tmp_path_factory.mktemp("composed")
    task = json.dumps(checkpoints.task_settings(folder / "task", "classification"))
    teacher = toys.save_checkpoint(folder / "teacher", layers=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_HOME", str(folder / "home"))
        for path in sorted(COMPOSED.glob("*.yaml")):
            recipe = load_recipe(path, [f"task={task}", f"teacher.model={teacher}", *TINY])
            train(recipe, folder / path.stem)
        yield {path.stem: folder / path.stem for path in sorted(COMPOSED.glob("*.yaml"))}


def learned(run: Path, step: str) -> dict[str, Any]:
    """Term -> its last value in a step of a run."""
    rows = [row for row in recorded(step_folder(run, step)) if row.get("terms")]
    return {name: term["value"] for name, term in rows[-1]["terms"].items()}


def student_of(run: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(run / "student")


def test_all_three_are_there(made):
    assert [*made] == ["minidisc-rkd", "pruned-relations", "shared-hidden-assistant"]


def test_rkd_is_learned_inside_minidisc_by_candidates_and_student(made):
    run = made["minidisc-rkd"]
    for step in ("candidates-1", "student"):
        values = learned(run, step)
        assert set(values) == {"hard", "soft", "rkd_distance", "rkd_angle"}
        assert values["rkd_distance"] > 0 and values["rkd_angle"] > 0
    assert json.loads((run / "steps" / "choice-1" / "done.json").read_text())["value"]["chosen"] in (0.4, 0.55)


def test_a_pruned_student_learns_relations(made):
    values = learned(made["pruned-relations"], "student")
    assert set(values) == {"hard", "soft", "relations"} and values["relations"] > 0
    heads = num_units(student_of(made["pruned-relations"]))[0]
    assert sum(heads) < 16 and heads[-1] >= 1


def test_a_shared_student_learns_hidden_states_from_an_assistant(made):
    run = made["shared-hidden-assistant"]
    student = student_of(run)
    assert len(num_units(student)[0]) == 2 and len(schedule_of(student)) == 4
    assert {exchanged for _, exchanged in schedule_of(student)} == {False, True}
    found = json.loads((run / "result.json").read_text())
    assert found["student"]["metrics"]
