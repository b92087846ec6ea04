"""Differences over tasks and seeds, on which the pages of results rest, against scipy and against chance."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from record import Pair, paired_over_tasks


def pairs(effect: dict[str, float], seeds: int = 3) -> list[Pair]:
    rng = np.random.default_rng(0)
    return [
        Pair(task, seed, 0.8 + gain + 0.004 * rng.normal(), 0.8)
        for task, gain in effect.items()
        for seed in range(seeds)
    ]


def test_an_effect_on_all_tasks_excludes_zero_and_one_on_a_single_task_does_not():
    everywhere = paired_over_tasks(pairs({"a": 0.02, "b": 0.03, "c": 0.02, "d": 0.03}))
    assert everywhere["low"] > 0 and everywhere["wins"] == everywhere["pairs"] == 12
    lucky = pairs({"a": 0.10, "b": 0.0, "c": -0.01, "d": -0.01})
    assert paired_over_tasks(lucky)["low"] < 0 < paired_over_tasks(lucky)["mean"]
    assert paired_over_tasks(lucky, tasks_fixed=True)["low"] > paired_over_tasks(lucky)["low"]


def test_tasks_like_these_are_the_t_interval_of_their_means():
    from scipy import stats

    given = pairs({"a": 0.05, "b": 0.01, "c": -0.02})
    means = [np.mean([pair.ours - pair.theirs for pair in given if pair.task == task]) for task in "abc"]
    found = paired_over_tasks(given)
    assert (found["low"], found["high"]) == pytest.approx(stats.t.interval(0.95, 2, np.mean(means), stats.sem(means)))


def test_these_two_tasks_are_the_interval_of_welch():
    """The mean of two tasks is half of the difference between one and minus the other, which scipy knows."""
    from scipy import stats

    one, other = [0.05, 0.01, 0.03], [0.002, 0.001, -0.003, 0.004]
    given = [Pair(task, seed, gap, 0.0) for task, gaps in (("a", one), ("b", other)) for seed, gap in enumerate(gaps)]
    found = paired_over_tasks(given, tasks_fixed=True)
    theirs = stats.ttest_ind(one, [-gap for gap in other], equal_var=False).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((theirs.low / 2, theirs.high / 2))


def test_too_little_is_said_to_be_so():
    single = [Pair("a", 0, 0.9, 0.8), Pair("b", 0, 0.9, 0.8), Pair("b", 1, 0.9, 0.8)]
    assert paired_over_tasks(single, tasks_fixed=True)["low"] is None
    assert paired_over_tasks(single[1:])["high"] is None
    same = paired_over_tasks([Pair("a", seed, 0.9, 0.8) for seed in range(3)], tasks_fixed=True)
    assert same["low"] == pytest.approx(same["high"])


@pytest.mark.parametrize("deviations", [(0.01, 0.01, 0.01, 0.01), (0.07, 0.01, 0.01, 0.01)], ids=["alike", "one-unsteady"])
def test_where_nothing_is_true_at_most_one_interval_in_twenty_leaves_zero_out(deviations):
    rng = np.random.default_rng(5)
    missed, worlds = 0, 600
    for _ in range(worlds):
        given = [Pair(str(task), seed, s * rng.normal(), 0.0) for task, s in enumerate(deviations) for seed in range(3)]
        found = paired_over_tasks(given, tasks_fixed=True)
        missed += not found["low"] <= 0 <= found["high"]
    assert missed / worlds < 0.05 + 2 * (0.05 * 0.95 / worlds) ** 0.5


def test_tasks_count_equally_however_many_seeds_they_have():
    uneven = [Pair("a", seed, 0.9, 0.8) for seed in range(9)] + [Pair("b", 0, 0.8, 0.8)]
    assert paired_over_tasks(uneven)["mean"] == pytest.approx(0.05)
    with pytest.raises(ValueError, match="no pairs"):
        paired_over_tasks([])
