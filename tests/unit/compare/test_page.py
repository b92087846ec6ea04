"""What a comparison says: in words that hold to the numbers, on a page that is deaf to hostile names."""

from __future__ import annotations

import json
import re
from typing import Any

import comparisons
import pytest
from pages import HOSTILE, Page, assert_inert

from understudy.compare.advice import fronts, latencies, ranked, recommendations, round_up, would_tell
from understudy.evaluate.significance import pair
from understudy.report.comparison import render_comparison


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return comparisons.comparison()


def test_the_words_hold_to_the_numbers(made):
    assert set(ranked(made)[:2]) == {"automm", "minidisc"} and ranked(made)[-1] == "finetune"
    assert pair(made, "automm", "minidisc")["verdict"] == "tie"
    assert pair(made, "kdnas", "automm")["verdict"] == "worse" and pair(made, "automm", "kdnas")["verdict"] == "better"
    assert fronts(made)["latency"][-1] == "kdnas" and "finetune" not in fronts(made)["latency"]
    first, *_, last = made["recommendations"]
    assert (first["arm"], first["limit_ms"]) == ("kdnas", 5.0) and first["text"].startswith("Under 5 ms: kdnas (0.8")
    assert last["arm"] == ranked(made)[0] and "tied with" in last["text"]
    assert "tied with" in made["verdict"] and "against training without a teacher: +6." in made["verdict"]
    assert "corrected for 6 comparisons" in made["verdict"]


def test_where_no_teacher_helps_it_says_so():
    made = comparisons.comparison(scores={"finetune": 0.9, "automm": 0.8})
    assert "No teacher helped here. The teacher itself (0.900) is no better" in made["verdict"]
    lower = comparisons.comparison(metric="mse", scores={"finetune": 0.9, "automm": 0.8})
    assert ranked(lower) == ["automm", "finetune"] and "lowest mean squared error" in lower["verdict"]


@pytest.mark.parametrize(("value", "expected"), [(4.2, 5.0), (0.31, 0.5), (10.0, 10.0), (1.01, 1.5), (71, 100.0)])
def test_round_up(value, expected):
    assert round_up(value) == expected


def test_the_page_shows_every_arm_and_loads_nothing(made):
    html = render_comparison(made, recipe="seed: 0")
    page = Page(html)
    assert_inert(page)
    for name in made["arms"]:
        assert name in page.text
    for one in (made["verdict"], *(one["text"] for one in made["recommendations"])):
        assert one in page.text.replace("\u00a0", " ")
    for heading in ("Which one to take", "Quality against latency", "Quality against size", "Quality over cost", "Who beats whom",
                    "Every metric", "The budget"):  # fmt: skip
        assert heading in page.text, heading
    assert "http" not in html.replace("http-equiv", "") and len(html) < 200_000
    assert render_comparison(made, recipe="seed: 0") == html
    charts = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(charts) == 6 and all(chart.get("aria-label") for chart in charts)
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert {link[1:] for link in links} <= {attributes.get("id") for _, attributes in page.elements}


@pytest.mark.parametrize(("metric", "scale"), [("f1", 100), ("mse", 1)])
def test_differences_are_drawn_in_the_numbers_that_stand_beside_them(metric, scale):
    """Points for what is a share, else the metric's own unit: the axis goes a little further than the largest difference."""
    made = comparisons.comparison(metric=metric, scores={"finetune": 0.80, "automm": 0.86})
    html = render_comparison(made)
    (drawing,) = re.findall(r">Against finetune<.*?(<svg.*?</svg>)", html, re.DOTALL)
    ticks = [float(text.replace("−", "-")) for text in re.findall(r'text-anchor="middle" class="axis">([^<]*)<', drawing)]
    assert 0.02 * scale < max(ticks) < 0.09 * scale


@pytest.mark.parametrize("poison", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(made, poison):
    plain = Page(render_comparison(made))
    text = json.dumps(made).replace('"automm', '"' + json.dumps(poison)[1:-1]).replace('"dev-set"', json.dumps(poison))
    hostile = json.loads(text)
    hostile["arms"]["kdnas"] |= {"failed": [{"seed": 1, "reason": poison}], "notes": [poison], "changes": {"x": poison}}
    hostile["verdict"] = hostile["task"]["name"] = hostile["machine"]["cpu"] = hostile["teacher"]["name"] = poison
    page = Page(render_comparison(hostile, recipe=poison))
    assert_inert(page)
    assert page.inline == plain.inline, "the allowed script and style do not depend on the data"


def test_arms_without_a_score_are_still_named(made):
    broken = json.loads(json.dumps(made))
    nothing = {"metrics": {}, "spent": None, "seeds": [], "latency_ms": None, "curve": []}
    failed = [{"seed": 0, "reason": "The loss is NaN or infinite."}]
    broken["arms"]["peakd"] = {**broken["arms"]["kdnas"], **nothing, "failed": failed}
    page = Page(render_comparison(broken))
    assert_inert(page)
    assert "peakd" in page.text and "The loss is NaN or infinite." in page.text


def test_one_arm_alone_makes_a_page():
    alone = comparisons.comparison(scores={"finetune": 0.9}, tests=("dev-set",))
    assert_inert(Page(render_comparison(alone)))
    assert "no other arm" in alone["verdict"]


def test_what_an_arm_changes_stands_as_a_recipe_holds_it(made):
    changes = {"student.share": "sps", "method": {"name": "automm", "assistants": ["30S"]}}
    made = {**made, "arms": {**made["arms"], "automm": {**made["arms"]["automm"], "changes": changes}}}
    assert "{student.share: sps, method: {name: automm, assistants: [30S]}}" in render_comparison(made)


def test_what_the_clock_cannot_tell_apart_is_equally_fast(made):
    arms = json.loads(json.dumps(made["arms"]))
    assert latencies(made)["automm"] == 8.1 and latencies(made)["finetune"] == 8.0
    arms["automm"]["flops"] = arms["finetune"]["flops"]  # the same operations: 8.0 and 8.1 ms are noise
    assert latencies({**made, "arms": arms})["automm"] == 8.0
    arms["minidisc"]["latency_ms"]["iqr"] = 3.0  # 9.4 ms, but the machine was busy
    equal = {**made, "arms": arms}
    assert latencies(equal)["minidisc"] == 8.0 and latencies(equal)["kdnas"] == 3.2
    within = [one for one in recommendations(equal) if one["limit_ms"] == 10.0]
    assert not within or {within[0]["arm"], *within[0]["ties"]} >= {"automm", "minidisc"}
    best = next(one for one in recommendations(equal) if one["arm"] in ("automm", "minidisc"))
    assert {best["arm"], *best["ties"]} >= {"automm", "minidisc"}, "neither is left out for being a tenth slower"


def tie(values: list[float], *, half: float, rows: int = 400) -> str:
    """What is said of an arm against another that is always at 0.8."""
    seeds = list(range(len(values)))
    of = {"a": values, "b": [0.8] * len(values)}
    arms = {name: {"seeds": seeds, "metrics": {"dev": {"f1": {"values": one}}}} for name, one in of.items()}
    gap = sum(values) / len(values) - 0.8
    row = {"one": "a", "other": "b", "test": "dev", "metric": "f1", "difference": gap, "low": gap - half, "high": gap + half}
    return would_tell({"arms": arms, "task": {"tests": {"dev": rows}}}, row)


def test_a_tie_says_how_many_seeds_or_rows_would_tell():
    from scipy import stats

    values = [0.83, 0.80, 0.84]  # a gap of 0.0233 with a deviation of 0.0208 between seeds
    deviation = 0.020817
    for_three = stats.t.ppf(0.975, 2) * deviation / 3**0.5
    said = tie(values, half=for_three)  # seeds alone
    enough = int(said.split("about ")[1].split(" ")[0])
    ends = [stats.t.ppf(0.975, number - 1) * deviation / number**0.5 for number in (enough - 1, enough)]
    assert ends[1] < 0.07 / 3 < ends[0]
    said = tie([0.81, 0.81, 0.81], half=0.02)  # rows alone: twice the gap, so four times the rows
    assert said == " More seeds would not tell; about 2,000 test rows might."
    assert "compare.seeds=3" in tie([0.81], half=0.02)
    assert tie([0.8, 0.8], half=0.02) == ""
