from __future__ import annotations

import pytest

from understudy.base.errors import DataError
from understudy.data.encode import encode
from understudy.data.rows import read_rows
from understudy.data.types import Task


def test_lines_of_text_and_columns_of_tables(write):
    assert [row.text for row in read_rows(write("a.txt", "one\n\ntwo\n"), kind="classification")] == ["one", "two"]
    assert [row.text for row in read_rows(write("a.csv", "only\none\ntwo\n"), kind="classification")] == ["one", "two"]
    path = write("b.csv", "id,text,other\n1,one,two\n")
    rows = read_rows(path, kind="classification", text="text", pair="other")
    assert [(row.id, row.text, row.pair, row.label) for row in rows] == [("1", "one", "two", None)]
    with pytest.raises(DataError, match="say which holds the text"):
        read_rows(write("c.csv", "a,b\n1,2\n"), kind="classification")
    with pytest.raises(DataError, match="no column 'txt'"):
        read_rows(path, kind="classification", text="txt")


def test_words_even_where_there_are_none(write, toy_tokenizer):
    rows = read_rows(write("a.csv", 'text,x\ngood day,1\n"",1\n'), kind="tokens")
    assert [row.words for row in rows] == [("good", "day"), ("",)]
    encoded = encode(rows, toy_tokenizer, Task("t", "tokens", ("O",)), max_length=16)
    assert encoded.num_words.tolist() == [2, 1] and encoded.labels is None
