"""What a teacher said, in columns of one's own files: read, averaged, refused, and learnt from as from the teacher itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import toys

from understudy.base.errors import DataError, RecipeError, UnderstudyError
from understudy.data.tasks import data_of
from understudy.evaluate.result import validated
from understudy.recipe.load import recipe_from
from understudy.run import train

ROWS = [
    dict(zip(("body", "p_glad", "p_sad", "said", "sure", "other", "all"), row, strict=True))
    for row in (
        ("good day", 0.9, 0.1, "glad", 0.8, "sad", '{"sad": 0.25, "glad": 0.75}'),
        ("bad day", 0.2, 0.8, "sad", 0.6, "sad", "[0.4, 0.6]"),
        ("warm tea", 1, 0, "glad", 1, "glad", '{"glad": 1}'),
        ("cold tea", "", "", "", "", "sad", ""),
    )
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def recipe(folder: Path, columns: dict[str, Any], *, rows: Any = None, **changes: Any) -> Any:
    file = write(folder / "rows.csv", rows or ROWS)
    task = {"name": "custom", "kind": "classification", "labels": ["glad", "sad"], "columns": {"text": "body"},
            "files": {"train": file, "dev": file, "test": file}}  # fmt: skip
    return recipe_from({"task": task | changes.pop("task", {}), "teacher": {"columns": columns}, "method": "automm",
                        "student": {"model": str(folder)}} | changes)  # fmt: skip


def probabilities(folder: Path, columns: dict[str, Any], **changes: Any) -> list[list[float]]:
    """Of the rows that were answered."""
    said = [row.said for row in data_of(recipe(folder, columns, **changes)).train]
    return torch.tensor(said, dtype=torch.float64).softmax(1).tolist()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"probabilities": {"glad": "p_glad", "sad": "p_sad"}}, [[0.9, 0.1], [0.2, 0.8], [1, 0]]),
        ({"probabilities": "all"}, [[0.75, 0.25], [0.4, 0.6], [1, 0]]),
        ({"label": "said"}, [[1, 0], [0, 1], [1, 0]]),
        ({"label": "said", "confidence": "sure"}, [[0.8, 0.2], [0.4, 0.6], [1, 0]]),
        ({"label": ["said", "other"]}, [[0.5, 0.5], [0, 1], [1, 0], [0, 1]]),
        ({"label": ["said", "other"], "weights": [3, 1]}, [[0.75, 0.25], [0, 1], [1, 0], [0, 1]]),
        ({"probabilities": ["all", "all"]}, [[0.75, 0.25], [0.4, 0.6], [1, 0]]),
    ],
)
def test_answers_become_probabilities(tmp_path: Path, columns: dict[str, Any], expected: list[list[float]]) -> None:
    np.testing.assert_allclose(probabilities(tmp_path, columns), expected, atol=1e-12)


def test_logits_are_those_of_a_model(tmp_path: Path) -> None:
    rows = [{"body": "a", "z": "[2.5, -1.0]"}, {"body": "b", "z": "[-30.0, 3.0]"}]
    found = probabilities(tmp_path, {"logits": "z"}, rows=rows)
    expected = torch.tensor([[2.5, -1.0], [-30.0, 3.0]], dtype=torch.float64).softmax(1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_several_labels_and_numbers(tmp_path: Path) -> None:
    rows = [{"body": "a", "tags": "red|blue", "p": '{"red": 0.9, "blue": 0.4}', "n": 2.5, "m": 3.5},
            {"body": "b", "tags": "", "p": '{"red": 0.1, "blue": 1}', "n": 1, "m": 2}]  # fmt: skip
    several = {"kind": "multilabel", "labels": ["blue", "red"]}
    said = [row.said for row in data_of(recipe(tmp_path, {"probabilities": "p"}, rows=rows, task=several)).train]
    np.testing.assert_allclose(torch.tensor(said).sigmoid(), [[0.4, 0.9], [1, 0.1]], atol=1e-6)
    data = data_of(recipe(tmp_path, {"label": "tags"}, rows=rows, task=several))
    assert [row.label for row in data.train] == [(1, 1), (0, 0)]
    number = {"kind": "regression", "labels": None}
    data = data_of(recipe(tmp_path, {"label": ["n", "m"], "weights": [1, 3]}, rows=rows, task=number))
    assert [row.said for row in data.train] == [(3.25,), (1.75,)] == [(row.label,) for row in data.train]


def test_it_is_said_how_often_several_teachers_agree(tmp_path: Path) -> None:
    notes = data_of(recipe(tmp_path, {"label": ["said", "other"]})).notes
    assert any("the teachers say the same about 67% of the 3 rows" in note for note in notes)
    rows = [{"body": "a", "n": 2, "m": 3}, {"body": "b", "n": 1, "m": 3}]
    number = {"kind": "regression", "labels": None}
    notes = data_of(recipe(tmp_path, {"label": ["n", "m"]}, rows=rows, task=number)).notes
    assert any("numbers lie 1.5 apart" in note for note in notes)


def test_without_labels_the_answers_are_the_labels(tmp_path: Path) -> None:
    data = data_of(recipe(tmp_path, {"probabilities": {"glad": "p_glad", "sad": "p_sad"}}))
    assert [row.label for row in data.train] == [0, 1, 0]
    assert len(data.tests["test"]) == 3  # the fourth has no answer
    assert any("the teacher's answers are the labels" in note for note in data.notes)
    assert any("1 of 4 training rows have no answer" in note for note in data.notes)


def test_label_names_come_from_the_answers(tmp_path: Path) -> None:
    for columns in ({"label": "said"}, {"probabilities": {"glad": "p_glad", "sad": "p_sad"}}, {"label": ["said", "other"]}):
        assert data_of(recipe(tmp_path, columns, task={"labels": None})).task.labels == ("glad", "sad")


@pytest.mark.parametrize(
    ("columns", "cell", "message"),
    [
        ({"probabilities": "all"}, '{"glad": 70, "sad": 30}', "add up to 100. They look like percentages: divide by 100."),
        ({"probabilities": "all"}, '{"glad": 0.7, "sat": 0.3}', "'sat' is not in the label set. Did you mean 'sad'?"),
        ({"probabilities": "all"}, "[0.7]", "1 numbers for 2 labels"),
        ({"probabilities": "all"}, "glad", "expected the probabilities of all labels"),
        ({"probabilities": "all"}, "[-1, 2]", "Raw outputs of a model are named as `logits`"),
        ({"logits": "all"}, '{"glad": 1.5}', "no logit of 'sad'"),
        ({"probabilities": {"glad": "all"}}, "0.5", "names no column for 'sad'"),
        ({"probabilities": {"glad": "all", "sad": "all", "mad": "all"}}, "0.5", "'mad', which is no label of the task"),
        ({"label": "all"}, "sat", "'sat' is not in the label set"),
        ({"label": "said", "confidence": "all"}, "1.5", "1.5 is not a probability"),
        ({"label": ["said", "other"], "confidence": "all"}, "1", "1 columns for 2 of `label`"),
        ({"label": ["said", "other"], "weights": [1]}, "1", "1 numbers for 2 teachers"),
        ({"label": "sayd"}, "1", "sayd"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(tmp_path: Path, columns: dict[str, Any], cell: str, message: str) -> None:
    with pytest.raises((DataError, RecipeError)) as error:
        data_of(recipe(tmp_path, columns, rows=[ROWS[0] | {"all": cell}]))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {"name": "minidisc"}}, "method minidisc needs the teacher itself"),
        ({"student": {"num_layers": 1}}, "no student can be cut out of it"),
        ({"teacher": {"columns": {"label": "said"}, "model": "x"}}, "one of them"),
        ({"teacher": {"columns": {"label": "said"}, "finetune": {"epochs": 1}}}, "`finetune` is about a teacher's checkpoint"),
        ({"teacher": {"columns": {"label": "said", "logits": "all"}}}, "give one of `probabilities`, `logits` and `label`"),
        ({"teacher": {"columns": {"probabilities": "all", "confidence": "sure"}}}, "`probabilities` hold it already"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnderstudyError) as error:
        recipe(tmp_path, {"label": "said"}, **changes)
    assert message in str(error.value)


def test_terms_on_layers_are_refused(tmp_path: Path, toy_checkpoint: Path) -> None:
    asked = recipe(tmp_path, {"label": "said"}, student={"model": str(toy_checkpoint)}, objective={"soft": 1, "hidden": 1})
    with pytest.raises(RecipeError, match=r"objective.hidden: it compares what goes on inside both models"):
        train(asked, tmp_path / "run")


def test_the_student_is_that_of_the_teacher_itself(tmp_path: Path, toy_checkpoint: Path) -> None:
    """The same student, whether a model teaches or its probabilities stand in the file."""
    teacher = toys.save_checkpoint(tmp_path / "teacher", seed=3, head="BertForSequenceClassification")
    net, cut = toys.bert(seed=3), toys.tokenizer()
    texts = toys.sentences(48, seed=5)
    with torch.no_grad():
        logits = [net(**cut(text, return_tensors="pt")).logits[0].double().softmax(0).tolist() for text, _ in texts]
    rows = [{"body": text, "mood": mood, "p": json.dumps(p)} for (text, mood), p in zip(texts, logits, strict=True)]
    same: dict[str, Any] = {
        "task": {"columns": {"text": "body", "label": "mood"}, "labels": ["glad", "sad"]},
        "student": {"model": str(toy_checkpoint)},
        "objective": {"hard": 0.5, "soft": {"weight": 1, "temperature": 4}},
        "train": {"epochs": 2, "batch_size": 16, "lr": 1e-3, "precision": "fp32"},
        "evaluate": {"latency": {"repeats": 3, "length": 16}, "bootstrap": 50},
    }
    told = train(recipe(tmp_path, {"probabilities": "p"}, rows=rows, **same), tmp_path / "told")
    shown = train(recipe(tmp_path, {}, rows=rows, **same, teacher={"model": str(teacher)}), tmp_path / "shown")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "steps/student/metrics.jsonl").read_text().splitlines()
         if "loss" in json.loads(line)] for run in ("told", "shown")
    ]  # fmt: skip
    assert losses[0]
    np.testing.assert_allclose(*losses, atol=1e-6)
    assert told["student"]["metrics"]["test"]["accuracy"] == shown["student"]["metrics"]["test"]["accuracy"]
    assert told["teacher"]["metrics"] == shown["teacher"]["metrics"]  # its answers on the test rows are scored as a model's
    assert told["teacher"]["num_parameters"] is None
    assert told["teacher_forwards"] == 0
    assert told["retained"] == shown["retained"]
    validated(told)
    page = (tmp_path / "told" / "report.html").read_text()
    assert "None" not in page.replace("None of", "")
