"""Files of texts, pairs, lists and judgements, in the layouts people have; each trap in them has one rule and one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.base.errors import DataError, RecipeError
from understudy.data import texts
from understudy.data.encode import apart
from understudy.data.known import facts_of
from understudy.data.tasks import load_task
from understudy.data.types import Example, TaskData
from understudy.recipe.settings import TaskSettings


def settings(folder: Path, train: Any, test: Any = None, *, kind: str = "embedding", **more: Any) -> TaskSettings:
    files = {"train": train} | ({"test": test} if test else {})
    return TaskSettings(name="custom", kind=kind, path=str(folder), files=files, selection=0.2, **more)


def load(folder: Path, *arguments: Any, **more: Any) -> TaskData:
    return load_task(settings(folder, *arguments, **more), seed=0)


def lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def beir(folder: Path, qrels: list[str]) -> Path:
    lines(folder / "corpus.jsonl", [{"_id": "007", "title": "", "text": "bond"}, {"_id": "7", "title": "The seven", "text": ""}])
    lines(folder / "queries.jsonl", [{"_id": "01", "text": "who"}, {"_id": "1", "text": "what"}])
    lines(folder / "qrels" / "test.tsv", qrels)
    return folder


def test_training_texts_are_taken_once_whatever_stands_beside_them(tmp_path: Path) -> None:
    lines(tmp_path / "sts.tsv", ["sentence1\tsentence2\tscore", 'a "quote\tb\t5', "b\tc\t1", "\ta\t0"])
    lines(tmp_path / "more.txt", ["c", "d\x1ce", ""])
    data = load(tmp_path, ["sts.tsv", "more.txt"], {"sts": "sts.tsv"})
    assert {row.text for row in (*data.train, *data.select)} == {'a "quote', "b", "c", "a", "d\x1ce"}
    assert "train: 5 texts; 2 that were there already and 1 blank ones are left out." in data.notes
    assert [(row.text, row.pair, row.label) for row in data.tests["sts"]][:2] == [('a "quote', "b", 5.0), ("b", "c", 1.0)]


def test_sts_without_a_header_and_with_longer_rows(tmp_path: Path) -> None:
    rows = [f"news\tf\t2012\t{i}\t{score}\tone {i}\ttwo {i}" for i, score in enumerate(("2.5", "0", "5.000"))]
    rows[1] += "\tlicence\tsource"
    lines(tmp_path / "sts-test.tsv", rows)
    data = load(tmp_path, str(lines(tmp_path / "t.txt", ["x", "y", "z"])), {"sts": "sts-test.tsv"})
    assert [(row.text, row.label) for row in data.tests["sts"]] == [("one 0", 2.5), ("one 1", 0.0), ("one 2", 5.0)]


@pytest.mark.parametrize("row", [
    {"anchor": "q", "positive": "p", "negative": "n"},
    {"query": "q", "pos": ["p"], "neg": ["n"]},
    {"query": "q", "positive": "p", "negative_1": "n"},
    {"query": "q", "passages": ["p", "n"], "labels": [1, 0]},
])  # fmt: skip
def test_lists_of_every_layout_stay_together(row: dict[str, Any], tmp_path: Path) -> None:
    rows = [{key: [f"{one}{i}" if isinstance(one, str) else one for one in value] if isinstance(value, list) else f"{value}{i}"
             for key, value in row.items()} for i in range(5)]  # fmt: skip
    data = load(tmp_path, str(lines(tmp_path / "lists.jsonl", rows)))
    found = sorted((*data.train, *data.select, *data.tests["test"]), key=lambda row: row.text or "")
    assert [(one.text, one.more) for one in data.train if one.more] and all(one.role == "query" for one in found if one.more)
    first = next(one for one in found if one.text == "q0")
    assert (first.more or ("p0", "n0"), first.label or (1.0, 0.0)) == (("p0", "n0"), (1.0, 0.0))


def test_beir_judgements_are_texts_by_name(tmp_path: Path) -> None:
    folder = beir(tmp_path / "beir", ["query-id\tcorpus-id\tscore", "01\t007\t1", "1\t7\t0", "1\tgone\t2"])
    data = load(tmp_path, str(lines(tmp_path / "t.txt", ["x", "y", "z"])), {"beir": str(folder)})
    queries = [row for row in data.tests["beir"] if row.role == "query"]
    assert [(row.id, row.label) for row in queries] == [("01", (("007", 1.0),)), ("1", (("7", 0.0), ("gone", 2.0)))]
    assert [row.text for row in data.tests["beir"] if row.role == "document"] == ["bond", "The seven"]
    assert any("1 judged documents are not in the corpus" in note for note in data.notes)


@pytest.mark.parametrize(
    "rows", [["01\t007\t1"], ["01 0 007 1"], ["query-id\tcorpus-id\tscore", "01\t007\t1"], ["01\t0\t007\t1"]]
)
def test_judgements_of_three_and_four_columns_with_a_header_or_without(rows: list[str], tmp_path: Path) -> None:
    assert texts.read_qrels(lines(tmp_path / "q.tsv", rows)) == {"01": {"007": 1.0}}


@pytest.mark.parametrize(("rows", "part"), [
    (["01\t007\t1", "01\t007\t2"], "have two grades"),
    (["01\t007\t1", "01\t007\tgood"], "'good' is not a number"),
    (["01\t007\t1", "01\t007"], "2 columns"),
])  # fmt: skip
def test_judgements_that_cannot_be_meant_are_refused(rows: list[str], part: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=part):
        texts.read_qrels(lines(tmp_path / "q.tsv", rows))


def test_queries_without_a_relevant_document_are_left_out_and_said(tmp_path: Path) -> None:
    folder = beir(tmp_path / "beir", ["01\t007\t1", "1\t7\t-1", "5\t7\t1"])
    data = load(tmp_path, str(lines(tmp_path / "t.txt", ["x", "y", "z"])), {"beir": str(folder / "qrels" / "test.tsv")})
    assert [row.id for row in data.tests["beir"] if row.role == "query"] == ["01"]
    assert any("1 judged queries are not in queries.jsonl" in note for note in data.notes)
    assert any("1 queries have no relevant document" in note for note in data.notes)
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "graded.tsv")
    with pytest.raises(RecipeError, match="qrels/ has graded.tsv"):
        load(tmp_path, str(tmp_path / "t.txt"), {"beir": str(folder)})


def test_scores_behind_a_sigmoid_are_not_taken_for_logits(tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "passages": ["p", "n"], "scores": [0.9, 0.2]} for i in range(6)]
    path = str(lines(tmp_path / "lists.jsonl", rows))
    with pytest.raises(DataError, match="as behind a sigmoid"):
        load(tmp_path, path)
    data = load(tmp_path, path, scores="probabilities")
    assert data.train[0].label == pytest.approx((np.log(9), -np.log(4)))  # type: ignore[comparison-overlap]
    lines(tmp_path / "lists.jsonl", [{"query": f"q{i}", "passages": ["p", "n"], "scores": [3.5, -2.0]} for i in range(6)])
    assert load(tmp_path, path).train[0].label == (3.5, -2.0)


def test_a_list_needs_as_many_scores_as_passages(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 passages need as many scores"):
        load(tmp_path, str(lines(tmp_path / "l.jsonl", [{"query": "q", "passages": ["p", "n"], "scores": [1]}] * 3)))


def test_every_text_of_a_list_is_a_row_that_knows_its_list_and_its_copies() -> None:
    rows = [Example("a", "q", more=("p", "n"), label=(1.0, 0.0), role="query"), Example("b", "n", more=("p",), role="query")]
    found, lists, labels = apart(rows)
    assert [(row.text, row.role) for row in found] == [
        ("q", "query"), ("p", "document"), ("n", "document"), ("n", "query"), ("p", "document"),
    ]  # fmt: skip
    assert lists is not None and lists.tolist() == [0, 3, 5]
    expected = [[0, -np.inf, 0], [0, 1, 1], [0, 0, 2], [1, -np.inf, 2], [1, np.nan, 1]]
    np.testing.assert_array_equal(labels, np.array(expected, np.float32))
    pairs, lists, labels = apart(rows, pairs=True)
    assert [(row.text, row.pair) for row in pairs] == [("q", "p"), ("q", "n"), ("n", "p")]
    np.testing.assert_array_equal(labels, np.array([[0, 1, 0], [0, 0, 1], [1, np.nan, 0]], np.float32))


def test_texts_that_are_both_learnt_from_and_reported_on_are_counted(tmp_path: Path) -> None:
    lines(tmp_path / "t.txt", ["one", "two", "three", "four", "five"])
    lines(tmp_path / "sts.tsv", ["sentence1\tsentence2\tscore", "two\tnew\t5", "newer\tfour\t1"])
    data = load(tmp_path, "t.txt", {"sts": "sts.tsv"})
    assert facts_of(data)["overlap"]["sts"] | {"other_label": 0} == {"rows": 4, "in_train": 2, "texts": 2, "other_label": 0}
