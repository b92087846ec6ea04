"""The estimate of time: the arithmetic against numbers added up by hand, and the probe on a real network."""

from __future__ import annotations

import csv
import random
import time

import pytest
import runs

from understudy import probe
from understudy.check import check
from understudy.data.tasks import load_task
from understudy.recipe.load import recipe_from
from understudy.recipe.method import Facts


@pytest.fixture
def made(toy_checkpoint, toy_csv):
    return runs.recipe(toy_checkpoint, toy_csv)


def estimated(recipe, monkeypatch, *, found=1.0):
    """With networks that learn from a token in 2 s, look at one in 1 s and are updated in 10 s, on rows of five tokens."""
    monkeypatch.setattr(probe, "_timed", lambda net, lengths, precision: (2.0, 1.0, 10.0))
    data = load_task(recipe.task, seed=0)
    nets = dict.fromkeys(["teacher", "student"] if not recipe.student.searched else ["teacher"], lambda: None)
    return data, probe.estimate(recipe, data, nets, Facts(0.5, 2, len(data.train), found), [4, 6], dict.fromkeys(nets, 1))


def test_seconds_are_those_of_steps_evaluations_and_tests(made, monkeypatch):
    data, found = estimated(recipe_from(made), monkeypatch)
    train, select, test = len(data.train), len(data.select), len(data.tests["test"])
    steps = -(-train // 16)
    step = 2 * 5 * 16 + 10
    epoch = steps * step + select * 5
    assert found == {
        "teacher": 2 * epoch + test * 5,
        "its outputs": train * 5,
        "student": 3 * epoch + test * 5,
        "baseline": 3 * epoch + test * 5,
    }
    _, limited = estimated(recipe_from(made, ["train.time_limit=7.0"]), monkeypatch)
    assert limited["baseline"] == 7 + test * 5
    _, alone = estimated(recipe_from(made, ["evaluate.baseline=false"]), monkeypatch)
    assert "baseline" not in alone
    _, tried = estimated(recipe_from(made, ["teacher.finetune.lr=auto"]), monkeypatch)
    assert tried["teacher"] == (2 + 3 * min(2, -(-200 // steps))) * epoch + test * 5


def test_a_search_counts_its_candidates(made, monkeypatch):
    search = {"method": {"name": "kdnas", "episodes": 2, "candidates": 3, "top_k": 1}}
    recipe = recipe_from({key: value for key, value in made.items() if key != "student"} | search)
    _, found = estimated(recipe, monkeypatch, found=0.25)
    assert found["student"] > 0
    more = recipe_from(recipe.model_dump(mode="json"), ["method.episodes=4"])
    _, twice = estimated(more, monkeypatch, found=0.25)
    assert twice["student"] > 1.5 * found["student"]


def test_check_says_it_and_that_it_is_an_estimate(made):
    said = [str(finding) for finding in check(recipe_from(made)) if finding.key == "time"]
    assert len(said) == 1 and "an estimate from a few measured steps" in said[0]


@pytest.mark.slow
def test_three_hundred_thousand_rows_are_checked_in_twenty_seconds(made, tmp_path):
    chosen = random.Random(0)
    words = [f"word{i}" for i in range(500)]
    with (tmp_path / "big.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["body", "mood"])
        out.writerows([" ".join(chosen.choices(words, k=20)), chosen.choice(["glad", "sad"])] for _ in range(300_000))
    made["task"]["files"] = {"train": str(tmp_path / "big.csv")}
    start = time.process_time()  # of this process: others may be at work
    findings = check(recipe_from(made))
    assert time.process_time() - start < 20
    assert any("237,500 rows" in str(finding) for finding in findings)
