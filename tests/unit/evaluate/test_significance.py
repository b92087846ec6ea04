"""Many arms, few seeds: hand-computed corrections, scipy's bootstrap, and worlds in which nothing is true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from understudy.data.types import Task
from understudy.evaluate.predictions import Predictions
from understudy.evaluate.significance import Score, compared, holm, p_value, scores, summary

TASK = Task("toy", "classification", ("no", "yes"), ("accuracy",), "accuracy")


def predictions(right: np.ndarray, groups: list[str] | None = None) -> Predictions:
    """Answers that are right where `right` says so; the truth alternates."""
    gold = np.arange(len(right)) % 2
    said = np.where(right, gold, 1 - gold)
    return Predictions([str(row) for row in range(len(right))], np.eye(2)[said], gold, groups)


def test_holm_by_hand():
    # Holm 1979: sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, made monotone: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_value_is_two_sided_and_never_zero():
    assert p_value(np.ones(999)) == pytest.approx(2 / 1000)
    assert p_value(-np.ones(999)) == pytest.approx(2 / 1000)
    assert p_value(np.zeros(10)) == 1.0


def test_one_seed_is_the_paired_bootstrap_of_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.random(300) < 0.8, rng.random(300) < 0.7
    found = scores(TASK, {"a": {0: predictions(one)}, "b": {0: predictions(other)}}, resamples=20_000)
    (row,) = compared({arm: found[arm]["accuracy"] for arm in found}, "accuracy")
    theirs = stats.bootstrap(
        (one.astype(float) - other,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert row["difference"] == pytest.approx(one.mean() - other.mean())
    assert (row["low"], row["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_without_noise_of_rows_the_interval_is_that_of_student():
    values = np.array([0.80, 0.83, 0.81])
    score = Score((0, 1, 2), values, np.repeat(values[:, None], 200_000, axis=1))
    found = summary(score)
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.003)
    assert (found["n"], found["mean"]) == (3, pytest.approx(values.mean()))
    cut = summary(score, limits=(0.0, 0.82))
    assert cut == {**found, "high": 0.82}  # what cannot be is left out, nothing else


def test_the_same_answers_are_a_tie_and_seeds_are_paired():
    rng = np.random.default_rng(3)
    base = {seed: rng.random(200) < 0.6 for seed in range(3)}
    same = {seed: predictions(right) for seed, right in base.items()}
    better = {seed: predictions(right | (rng.random(200) < 0.5)) for seed, right in base.items()}
    found = scores(TASK, {"one": same, "two": same, "better": better})
    rows = {(row["one"], row["other"]): row for row in compared({arm: found[arm]["accuracy"] for arm in found}, "accuracy")}
    assert rows["one", "two"]["verdict"] == "tie" and rows["one", "two"]["p_holm"] > 0.9
    assert rows["one", "better"]["verdict"] == "worse"
    assert rows["one", "better"]["difference"] == pytest.approx(
        np.mean([found["one"]["accuracy"].values - found["better"]["accuracy"].values])
    )


def test_only_common_seeds_are_compared():
    right = np.ones(20, bool)
    good, bad = predictions(right), predictions(~right)
    found = scores(TASK, {"a": {0: good, 1: bad}, "b": {1: good}, "c": {2: good}})
    rows = compared({arm: found[arm]["accuracy"] for arm in found}, "accuracy")
    assert [(row["one"], row["other"], row["difference"]) for row in rows] == [("a", "b", -1.0)]


def test_lower_is_better_for_losses():
    score = {name: Score((0,), np.array([value]), np.full((1, 500), value)) for name, value in (("a", 0.2), ("b", 0.5))}
    assert [row["verdict"] for row in compared(score, "mse")] == ["better"]
    assert [row["verdict"] for row in compared(score, "accuracy")] == ["worse"]


WORLDS = 200


def world(
    rng: np.random.Generator, *, rows: int, seeds: int, deviations: list[float], resamples: int = 300
) -> dict[str, Score]:
    """Arms without a difference: each seed of each moves its accuracy; rows have difficulties of their own."""
    ease, weights = rng.normal(size=rows), rng.multinomial(rows, np.full(rows, 1 / rows), size=resamples) / rows
    found = {}
    for arm, deviation in enumerate(deviations):
        right = ease + deviation * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, rows)) > -0.7
        found[str(arm)] = Score(tuple(range(seeds)), right.mean(axis=1), right @ weights.T)
    return found


@pytest.mark.parametrize(
    ("seeds", "deviations"),
    [(1, [0.0] * 2), (3, [0.0] * 2), (3, [0.3] * 2), (5, [0.3] * 2), (3, [0.3] * 7), (3, [0.1] * 6 + [0.4]), (1, [0.0] * 7)],
    ids=["one-seed", "still", "two-arms", "five-seeds", "seven-arms", "one-unsteady", "seven-arms-one-seed"],
)
def test_where_nothing_is_true_at_most_one_world_in_twenty_has_a_discovery(seeds, deviations):
    rng = np.random.default_rng(seeds)
    false = 0
    for number in range(WORLDS):
        made = world(rng, rows=150, seeds=seeds, deviations=deviations)
        false += any(row["verdict"] != "tie" for row in compared(made, "accuracy", seed=number))
    assert false / WORLDS < 0.05 + 2 * (0.05 * 0.95 / WORLDS) ** 0.5 + 1e-9
    if (seeds, len(deviations)) == (1, 2):
        assert false / WORLDS > 0.02  # and it is no test that never finds anything


def test_what_is_true_is_found_with_three_seeds():
    rng = np.random.default_rng(1)
    made = world(rng, rows=600, seeds=3, deviations=[0.05] * 7, resamples=5000)
    best = made["3"]
    made["3"] = Score(best.seeds, best.values + 0.2, best.samples + 0.2)
    rows = [row for row in compared(made, "accuracy") if "3" in (row["one"], row["other"])]
    assert {row["verdict"] for row in rows if row["one"] == "3"} == {"better"}
    assert {row["verdict"] for row in rows if row["other"] == "3"} == {"worse"}


def test_drawing_three_seeds_with_replacement_would_find_too_much():
    """Why seeds are not resampled: the same worlds, judged by the bootstrap of seeds."""
    rng = np.random.default_rng(9)
    false = 0
    for _ in range(WORLDS):
        differences = rng.normal(size=3) - rng.normal(size=3)
        draws = differences[rng.integers(0, 3, size=(300, 3))].mean(axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        false += not low <= 0 <= high
    assert false / WORLDS > 0.15
