"""Intervals, ratios and their guards."""

from __future__ import annotations

import numpy as np
import pytest

from understudy.base.errors import DataError
from understudy.data.types import Task
from understudy.evaluate import bootstrap
from understudy.evaluate.bootstrap import (
    Resampled,
    gap_recovered,
    over_seeds,
    resample,
    retained,
)
from understudy.evaluate.predictions import Predictions

TASK = Task("toy", "classification", ("0", "1"), ("accuracy", "f1"), "f1")


def model(correct: np.ndarray, *, groups=None) -> Predictions:
    """Predictions with truth 1 everywhere, right where `correct`."""
    said = np.where(correct, 1, 0)
    return Predictions([str(row) for row in range(len(said))], np.eye(2)[said], np.ones(len(said), dtype=int), groups)


def at(value: float, *, noise: float = 0.01, seed: int = 0) -> Resampled:
    return Resampled(value, value + noise * np.random.default_rng(seed).normal(size=2000))


def test_the_interval_of_an_accuracy_is_the_textbook_one():
    correct = np.arange(400) < 320
    one = resample(TASK, {"student": model(correct)}, resamples=4000)["student"]["accuracy"]
    found = one.interval()
    error = (0.8 * 0.2 / 400) ** 0.5
    assert found["value"] == 0.8
    assert one.standard_error == pytest.approx(error, rel=0.05)
    assert (found["low"], found["high"]) == pytest.approx((0.8 - 1.96 * error, 0.8 + 1.96 * error), abs=0.006)


def test_draws_depend_on_the_seed_and_on_nothing_else():
    correct = np.random.default_rng(0).random(50) < 0.7
    alone = resample(TASK, {"student": model(correct)}, resamples=30, seed=1)["student"]["f1"]
    together = resample(TASK, {"teacher": model(~correct), "student": model(correct)}, resamples=30, seed=1)["student"][
        "f1"
    ]
    other = resample(TASK, {"student": model(correct)}, resamples=30, seed=2)["student"]["f1"]
    assert np.array_equal(alone.samples, together.samples)
    assert not np.array_equal(alone.samples, other.samples)


def test_blocks_do_not_change_the_draws(monkeypatch):
    correct = np.random.default_rng(0).random(50) < 0.7
    whole = resample(TASK, {"student": model(correct)}, resamples=30)["student"]["f1"].samples
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 50 * 7)
    assert np.array_equal(whole, resample(TASK, {"student": model(correct)}, resamples=30)["student"]["f1"].samples)


def test_pairing_makes_the_interval_of_a_difference_narrow():
    base = np.random.default_rng(0).random(500) < 0.7
    better = base.copy()
    better[np.flatnonzero(~base)[:20]] = True
    scores = resample(TASK, {"baseline": model(base), "student": model(better)})
    gain = scores["student"]["accuracy"] - scores["baseline"]["accuracy"]
    assert gain.value == pytest.approx(0.04)
    assert gain.interval()["low"] > 0
    assert gain.standard_error < scores["student"]["accuracy"].standard_error / 2


def test_rows_of_one_group_are_drawn_together():
    correct = np.repeat(np.random.default_rng(0).random(40) < 0.7, 10)
    groups = [str(row // 10) for row in range(400)]
    apart = resample(TASK, {"student": model(correct)})["student"]["accuracy"].standard_error
    together = resample(TASK, {"student": model(correct, groups=groups)})["student"]["accuracy"].standard_error
    assert together == pytest.approx(apart * 10**0.5, rel=0.15)


def test_models_on_different_rows_are_not_compared():
    one, other = model(np.ones(3, dtype=bool)), model(np.ones(4, dtype=bool))
    with pytest.raises(DataError, match="different rows"):
        resample(TASK, {"teacher": one, "student": other})


def test_no_resamples_gives_values_without_intervals():
    found = resample(TASK, {"student": model(np.array([True, False]))}, resamples=0)["student"]["accuracy"].interval()
    assert found == {"value": 0.5, "low": None, "high": None}


def test_gap_recovered_is_the_ratio_of_differences():
    found = gap_recovered(at(0.86, seed=1), at(0.80, seed=2), at(0.90, seed=3), metric="accuracy")
    assert found["value"] == pytest.approx(0.6)
    assert found["low"] < 0.6 < found["high"]
    assert found["reason"] is None


@pytest.mark.parametrize("teacher", [0.80, 0.795, 0.8 + 1e-9])
def test_gap_recovered_refuses_a_gap_of_nothing(teacher):
    """AutoMM's ratio divides by zero, or flips its sign, here."""
    found = gap_recovered(at(0.86, seed=1), at(0.80, seed=2), at(teacher, seed=3), metric="accuracy")
    assert found["value"] is None and found["low"] is None
    assert "standard error" in found["reason"]


def test_gap_recovered_refuses_an_exact_tie_without_resamples():
    plain = Resampled(0.5, np.empty(0))
    assert gap_recovered(Resampled(0.7, np.empty(0)), plain, plain, metric="accuracy")["value"] is None


def test_a_doubtful_gap_has_a_value_but_no_interval():
    found = gap_recovered(at(0.81, seed=1), at(0.80, seed=2), at(0.82, seed=3), metric="accuracy")
    assert found["value"] == pytest.approx(0.5)
    assert (found["low"], found["high"]) == (None, None)
    assert "unbounded" in found["reason"] or "no bounded" in found["reason"]


def test_gap_recovered_where_lower_is_better():
    found = gap_recovered(at(0.24, seed=1), at(0.30, seed=2), at(0.20, seed=3), metric="mse")
    assert found["value"] == pytest.approx(0.6)
    assert gap_recovered(at(0.2, seed=1), at(0.2, seed=2), at(0.3, seed=3), metric="mse")["value"] is None


def test_retained_and_where_there_is_no_share():
    assert retained(at(0.45), at(0.90), metric="f1")["value"] == pytest.approx(0.5)
    assert "lower is better" in retained(at(0.45), at(0.90), metric="mse")["reason"]
    assert "not above zero" in retained(at(0.45), at(-0.1), metric="mcc")["reason"]


def test_over_seeds_is_the_t_interval():
    from scipy import stats

    values = [0.81, 0.84, 0.79, 0.86]
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert over_seeds([0.5]) == {"n": 1, "mean": 0.5, "deviation": None, "low": None, "high": None}
