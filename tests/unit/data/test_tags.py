from __future__ import annotations

import doctest

import pytest

from understudy.base.errors import DataError
from understudy.data import tags
from understudy.data.tags import Sentence, checked_bio, read_conll, to_bio


def test_doctests():
    assert doctest.testmod(tags).failed == 0 and doctest.testmod(tags).attempted > 0


@pytest.mark.parametrize(
    ("given", "bio"),
    [
        ("I-A I-A O I-A", "B-A I-A O B-A"),  # IOB1
        ("I-A B-A I-A", "B-A B-A I-A"),  # IOB1: B- only between two of a type
        ("I-A I-B", "B-A B-B"),
        ("B-A I-A O", "B-A I-A O"),  # BIO stays
        ("O I-A", "O B-A"),  # a stray start
        ("S-A B-A E-A", "B-A B-A I-A"),  # IOBES
        ("U-A B-B I-B L-B", "B-A B-B I-B I-B"),  # BILOU
        ("B-LOC-X I-LOC-X", "B-LOC-X I-LOC-X"),  # a type with a dash in it
    ],
)
def test_every_scheme_becomes_bio(given, bio):
    result, changed = to_bio(given.split())
    assert result == bio.split()
    assert changed == sum(a != b for a, b in zip(given.split(), bio.split(), strict=True))
    assert to_bio(result) == (result, 0)


def test_read_conll(write):
    path = write("a.txt", "-DOCSTART- -X- O\n\nOne NN I-A\n, , O\n\n\n-DOCSTART- -X- O\n\nTwo  NN\tO\n")
    sentences, notes = read_conll(path)
    assert notes == ["a.txt: 2 -DOCSTART- lines are not sentences and are left out."]
    assert sentences == [Sentence(("One", ","), ("I-A", "O"), 3), Sentence(("Two",), ("O",), 9)]


def test_columns_delimiter_and_comments(write):
    path = write("a.conllu", "# a comment of many words\n0\tNew York\tB-A\n1\t#\tO\n")
    sentences, _ = read_conll(path, words=1, tags=2, delimiter="\t")
    assert sentences == [Sentence(("New York", "#"), ("B-A", "O"), 2)]
    with pytest.raises(DataError, match=r"task\.columns\.tags asks for column 3, but there are 3"):
        read_conll(path, words=1, tags=3, delimiter="\t")


def test_a_file_of_words_has_no_tags(write):
    assert read_conll(write("a.txt", "one\ntwo\n\nthree\n"))[0] == [
        Sentence(("one", "two"), (), 1),
        Sentence(("three",), (), 4),
    ]


def test_ragged_and_empty_files(write):
    with pytest.raises(DataError, match="line 2: 1 columns where the lines before have 2"):
        read_conll(write("a.txt", "one O\ntwo\n"))
    with pytest.raises(DataError, match="no sentences"):
        read_conll(write("b.txt", "-DOCSTART- O\n"))


def test_a_tag_without_a_scheme_names_its_line():
    with pytest.raises(DataError, match="file, line 8: the tag 'PER' has no scheme"):
        checked_bio(Sentence(("a", "b"), ("O", "PER"), 7), source="file")
