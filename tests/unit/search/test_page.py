"""The section about a search: the right points on the front, safe texts, and the words beside the charts."""

from __future__ import annotations

import random

import pytest
from scipy.stats import kendalltau

from understudy.methods.kdnas.page import best_so_far, rank_correlation, section


def row(trial: int, **changes):
    found = {
        "trial": trial, "point": trial, "layers": 2, "heads": 2, "hidden": 32, "intermediate": 64, "activation": "gelu",
        "state": "complete", "value": 0.5 + trial / 100, "error": None, "seconds": 2.0, "finished": trial,
        "quality": 0.4 + trial / 50, "latency_ms": 1.0 + trial, "parameters": 1000 * (trial + 1), "reports": {},
    }  # fmt: skip
    return found | changes


def kept(rows, **changes):
    record = {"engine": "tpe", "rows": rows, "front": [0, 1], "importance": {"layers": 0.7, "hidden": 0.3}, "seconds": 9.0,
              "space": {"points": 10, "text": "10 architectures."}}  # fmt: skip
    return {"search": record | changes}


def test_no_search_no_section():
    assert section({}) is None
    assert section(kept([row(0, state="failed", error="x", value=None)])) is None


def test_every_trained_candidate_is_a_dot_and_the_front_stands_out():
    rows = [row(0), row(1), row(2), row(3, over_budget=True, quality=None), row(4, state="stopped", value=None),
            row(5, state="failed", value=None, error="<b>boom</b>")]  # fmt: skip
    shown = section(kept(rows))
    assert shown is not None
    front = str(shown["panels"][0]["chart"])
    table = shown["tables"][0]["rows"]
    assert front.count("<circle") == 3 and front.count("bubble student") == 2
    assert table[0][1].startswith("2 layers") and len(table) == 3
    assert [(line[0], line[-1]) for line in table] == [(1, ""), (2, "yes"), (3, "yes")]
    words = " ".join(shown["lines"])
    assert "3 of them" in words and "1 were stopped" in words and "1 were slower" in words and "boom" in words
    assert "<b>" not in front
    assert [one["title"] for one in shown["panels"]] == ["Quality against latency", "Best reward so far", "What mattered"]


def test_the_whole_front_is_in_the_table_beside_the_ten_best():
    shown = section(kept([row(trial) for trial in range(30)], front=[29, 4]))
    assert shown is not None
    table = shown["tables"][0]["rows"]
    assert [line[0] for line in table] == [*range(1, 11), 26]
    assert [line[0] for line in table if line[-1]] == [1, 26]


def test_best_so_far_is_drawn_for_each_engine():
    chart = str(best_so_far({"lstm": [row(0), row(1)], "random": [row(0), row(1, value=0.1)]}))
    assert chart.count('class="curve') == 2 and "lstm" in chart and "random" in chart


def test_rank_correlation_is_kendalls():
    draw = random.Random(0)
    for _ in range(20):
        one, other = ([float(draw.randint(0, 5)) for _ in range(8)] for _ in range(2))
        assert rank_correlation(one, other) == pytest.approx(kendalltau(one, other).statistic)
    assert rank_correlation([1.0, 1.0], [0.0, 2.0]) is None


def test_agreement_of_short_and_thorough_distillation():
    full = [{"step": f"student-{i}", "point": i, "mini_quality": 0.1 * i, "quality": 0.2 * i, "reward": 1.0} for i in range(3)]
    shown = section({**kept([row(0), row(1)]), "full-kd": {"rows": full, "chosen": 0}})
    assert shown is not None and str(shown["panels"][-1]["chart"]).count("<circle") == 3
    assert any("is 1.00 (Kendall's tau)" in line for line in shown["lines"])
