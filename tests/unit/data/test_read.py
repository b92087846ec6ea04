from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.base.errors import DataError
from understudy.data.read import (
    find_file,
    read_csv,
    read_json,
    read_lines,
    read_parquet,
    read_table,
    read_text,
    read_tsv,
)
from understudy.data.tags import read_conll


def test_tsv_keeps_quotes_and_control_characters(write):
    path = write("a.tsv", 'text\tlabel\n"she said\t1\nfile \x1c sep\x08\u2028\r mid\t0\n')
    table = read_tsv(path)
    assert table.columns == ("text", "label")
    assert table.rows == [('"she said', "1"), ("file \x1c sep\x08\u2028\r mid", "0")]
    assert table.lines == [2, 3]


def test_byte_order_mark_and_windows_line_ends(write):
    table = read_tsv(write("a.tsv", codecs.BOM_UTF8 + b"text\tlabel\r\ngood\t1\r\nbad\t0"))
    assert table.columns == ("text", "label")
    assert table.rows == [("good", "1"), ("bad", "0")]


def test_tsv_without_header_and_without_last_line_end(write):
    table = read_tsv(write("a.tsv", "x\ty\nz\tw"), columns=("a", "b"))
    assert table.rows == [("x", "y"), ("z", "w")] and table.lines == [1, 2]


def test_ragged_rows(write):
    path = write("a.tsv", "a\tb\n1\t2\n3\n4\t5\t6\n")
    with pytest.raises(DataError, match=r"a\.tsv, line 3: 1 cells where the header has 2 \(a, b\)\. Correct that row"):
        read_tsv(path)
    assert (kept := read_tsv(path, ragged="drop")).rows == [("1", "2")] and kept.dropped == 2
    with pytest.raises(DataError, match="line 3"):
        read_tsv(path, ragged="longer")
    longer = read_tsv(write("b.tsv", "1\t2\n4\t5\t6\n"), columns=("a", "b"), ragged="longer")
    assert longer.column("b") == ["2", "5"]


def test_csv_quotes_line_breaks_and_line_numbers(write):
    path = write("a.csv", 'text,label\n"one, two\nthree",x\n\n"say ""hi""",y\n')
    table = read_csv(path)
    assert table.rows == [("one, two\nthree", "x"), ('say "hi"', "y")]
    assert table.lines == [2, 5]
    with pytest.raises(DataError, match=r"line 3: 3 cells"):
        read_csv(write("b.csv", "text,label\na,b\nc,d,e\n"))


def test_an_open_quote_is_an_error_and_does_not_swallow_rows(write):
    with pytest.raises(DataError, match=r"row starting at line 3: .*[Cc]lose or double the quotes"):
        read_csv(write("a.csv", 'text,label\ngood,1\n"open,1\nbad,0\n'))


def test_long_cells(write):
    text = "word " * 300_000
    assert read_csv(write("a.csv", f"text,label\n{text},1\n")).rows == [(text, "1")]


def test_jsonl(write):
    table = read_json(write("a.jsonl", '{"t": "a", "l": 1}\n\n{"t": "b", "x": [1]}\n'))
    assert table.columns == ("t", "l", "x") and table.lines == [1, 3]
    assert table.rows == [("a", 1, None), ("b", None, [1])]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"t": "a"', r"line 2, character \d+: not valid JSON"),
        ("[1, 2]", "line 2: expected an object .* got a list"),
        ("3", "line 2: expected an object .* got a number"),
        ('{"n": ' + "9" * 5000 + "}", "line 2: JSON that cannot be read"),
        ('{"n": ' + "[" * 100_000, "line 2"),
        ('{"t": "\\ud800"}', "line 2: half a surrogate pair"),
    ],
)
def test_bad_jsonl(write, line, says):
    with pytest.raises(DataError, match=says):
        read_json(write("a.jsonl", '{"t": "fine"}\n' + line + "\n"))


def test_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"t": ["a", "b"], "l": [0, None]}), path)
    table = read_table(path)
    assert table.columns == ("t", "l") and table.rows == [("a", 0), ("b", None)] and list(table.lines) == [1, 2]
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_parquet(path)
    with pytest.raises(DataError, match=r"Looked for missing\.parquet; found a\.parquet"):
        read_parquet(tmp_path / "missing.parquet")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"text\tlabel\n", "no rows below its header"),
        ("text\tlabel\ncaf\xe9\t1\n".encode("latin-1"), r"line 2: byte 14 is not valid utf-8.*task\.encoding.*cp1252"),
        ("text\tlabel\n".encode("utf-16"), r"line 1: byte 0 is not valid utf-8.*perhaps utf-16"),
        (b"text\tlabel\ngo\x00od\t1\n", "line 2: character 13 is NUL"),
    ],
)
def test_files_that_cannot_be_read_say_where_and_what_to_do(write, content, says):
    with pytest.raises(DataError, match=says):
        read_tsv(write("a.tsv", content))


def test_a_name_that_occurs_twice_matters_where_it_is_asked_for(write):
    table = read_tsv(write("a.tsv", "text\ttext\tlabel\na\tb\tc\n"))
    assert table.column("label") == ["c"]
    with pytest.raises(DataError, match="line 1: the header names column 'text' twice"):
        table.column("text")


def test_encodings(write):
    path = write("a.tsv", "text\tlabel\ncafé\t1\n".encode("cp1252"))
    assert read_tsv(path, encoding="cp1252").rows == [("café", "1")]
    assert read_text(write("b.txt", "née".encode("utf-16")), "utf-16") == "née"
    with pytest.raises(DataError, match="no encoding is called 'utf-9'"):
        read_text(path, "utf-9")


def test_missing_files_list_what_was_looked_for_and_found(write, tmp_path):
    write("set/dev.tsv", "x")
    with pytest.raises(DataError, match=r"the data is missing. Looked for train\.tsv or t\.tsv; found dev\.tsv\."):
        find_file(tmp_path / "set", ["train.tsv", "t.tsv"], what="the data")
    with pytest.raises(DataError, match="does not exist"):
        find_file(tmp_path / "nowhere", ["train.tsv"], what="the data")
    with pytest.raises(DataError, match="is a file; give the folder"):
        find_file(tmp_path / "set" / "dev.tsv", ["train.tsv"], what="the data")
    with pytest.raises(DataError, match="is a folder"):
        read_text(tmp_path / "set")
    with pytest.raises(DataError, match=r"no reader for '\.xls'"):
        read_table(tmp_path / "a.xls")


def test_missing_column_names_the_nearest(write):
    table = read_csv(write("a.csv", "sentence,label\na,b\n"))
    with pytest.raises(
        DataError, match=r"no column 'sentense' \(asked for by task\.columns\.text\)\. Did you mean 'sentence'\?"
    ):
        table.column("sentense", key="task.columns.text")


def test_lines_end_at_line_feeds_only(write):
    assert read_lines(write("a.txt", "one\x85\x0b\x1ctwo\u2028three\nfour\n")) == [
        "one\x85\x0b\x1ctwo\u2028three",
        "four",
    ]


_ANY = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.lists(st.sampled_from(["a", "1", '"', "O", "B-X", ""]), max_size=4).map("\t".join), max_size=6).map(
        lambda lines: "\n".join(lines).encode()
    ),
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(
        lambda value: json.dumps(value).encode()
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_ANY)
def test_any_bytes_are_read_or_refused_in_a_sentence(write, content):
    for name in ("a.tsv", "a.csv", "a.jsonl", "a.parquet"):
        path = write(name, content)
        try:
            table = read_table(path)
        except DataError as error:
            assert name in str(error)
        else:
            assert all(len(row) == len(table.columns) for row in table.rows)
    try:
        sentences, _ = read_conll(write("a.conll", content))
    except DataError as error:
        assert "a.conll" in str(error)
    else:
        assert all(len(s.tags) in (0, len(s.words)) for s in sentences)
