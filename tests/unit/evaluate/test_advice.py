"""What a report says to do next holds to the numbers, and is silent where nothing stands out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from understudy.data.types import Task
from understudy.evaluate.predictions import Predictions
from understudy.evaluate.result import assemble
from understudy.evaluate.verdict import advice, metric_name, still_rising

TASK = Task("toy", "classification", ("no", "yes"), ("f1", "accuracy"), "f1")


def model(accuracy: float, rows: int, shift: int = 0) -> Predictions:
    """Wrong on the same share of every hundred rows; others than those of a model with another shift."""
    gold = np.arange(rows) % 2
    wrong = (np.arange(rows) + shift) % 100 >= round(100 * accuracy)
    return Predictions([str(row) for row in range(rows)], np.eye(2)[np.where(wrong, 1 - gold, gold)], gold)


def result(scores: dict[str, float], *, rows: int = 200, iqr: float = 0.1, **more: Any) -> dict[str, Any]:
    protocol = {"threads": 1, "device": "cpu", "batch_size": 1, "length": 128, "repeats": 20, "warm_up": 3}
    cost = {"num_parameters": 9, "num_parameters_nonembedding": 5, "size_mb": 1.0, "flops": 3}
    costs = {name: {"name": name, **cost, "latency_ms": {"median": 2.0, "iqr": iqr, **protocol}} for name in scores}
    said = {name: model(score, rows, 50 * (name == "student")) for name, score in scores.items()}
    return assemble(
        TASK, {"dev": said}, costs=costs, method={"name": "toy"}, seed=0, resamples=400, train_seconds={}, teacher_forwards=0,
        versions={}, machine={}, **more,
    )  # fmt: skip


def test_nothing_is_said_where_nothing_stands_out():
    assert result({"teacher": 0.95, "baseline": 0.6, "student": 0.9})["advice"] == []


def test_a_tie_says_how_many_rows_would_tell():
    made = result({"teacher": 0.95, "baseline": 0.84, "student": 0.88}, rows=100)
    gain = made["gain"]["dev"]["f1"]
    assert gain["low"] <= 0 <= gain["high"]
    (said,) = made["advice"]
    assert said.startswith("A tie on 100 rows")
    number = int(said.split("about ")[1].split(" ")[0].replace(",", ""))
    half = gain["value"] - gain["low"]
    assert number == pytest.approx(100 * (half / gain["value"]) ** 2, rel=0.1)
    # The same difference on that many rows is one.
    again = result({"teacher": 0.95, "baseline": 0.84, "student": 0.88}, rows=100 * -(-2 * number // 100))
    assert again["gain"]["dev"]["f1"]["low"] > 0 and again["advice"] == []


def test_a_tie_of_the_headline_that_is_none_elsewhere():
    made = result({"teacher": 0.95, "baseline": 0.84, "student": 0.86}, rows=100)
    made["task"]["tests"]["later"] = 2000
    made["gain"]["later"] = {"accuracy": {"value": 0.063, "low": 0.041, "high": 0.084}, "f1": made["gain"]["dev"]["f1"]}
    assert advice(made)[-1] == (
        "Look at the other scores too: on 2,000 rows of later it is no tie (+6.3 points of accuracy, 95 % interval 4.1 to 8.4; "
        "one of 3 such comparisons)."
    )


def test_equal_scores_are_no_tie_that_rows_would_break():
    assert result({"teacher": 0.95, "baseline": 0.9, "student": 0.9})["advice"] == []


def test_a_teacher_that_a_reference_beats_is_named():
    free = {"the encoder's own cosine": {"dev": {"f1": 0.97}}, "always 'no'": {"dev": {"f1": 0.0}}}
    (said,) = result({"teacher": 0.95, "baseline": 0.6, "student": 0.9}, references=free)["advice"]
    assert "no better than the encoder's own cosine (0.970)" in said and "F1 of 'yes'" in said


def test_who_was_still_rising_and_what_to_change():
    made = result({"teacher": 0.95, "baseline": 0.6, "student": 0.9}, rising=["teacher", "student"])
    (said,) = made["advice"]
    assert said.startswith("The teacher and the student were") and "teacher.finetune.epochs, train.epochs" in said


@pytest.mark.parametrize(
    ("values", "select", "rises"),
    [
        ([0.5, 0.6, 0.7], "f1", True),
        ([0.5, 0.7, 0.7], "f1", False),
        ([0.5, 0.7, 0.702], "f1", False),  # within half a point
        ([0.7], "f1", False),
        ([3.0, 2.0, 1.5], "mse", True),
        ([1.0, 2.0], "mse", False),
    ],
)
def test_rising_is_more_than_half_a_point_at_the_end(values, select, rises):
    rows = [{"step": step, "select": {select: value}} for step, value in enumerate(values)]
    assert still_rising({"teacher": [*rows, {"step": 9, "loss": 1.0}]}, select) == (["teacher"] if rises else [])


def test_cut_texts_leaks_and_busy_clocks():
    scores = {"teacher": 0.95, "baseline": 0.6, "student": 0.9}
    overlap = {"dev": {"rows": 200, "in_train": 12, "other_label": 1}}
    data = {"cut": {"share": 0.09, "words": 0.1, "max_length": 128, "holds_99": 256, "most": 512}, "overlap": overlap}
    cut, leak, busy = result(scores, data=data, iqr=0.9)["advice"]
    assert cut == "9 % of the texts were cut at 128 tokens: try task.max_length=256."
    assert leak.startswith("12 of 200 rows of dev are in train too")
    assert "busy" in busy and "teacher and baseline and student" in busy
    data["cut"]["most"] = 200
    assert result(scores, data=data)["advice"][0].endswith("try task.max_length=200.")  # no more than the model can read
    little = {"cut": {"share": 0.01, "max_length": 128, "holds_99": 128}}
    assert result(scores, data=little)["advice"] == []


def test_results_of_before_are_read():
    made = result({"student": 0.9})
    old = {key: value for key, value in made.items() if key not in ("references", "rising", "data", "advice")}
    assert advice(old) == []
    assert metric_name(old, "accuracy") == "accuracy" and metric_name(old, "f1") == "F1 of 'yes'"
