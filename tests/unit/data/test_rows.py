"""Rows to be answered are read by the reader that rows to learn from are read by."""

from __future__ import annotations

import json

import pytest

from understudy.base.errors import DataError
from understudy.data.custom import read_rows
from understudy.data.tasks import columns_of
from understudy.data.types import Task
from understudy.recipe.load import task_from


def read(path, kind="classification", pair=False, **keys):
    keys = {"name": "custom", "kind": kind, "files": {"train": "train.csv"}} | keys
    settings = task_from({key: value for key, value in keys.items() if value is not None}, source="test")
    return read_rows(settings, Task("t", kind, pair=pair), str(path), columns=columns_of(settings))


def texts(*args, **keys):
    return [(row.id, row.text) for row in read(*args, **keys)[0]]


def test_lines_of_text_are_named_by_their_lines_and_blank_ones_said(write):
    path = write("a.txt", "one\n\ntwo\n")
    assert texts(path) == [("1", "one"), ("3", "two")]
    assert read(path)[1] == [f"{path}: 1 blank lines are left out."]


def test_the_layout_of_the_recipe_is_that_of_the_rows(write):
    path = write("a.csv", "id;body;mood\n7;één, twee;x\n9;;y\n".encode("cp1252"))
    keys = {"delimiter": ";", "encoding": "cp1252", "columns": {"text": "body", "id": "id", "label": "mood"}}
    assert texts(path, **keys) == [("7", "één, twee"), ("9", "")]
    with pytest.raises(DataError, match=r"header has 1 .* Is task\.delimiter ';'\?"):
        read(path, encoding="cp1252", columns={"text": "body"})
    assert texts(write("b.csv", "body\nx\n"), columns={"text": "body", "id": "id", "label": "mood"}) == [("1", "x")]


def test_a_column_that_nobody_named_is_the_only_one_or_text(write):
    assert texts(write("a.csv", "only\none\ntwo\n")) == [("1", "one"), ("2", "two")]
    assert texts(write("b.csv", "no,text\n1,one\n")) == [("1", "one")]
    with pytest.raises(DataError, match="say which holds the text"):
        read(write("c.csv", "a,b\n1,2\n"))
    with pytest.raises(DataError, match="looks like several.*--delimiter"):
        read(write("d.csv", "no;body\n1;one\n"))
    with pytest.raises(DataError, match="line 2, column 'text': expected a text, got 3"):
        read(write("e.jsonl", '{"text": "a"}\n{"text": 3}\n'))


def test_pairs_are_never_read_without_their_second_text(write):
    path = write("a.csv", "sentence1,sentence2\none,two\n")
    rows, _ = read(path, pair=True, columns={"text": "sentence1", "pair": "sentence2"})
    assert [(row.text, row.pair) for row in rows] == [("one", "two")]
    with pytest.raises(DataError, match="the model reads pairs; name the column with the second text"):
        read(path, pair=True, columns={"text": "sentence1"})
    with pytest.raises(DataError, match="the model reads pairs. Give a table"):
        read(write("a.txt", "one\n"), pair=True)


def test_official_columns_and_those_of_the_hub(write):
    settings = task_from({"name": "glue/mrpc"}, source="test")
    task = Task("glue/mrpc", "classification", pair=True)
    for head in ("#1 String\t#2 String", "sentence1\tsentence2"):
        rows, _ = read_rows(settings, task, str(write("a.tsv", f"{head}\na \"b\tc\n")), columns=columns_of(settings))
        assert [(row.text, row.pair) for row in rows] == [('a "b', "c")]


def words(*args, **keys):
    return [row.words for row in read(*args, kind="tokens", **keys)[0]]


def test_words_in_lists_in_texts_and_in_columns(write):
    lists = write("a.jsonl", "\n".join(map(json.dumps, [{"w": ["Anna", "sings"]}, {"w": ""}, {"w": "Bo runs"}])))
    columns = {"words": "w", "tags": "t"}
    assert words(lists, columns=columns) == [("Anna", "sings"), (), ("Bo", "runs")]
    with pytest.raises(DataError, match="line 2, column 'w': expected a list of words or tags, got 5"):
        words(write("b.jsonl", '{"w": ["a"]}\n{"w": 5}\n'), columns=columns)
    assert words(write("c.csv", "w\n\"['Anna', 'sings']\"\nBo runs\n"), columns=columns) == [("Anna", "sings"), ("Bo", "runs")]
    assert words(write("d.txt", "Anna sings\n\nBo\n"), columns=columns) == [("Anna", "sings"), ("Bo",)]
    assert words(write("e.conll", "Anna O\nsings O\n\nBo O\n"), columns=columns) == [("Anna", "sings"), ("Bo",)]
    assert words(write("f.txt", "Anna O\nsings O\n\nBo O\n"), files={"train": "x.txt"}) == [("Anna", "sings"), ("Bo",)]
    assert words(write("g.txt", "Anna sings on\nBo runs"), files={"train": "x.txt"}) == [("Anna", "sings", "on"), ("Bo", "runs")]


def test_a_file_without_a_header_is_read_as_the_tasks_own_are(write):
    """CoLA's train.tsv and dev.tsv name no columns; a table with names is read by them."""
    settings = task_from({"name": "glue/cola"}, source="test")

    def read_cola(path):
        return read_rows(settings, Task("glue/cola", "classification"), str(path), columns=columns_of(settings))

    rows, notes = read_cola(write("dev.tsv", "gj04\t1\t\tThe sailors rode the breeze.\nbc01\t0\t*\tHe the went.\n"))
    assert [(row.id, row.text) for row in rows] == [("1", "The sailors rode the breeze."), ("2", "He the went.")]
    assert "no header" in notes[0] and "source, label, mark, sentence" in notes[0]
    rows, notes = read_cola(write("test.tsv", "index\tsentence\n0\tBill whistled past the house.\n"))
    assert [row.text for row in rows] == ["Bill whistled past the house."] and not notes
