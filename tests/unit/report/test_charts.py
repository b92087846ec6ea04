"""Marks stand where the numbers say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.figures import charts, parts
from understudy.figures.svg import Scale, clean, shorten, tag
from understudy.report.sections import forest


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
    chart = charts.line({"loss": [(0, 4.0), (10, 2.0), (20, 1.0)]}, label="loss", classes={"loss": "s0"})
    points = re.search(r'd="M([^"]+)" class="curve', chart)
    assert points
    ys = [float(point.split()[1]) for point in points[1].split("L")]
    assert ys == sorted(ys) and ys[0] < ys[-1]
    assert "step 10: loss 2" in chart


def test_shares_fill_the_whole_height():
    series = {"hard": [(0, 0.25), (10, 0.5)], "soft": [(0, 0.75), (10, 0.5)]}
    chart = charts.line(series, label="share", classes={"hard": "s0", "soft": "s1"}, stacked=True)
    ys = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)(?=[LZ])", chart)]
    assert min(ys) == 8 and max(ys) == 138


@pytest.mark.parametrize(("low", "high", "inside"), [(0.5, 2.0, False), (-1.0, 2.0, True)])
def test_the_line_at_zero_separates_ties_from_gains(low, high, inside):
    mark = {"value": 1.0, "low": low, "high": high, "class": "tie", "tip": "gain"}
    chart = forest([{"name": "F1", "shown": "+1.0", "marks": [mark]}])
    zero = re.search(r'x1="([\d.]+)"[^>]*class="zero"', chart)
    ends = re.search(r'x1="([\d.]+)" y1="13" x2="([\d.]+)" y2="13" class="interval', chart)
    assert zero and ends
    assert (float(ends[1]) < float(zero[1]) < float(ends[2])) == inside


def test_parts_are_proportional():
    panel = parts("rows", [("both", "both right", 30), ("neither", "neither right", 10)], rows="rows")
    assert panel is not None
    widths = [float(one) for one in re.findall(r' width="([\d.]+)"[^>]*class="bar part', panel["chart"])]
    assert widths == pytest.approx([538, 178])
    assert [one["note"] for one in panel["legend"]] == ["30 · 75 %", "10 · 25 %"]


def test_bars_begin_at_zero_and_end_at_their_value():
    rows = [
        {"name": str(value), "shown": "", "marks": [{"value": value, "class": "plain", "tip": ""}]} for value in (-1.0, 3.0)
    ]
    chart = charts.bar(rows, label="x", ends=(-1, 3), left=100, right=40)
    (low, high) = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"[^>]*class="bar plain"', chart)
    assert [float(one) for one in low] == [100, 50] and [float(one) for one in high] == [150, 150]


def test_names_of_dots_that_are_almost_the_same_do_not_cover_each_other():
    points = [
        {"x": 1.0, "y": 1.0 + shift, "class": "student", "tip": "", "name": name} for shift, name in ((0, "one"), (1e-6, "two"))
    ]
    chart = charts.scatter([*points, {"x": 1.0, "y": 2.0, "class": "s1", "tip": ""}], label="x", x_name="ms")
    ys = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*class="name"', chart)]
    assert len(ys) == 2 and abs(ys[0] - ys[1]) >= 13


def test_a_grid_slants_names_that_do_not_fit_and_leaves_gaps():
    cell = {"class": "s0", "tip": "", "shown": "1"}
    short = charts.grid([[cell, None]], rows=["row"], columns=["a", "b"], label="x")
    long = charts.grid([[cell] * 9], rows=["row"], columns=["a long name of a column"] * 9, label="x")
    assert "rotate" not in short and short.count("<rect") == 1
    assert long.count("rotate(-45") == 9 and long.count("<rect") == 9
