"""result.json: assembled, checked, described; the verdict says what the numbers say."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from understudy.base.errors import DataError
from understudy.data.types import Example, Task
from understudy.evaluate import result as schema
from understudy.evaluate.details import details
from understudy.evaluate.predictions import Predictions
from understudy.evaluate.result import assemble, validated
from understudy.evaluate.verdict import verdict

TASK = Task("toy", "classification", ("no", "yes"), ("accuracy", "f1"), "f1")
LATENCY = {"iqr": 0.1, "threads": 1, "device": "cpu", "batch_size": 1, "length": 8, "repeats": 5, "warm_up": 3}


def cost(parameters: int, median: float) -> dict:
    return {
        "name": "toy", "num_parameters": parameters, "num_parameters_nonembedding": parameters, "size_mb": 1.0,
        "flops": 10, "latency_ms": {"median": median, **LATENCY},
    }  # fmt: skip


def build(
    accuracy: dict[str, float], *, rows: int = 400, median: float = 5.0, parameters: int = 53, seed: int = 0
) -> dict:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 2, rows)
    luck = rng.random(rows)
    predictions = {
        model: Predictions([str(row) for row in range(rows)], np.eye(2)[np.where(luck < right, gold, 1 - gold)], gold)
        for model, right in accuracy.items()
    }
    costs = {"teacher": cost(100, 10.0), "baseline": cost(parameters, median), "student": cost(parameters, median)}
    return assemble(
        TASK, {"dev": predictions}, costs=costs, method={"name": "automm"}, seed=0, resamples=500,
        train_seconds={"student": 1.5}, teacher_forwards=12, versions={"python": "3.11"}, machine={"cores": 2},
    )  # fmt: skip


def test_result_survives_json_and_check():
    result = build({"teacher": 0.9, "baseline": 0.8, "student": 0.86})
    again = json.loads(json.dumps(result, allow_nan=False))
    assert validated(again) == result
    assert result["task"]["tests"] == {"dev": 400}
    assert result["speedup"] == 2.0
    student = result["student"]["metrics"]["dev"]["f1"]["value"]
    assert result["gain"]["dev"]["f1"]["value"] == student - result["baseline"]["metrics"]["dev"]["f1"]["value"]
    assert result["retained"]["dev"]["f1"]["value"] == student / result["teacher"]["metrics"]["dev"]["f1"]["value"]


def test_models_may_be_absent():
    result = build({"student": 0.8})
    assert result["teacher"] is None and result["baseline"] is None and result["speedup"] is None
    assert result["gap_recovered"] == result["retained"] == result["gain"] == {}
    shown = f"{result['student']['metrics']['dev']['f1']['value']:.3f}"
    assert result["verdict"].startswith(f"The student reaches {shown} F1 of 'yes'; without a plain fine-tuning baseline")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r: r.pop("seed"), "seed"),
        (lambda r: r.update(extra=1), "extra"),
        (lambda r: r.update(version=2), "version"),
        (lambda r: r["student"].update(flops="many"), "student.flops"),
        (lambda r: r["student"]["metrics"]["dev"]["f1"].update(value=float("nan")), "student.metrics.dev.f1.value"),
        (lambda r: r["student"]["latency_ms"].update(median=0.0), "student.latency_ms.median"),
    ],
)
def test_a_broken_result_is_refused_with_its_place(change, place):
    result = copy.deepcopy(build({"teacher": 0.9, "student": 0.86}))
    change(result)
    with pytest.raises(DataError, match=rf"at {place}:"):
        validated(result)


def test_every_key_is_described_in_the_docs():
    page = (Path(__file__).parents[3] / "docs" / "result.md").read_text(encoding="utf-8")
    models = [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    keys = {key for model in models for key in model.model_fields}
    assert len(keys) > 30
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_verdict_of_a_gain():
    said = build({"teacher": 0.92, "baseline": 0.80, "student": 0.88})["verdict"]
    assert "of the teacher's F1 of 'yes', is 2.0 times faster and 47 % smaller; distillation added" in said
    assert "95 % interval" in said and said.endswith(").")


def test_verdict_of_a_tie_and_of_a_loss():
    assert "it is a tie" in build({"teacher": 0.9, "baseline": 0.80, "student": 0.805})["verdict"]
    assert "distillation cost" in build({"teacher": 0.9, "baseline": 0.80, "student": 0.70})["verdict"]
    assert "reaches 11" in build({"teacher": 0.7, "baseline": 0.70, "student": 0.80})["verdict"]


def test_models_that_give_one_answer_are_not_praised():
    gold = np.array([0, 1] * 20)
    rows = [str(row) for row in range(40)]
    same = Predictions(rows, np.tile([0.9, 0.1], (40, 1)), gold)
    told = Predictions(rows, np.eye(2)[gold], gold)
    costs = {"teacher": cost(100, 10.0), "baseline": cost(53, 5.0), "student": cost(53, 5.0)}

    def judge(**models: Predictions) -> dict:
        return assemble(
            TASK, {"dev": models}, costs=costs, method={"name": "automm"}, seed=0, resamples=50,
            train_seconds={}, teacher_forwards=0, versions={}, machine={},
        )  # fmt: skip

    nothing = judge(teacher=same, baseline=same, student=same)
    assert nothing["teacher"]["one_answer"] and nothing["student"]["one_answer"]
    assert nothing["verdict"].startswith("The teacher and the student give every row the same answer: nothing was learnt")
    assert judge(teacher=told, student=same)["verdict"].startswith("The student gives every row the same answer")
    assert "same answer" not in judge(teacher=told, student=told)["verdict"]


def test_verdict_of_a_student_that_is_slower_and_larger():
    said = build({"teacher": 0.9, "baseline": 0.8, "student": 0.85}, median=20.0, parameters=150)["verdict"]
    assert "is 2.0 times slower and 50 % larger" in said
    said = build({"teacher": 0.9, "baseline": 0.8, "student": 0.85}, median=10.1, parameters=100)["verdict"]
    assert "is about as fast and just as large" in said


def test_verdict_where_lower_is_better():
    result = build({"teacher": 0.9, "baseline": 0.8, "student": 0.85})
    for model in ("teacher", "baseline", "student"):
        result[model]["metrics"]["dev"] = {"mse": {"value": 0.5, "low": None, "high": None}}
    result["gain"]["dev"] = {"mse": {"value": -0.2, "low": -0.3, "high": -0.1}}
    result["task"]["select"] = "mse"
    said = verdict(result)
    assert "distillation lowered the mean squared error by 0.200 against plain fine-tuning" in said
    assert said.endswith("(95 % interval −0.300 to −0.100).")
    result["gain"]["dev"]["mse"] = {"value": 0.2, "low": 0.1, "high": 0.3}
    assert "distillation raised the mean squared error by 0.200" in verdict(result)
    result["gain"]["dev"]["mse"] = {"value": 0.2, "low": None, "high": None}
    assert "its +0.200 over plain fine-tuning cannot be judged" in verdict(result)


def test_details_of_classification():
    gold = np.array([0, 0, 1, 1, 1])
    said = {"teacher": [0, 0, 1, 1, 0], "student": [0, 1, 1, 1, 1]}
    predictions = {name: Predictions(list("abcde"), np.eye(2)[one] * 3, gold) for name, one in said.items()}
    examples = [Example(one, text=f"text {one}", pair="second") for one in "abcde"]
    found = details(TASK, examples, predictions)
    assert found["confusion"] == {"teacher": [[2, 0], [1, 2]], "student": [[1, 1], [0, 3]]}
    assert found["agreement"] == {"both": 3, "teacher": 1, "student": 1, "neither": 0}
    assert [row["support"] for row in found["per_class"]] == [2, 3]
    assert found["per_class"][0]["teacher"] == pytest.approx(0.8)
    assert found["disagreements"][0] == {
        "id": "b", "text": "text b", "pair": "second", "gold": "no",
        "teacher": "no", "student": "yes", "baseline": None,
    }  # fmt: skip
    assert [row["id"] for row in found["disagreements"]] == ["b", "e"]
    assert len(details(TASK, examples, predictions, limit=1)["disagreements"]) == 1


def test_details_of_tokens_say_which_entities():
    task = Task("toy", "tokens", ("O", "B-PER", "I-PER"), ("f1",), "f1")
    gold = [np.array([1, 2, 0])]
    predictions = {
        "teacher": Predictions(["a"], gold, gold),
        "student": Predictions(["a"], [np.array([1, 0, 0])], gold),
    }
    found = details(task, [Example("a", words=("Ada", "Byron", "waits"))], predictions)
    assert found["disagreements"][0]["gold"] == "Ada Byron (PER)"
    assert found["disagreements"][0]["student"] == "Ada (PER)"
    assert found["per_class"] == [{"label": "PER", "support": 1, "teacher": 1.0, "student": 0.0}]


def test_details_of_regression_and_multilabel():
    task = Task("toy", "regression", (), ("pearson",), "pearson")
    gold = np.linspace(0, 5, 1000)
    ids = [str(row) for row in range(1000)]
    predictions = {
        "teacher": Predictions(ids, gold, gold),
        "student": Predictions(ids, gold + np.arange(1000) / 1e3, gold),
    }
    found = details(task, [Example(one, text="t") for one in ids], predictions, limit=3)
    assert len(found["scatter"]["gold"]) == len(found["scatter"]["student"]) == 400
    assert found["scatter"]["gold"][0] == 0 and found["scatter"]["gold"][-1] == 5
    assert found["disagreements"][0]["student"] == "6.00"
    task = Task("toy", "multilabel", ("late", "broken"), ("micro_f1",), "micro_f1")
    gold = np.array([[1, 1], [0, 0]])
    predictions = {"teacher": Predictions(ids[:2], gold - 0.5, gold), "student": Predictions(ids[:2], 0.5 - gold, gold)}
    found = details(task, [Example(one, text="t") for one in ids[:2]], predictions)
    assert {(row["gold"], row["student"]) for row in found["disagreements"]} == {
        ("late, broken", "none"),
        ("none", "late, broken"),
    }


def test_text_tasks_have_no_details():
    assert details(Task("toy", "text", (), ("loss",), "loss"), [], {}) == {}
