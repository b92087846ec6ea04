"""Marks stand where the numbers say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.report import charts
from understudy.report.svg import Scale, clean, shorten, tag


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low, span):
    ticks = Scale(low, low + span, 0, 100).ticks()
    values = [value for value, _ in ticks]
    assert len(ticks) <= 8
    assert values == sorted(set(values))
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value in values)


def test_scale_clamps_and_survives_a_point():
    assert Scale(0, 1, 10, 20)(0.5) == 15
    assert Scale(0, 1, 10, 20)(7) == 20
    assert Scale(3, 3, 10, 20)(3) == 15 and Scale(3, 3, 0, 1).ticks() == [(3, "3")]


def test_tag_escapes_names_values_and_children():
    assert str(tag("text", "<b>", aria_label='"><', class_="x")) == (
        '<text aria-label="&#34;&gt;&lt;" class="x">&lt;b&gt;</text>'
    )


def test_clean_and_shorten():
    assert clean("a\x1b[1m\x00b\u202ec\n\td") == "a[1mbc\n\td"
    assert shorten("one  two\nthree", 9) == "one two…"
    assert shorten("short", 9) == "short"


def test_long_curves_keep_their_mean_and_their_extremes():
    values = [(float(step), float(step % 10)) for step in range(1000)]
    buckets = charts._bucket(values, 100)
    assert len(buckets) == 100
    assert all((mean, least, most) == (4.5, 0, 9) for _, mean, least, most in buckets)
    assert buckets[-1][0] == 999
    assert charts._bucket(values[:50], 100) == [(step, value, value, value) for step, value in values[:50]]


def test_a_curve_that_falls_goes_down():
    chart = charts.curves({"loss": [(0, 4.0), (10, 2.0), (20, 1.0)]}, label="loss", classes={"loss": "s0"})
    points = re.search(r'd="M([^"]+)" class="curve', chart)
    assert points
    ys = [float(point.split()[1]) for point in points[1].split("L")]
    assert ys == sorted(ys) and ys[0] < ys[-1]
    assert "step 10: loss 2" in chart


def test_shares_fill_the_whole_height():
    series = {"hard": [(0, 0.25), (10, 0.5)], "soft": [(0, 0.75), (10, 0.5)]}
    chart = charts.shares(series, label="share", classes={"hard": "s0", "soft": "s1"})
    ys = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)(?=[LZ])", chart)]
    assert min(ys) == 8 and max(ys) == 138


@pytest.mark.parametrize(("low", "high", "inside"), [(0.5, 2.0, False), (-1.0, 2.0, True)])
def test_the_line_at_zero_separates_ties_from_gains(low, high, inside):
    row = {"name": "F1", "value": 1.0, "low": low, "high": high, "kind": "tie", "shown": "+1.0", "tip": ""}
    chart = charts.differences([row], label="gain")
    zero = re.search(r'x1="([\d.]+)"[^>]*class="zero"', chart)
    ends = re.search(r'x1="([\d.]+)" y1="13" x2="([\d.]+)" y2="13" class="interval', chart)
    assert zero and ends
    assert (float(ends[1]) < float(zero[1]) < float(ends[2])) == inside


def test_parts_are_proportional():
    rows = [{"class": "both", "count": 30, "tip": "a"}, {"class": "neither", "count": 10, "tip": "b"}]
    widths = [
        float(one) for one in re.findall(r' width="([\d.]+)" height="26" class="part', charts.parts(rows, label="x"))
    ]
    assert widths == pytest.approx([538, 178])


def test_more_than_a_score_of_one_gets_its_own_scale():
    row = {"model": "student", "value": 12.0, "low": 10.0, "high": 14.0, "shown": "12.0", "tip": ""}
    found = re.search(r'width="([\d.]+)" height="16" class="bar', charts.score_bars([row], label="loss"))
    assert found and float(found[1]) == pytest.approx(12 / (14 * 1.05) * (340 - 58 - charts.LEFT), abs=0.01)
