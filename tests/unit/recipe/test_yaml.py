"""Strict YAML 1.2: what it reads, what it refuses, and that nothing hostile gets far (reliability R6, R13)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.base.errors import RecipeError
from understudy.base.yaml import MAX_ALIASES, MAX_CHARACTERS, MAX_DEPTH, dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),  # a language, not False
        ("yes", "yes"),
        ("1e-5", 1e-5),
        ("12:30:00", "12:30:00"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
        ("010", 10),
        ("0x1f", 31),
        ("'1'", "1"),
        ("[1, 2.5, x]", [1, 2.5, "x"]),
    ],
)
def test_reads_yaml_1_2(text, value):
    assert parse(f"key: {text}", "r.yaml").data == {"key": value}


def test_knows_the_line_of_every_key():
    document = parse("a: 1\nb:\n  c: 2\n  d: [5,\n    6]\n", "r.yaml")
    assert document.lines[("a",)] == 1
    assert document.lines[("b", "c")] == 3
    assert document.lines[("b", "d", 1)] == 5


def test_keys_are_text_and_values_are_plain():
    """What ruamel keeps of how numbers, anchored truths and texts were written does not leave this room."""
    text = "labels: {0: bad, 2: good, 1.5: fair, true: so, ~: none}\na: &x true\nb: *x\nc: |\n  two\n  lines\nd: 1_000\n"
    data = parse(text, "r.yaml").data
    assert data["labels"] == {"0": "bad", "2": "good", "1.5": "fair", "true": "so", "null": "none"}
    assert data["b"] is True and data["c"] == "two\nlines\n"
    assert [type(data[key]) for key in "abcd"] == [bool, bool, str, int]


def test_a_merged_key_has_the_line_of_its_section():
    document = parse("a: &x {b: 1, d: 3}\nc:\n  <<: *x\n  d: 2\n", "r.yaml")
    assert document.data["c"] == {"b": 1, "d": 2}
    assert document.lines[("c", "b")] == 2 and document.lines[("c", "d")] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "line 2: 'a' is given a second time"),
        ("x: 1\na: !!python/object:os.system ls", "line 2: tags such as"),
        ("a: !!binary aGk=", "tags such as"),
        ("&a [*a]", "aliases blow this file up"),
        ("a: 1\n---\nb: 2", "line 2: a second document"),
        ("%YAML 1.1\n---\na: no", "remove the %YAML line"),
        ("a: [1, 2", "not valid YAML"),
        ("a:\n\t- x", "line 2: not valid YAML"),
        ("? [a]\n: 1", "a key must be plain text"),
        ("a: =", "not accepted"),
        ("a: " + "9" * 5000, "not a usable number"),
        ('a: "\\ud800"', "lone surrogate"),
        ("a: \x01", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_refuses_with_the_line(text, message):
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml")
    assert str(caught.value).startswith("r.yaml:")
    assert message in str(caught.value)


def _alias_bomb() -> str:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 50_000, "- " * 100_000, _alias_bomb(), "a: " + "x" * MAX_CHARACTERS, "[" + "1," * 300_000],
    ids=["brackets", "braces", "dashes", "aliases", "long", "many"],
)
def test_hostile_text_is_refused_at_once(text):
    started = time.process_time()
    with pytest.raises(RecipeError):
        parse(text, "r.yaml")
    assert time.process_time() - started < 5  # the promise is one second; a loaded machine gets some slack


def test_a_few_aliases_and_some_depth_are_fine():
    assert parse("a: &x [1, 2]\nb: *x", "r.yaml").data == {"a": [1, 2], "b": [1, 2]}
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert parse(deep, "r.yaml").data is not None
    many = "a: &x 1\n" + "".join(f"b{i}: *x\n" for i in range(MAX_ALIASES))
    assert parse(many, "r.yaml").data["b0"] == 1


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text):
    try:
        parse(text, "r.yaml")
    except RecipeError as error:
        assert "r.yaml" in str(error)


_scalars = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
_values = st.recursive(
    _scalars | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner),
    max_leaves=8,
)


@given(_values)
@settings(max_examples=200, deadline=None)
def test_what_is_written_reads_back_unchanged(value):
    assert parse(dump({"key": value}), "r.yaml").data == {"key": value}
