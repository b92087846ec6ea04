"""The page: complete, honest to its input, silent towards the network, deaf to hostile text."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
from pages import HOSTILE, Page, assert_inert

from understudy.evaluate.verdict import plain
from understudy.figures import words
from understudy.figures.words import percent, score
from understudy.report import sections
from understudy.report.page import ReportInput, render


def poisoned(run: ReportInput, poison: str) -> ReportInput:
    """The same run with the text in every place where text can come from data, names and settings."""
    result, details = copy.deepcopy(dict(run.result)), copy.deepcopy(dict(run.details))
    result["task"]["name"] = result["method"]["name"] = result["verdict"] = poison
    result["versions"], result["machine"] = {poison: poison}, {"cpu": poison, poison: poison}
    for model in ("teacher", "baseline", "student"):
        result[model]["name"] = poison
        result[model]["latency_ms"]["device"] = poison
        result[model]["metrics"] = {poison: result[model]["metrics"]["test"]}
    for key in ("gain", "retained", "gap_recovered"):
        result[key] = {poison: result[key]["test"]}
    result["gap_recovered"][poison]["accuracy"]["reason"] = poison
    result["task"]["tests"] = {poison: 412}
    found = details["test"]
    found["labels"] = [poison] * len(found["labels"])
    for row in found["per_class"]:
        row["label"] = poison
    for row in found["disagreements"]:
        row.update(dict.fromkeys(("text", "pair", "gold", "teacher", "student", "baseline"), poison))
    rows = run.history["student"][:20]
    history = {
        poison: [
            {**row, "terms": {poison: row["terms"]["hard"], **row["terms"]}, "select": {poison: 0.5}} for row in rows
        ]
    }
    return ReportInput(
        result=result, recipe=poison, history=history, details={poison: found}, notes=[poison], title=poison
    )


@pytest.fixture(scope="module")
def html(run) -> str:
    return render(run)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


@pytest.mark.parametrize("poison", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(run, page, poison):
    hostile = render(poisoned(run, poison))
    found = Page(hostile)
    assert_inert(found)
    clean = "".join(mark for mark in poison if mark.isprintable())
    assert re.sub(r"\s+", " ", clean) in found.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", hostile)
    assert found.inline == page.inline, "the allowed script and style do not depend on the data"
    hostile.encode("utf-8")


def test_the_plain_page_is_inert_and_loads_nothing(html, page):
    assert_inert(page)
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", html), "no address of anything outside"
    assert "url(" not in html and "@import" not in html and "fetch(" not in html
    assert len(html.encode()) < 400_000


def test_required_sections_are_there(page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"verdict", "scores", "cost", "training", "behaviour", "made", "tip"} <= ids
    for heading in ("Scores", "Size and speed", "Training", "Where they differ", "How it was made", "Notes on the data",
                    "Where teacher and student disagree", "Share of each term", "Learning rate", "F1 of each class",
                    "Confusion: student", "Quality against time", "What distillation added"):  # fmt: skip
        assert heading in page.text, heading
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links and {link[1:] for link in links} <= ids


def test_numbers_are_those_of_the_input(run, page):
    result, text = run.result, page.text
    assert result["verdict"] in text.replace("\u00a0", " ")
    for model in ("teacher", "baseline", "student"):
        assert result[model]["name"] in text
        assert words.short(result[model]["num_parameters"]) in text
        assert words.milliseconds(result[model]["latency_ms"]["median"]) in text
        for by_metric in result[model]["metrics"].values():
            for one in by_metric.values():
                assert score(one["value"]) in text
                assert f"{score(one['low'])} to {score(one['high'])}" in text
    for test, by_metric in result["gain"].items():
        for metric, gain in by_metric.items():
            assert plain(gain["value"], metric, sign=True) in text
            for ratio in (result["retained"][test][metric], result["gap_recovered"][test][metric]):
                assert ratio["value"] is None or percent(ratio["value"]) in text
    assert f"{result['teacher_forwards']:,} teacher forward passes" in text
    for version in result["versions"].values():
        assert version in text
    assert " ".join(run.recipe.split()) in text
    for note in run.notes:
        assert note in text


def test_bars_are_as_long_as_their_scores(run, html):
    """Geometry, not only labels: on a common scale from 0 to 1 the bars' widths are proportional to the scores."""
    chart = sections.scores(run.result)[0]["chart"]
    assert chart in html
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="[\d.]+" class="bar ', chart)]
    values = [run.result[model]["metrics"]["test"]["accuracy"]["value"] for model in ("teacher", "baseline", "student")]
    assert [width / widths[0] for width in widths] == pytest.approx([value / values[0] for value in values], abs=1e-3)


def test_disagreements_show_their_texts_and_who_was_right(run, page):
    for row in run.details["test"]["disagreements"]:
        assert row["text"] in page.text
    marks = [
        attributes
        for tag, attributes in page.elements
        if tag == "div" and attributes.get("class") in ("right", "wrong")
    ]
    expected = sum(len(found["disagreements"]) for found in run.details.values()) * 3
    assert len(marks) == expected


def test_every_chart_can_be_read_aloud(page):
    charts = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(charts) > 15
    assert all(chart.get("role") == "img" and chart.get("aria-label") for chart in charts)


def test_render_is_a_function_of_its_input(run):
    assert render(run) == render(run)


def test_regression_has_scatter_and_no_marks(regression):
    found = Page(render(regression))
    assert_inert(found)
    assert "Predicted against true: student" in found.text
    assert "Pearson correlation" in found.text and "lower is better, so there is no share to keep" in found.text
    assert not any(attributes.get("class") == "right" for _, attributes in found.elements)


def test_tokens_without_a_baseline(tokens):
    found = Page(render(tokens))
    assert_inert(found)
    assert "gap recovered" not in found.text and "What distillation added" not in found.text
    assert "(product)" in found.text and "baseline nobody can say" in found.text


def test_a_student_alone_and_an_empty_history_still_make_a_page(run):
    result = {**copy.deepcopy(dict(run.result)), "teacher": None, "baseline": None, "speedup": None,
              "gain": {}, "retained": {}, "gap_recovered": {}, "train_seconds": {}, "teacher_forwards": 0}  # fmt: skip
    result["student"]["latency_ms"] = None
    for metric in result["student"]["metrics"]["test"].values():
        metric["low"] = metric["high"] = None
    found = Page(render(ReportInput(result=result)))
    assert_inert(found)
    assert "Training" not in found.text
    assert score(result["student"]["metrics"]["test"]["accuracy"]["value"]) in found.text


def test_history_with_holes_and_infinities_is_drawn(run):
    rows = [
        {"step": 1, "loss": float("nan"), "lr": 0.1, "terms": {"hard": {"value": float("inf"), "weight": 1.0}}},
        {"step": 2, "lr": 0.1},
        {"step": 3, "loss": 0.5, "terms": {"hard": {"value": 0.5, "weight": 0.5, "share": 1.0}}, "select": None},
    ]
    html = render(replace(run, history={"student": rows, "empty": []}))
    assert_inert(Page(html))
    assert "nan" not in html.lower().replace("financ", "") and "inf " not in html


@pytest.mark.parametrize("labels", [2, 3, 25, 77])
def test_confusion_for_few_and_for_many_labels(run, labels):
    names = [f"label number {place}" for place in range(labels)]
    matrix = [
        [5 if row == column else int((row + column) % 7 == 0) for column in range(labels)] for row in range(labels)
    ]
    found = {"labels": names, "confusion": {"teacher": matrix, "student": matrix}}
    section = sections.behaviour("test", found, run.result)
    matrices = [one for one in section["panels"] if one["title"].startswith("Confusion")]
    mistakes = [one for one in section["panels"] if one["table"]]
    assert len(matrices) == (2 if labels <= 25 else 0)
    assert [len(one["table"]["rows"]) for one in mistakes] == ([10] if labels > 4 else [])
    for one in matrices:
        assert one["chart"].count('class="cell') == labels**2
