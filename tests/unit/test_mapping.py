import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.base.errors import RecipeError
from understudy.mapping import OLD_WORDS, RULES, chosen, groups, layer_pairs, understood


@pytest.mark.parametrize(
    ("rule", "number", "of", "expected"),
    [
        ("spread", 6, 12, (0, 2, 4, 7, 9, 11)),  # DistilBERT's choice
        ("spread", 1, 12, (11,)),
        ("spread", 4, 2, (0, 0, 1, 1)),
        ("group_last", 6, 12, (1, 3, 5, 7, 9, 11)),
        ("group_last", 4, 6, (0, 2, 3, 5)),
        ("group_last", 4, 2, (0, 0, 0, 1)),
        ("group_first", 3, 6, (0, 2, 4)),
        ("group_first", 4, 6, (0, 1, 3, 4)),
        ("first", 3, 12, (0, 1, 2)),
        ("last", 3, 12, (9, 10, 11)),
    ],
)
def test_rules(rule, number, of, expected):
    assert chosen(rule, number, of) == expected


@given(st.sampled_from(RULES), st.integers(1, 48), st.integers(1, 48))
def test_every_rule_rises_within_the_model(rule, number, of):
    if rule in ("first", "last") and number > of:
        with pytest.raises(RecipeError, match="spread"):
            chosen(rule, number, of)
        return
    layers = chosen(rule, number, of)
    assert len(layers) == number and list(layers) == sorted(layers)
    assert layers[0] >= 0 and layers[-1] < of
    if rule in ("last", "group_last", "spread"):
        assert layers[-1] == of - 1
    if rule in ("first", "group_first"):
        assert layers[0] == 0
    if number == of:
        assert layers == tuple(range(of))
    if number <= of:
        assert len(set(layers)) == number


@given(st.integers(1, 12), st.integers(1, 4))
def test_groups_begin_and_end_as_the_rules_say(number, size):
    found = groups(number, number * size)
    assert [layer for group in found for layer in group] == list(range(number * size))
    assert tuple(group[0] for group in found) == chosen("group_first", number, number * size)
    assert tuple(group[-1] for group in found) == chosen("group_last", number, number * size)


def test_groups_of_depths_that_do_not_divide_are_refused():
    with pytest.raises(RecipeError, match=r"multiple.*5 and 2.*\[0, 2\]"):
        groups(2, 5)


def test_old_words_mean_rules_and_one_thing_in_each_place():
    for place, words in OLD_WORDS.items():
        for word, rule in words.items():
            assert understood(word, place) == rule
            assert rule in (*RULES, "multiples")
    assert understood([1, 2], "objective") == [1, 2]


@pytest.mark.parametrize(
    ("mapping", "student", "teacher", "expected"),
    [
        ("spread", 3, 12, ((1, 1), (2, 7), (3, 12))),
        ("group_last", 4, 6, ((1, 1), (2, 3), (3, 4), (4, 6))),
        ([2, 2, 9], 3, 12, ((1, 2), (2, 2), (3, 9))),
        ([[0, 0], [2, 5]], 2, 6, ((0, 0), (2, 5))),
        ("top", 3, 12, ((3, 12),)),
        ("even", 4, 12, ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))),
        ("even", 8, 12, ((0, 0), (1, 2), (3, 4), (4, 6), (5, 8), (7, 10), (8, 12))),
        ("sixths", 6, 12, ((0, 0), (1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12))),
    ],
)
def test_pairs(mapping, student, teacher, expected):
    assert layer_pairs(mapping, student, teacher) == expected


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("spraed", "Did you mean 'spread'"),
        ([1, 2], "2 entries for 3"),
        ([1, 2, 13], "13"),
        ([0, 1, 2], "counted from 1"),
        ([1, True, 3], "True"),
        ([1, "2", 3], "'2'"),
        ([[0, 0], [4, 1]], "student layer 4"),
        ("sixths", "below six layers"),
    ],
)
def test_wrong_maps_say_why(mapping, words):
    with pytest.raises(RecipeError, match=words):
        layer_pairs(mapping, 3, 12)


def test_the_released_map_of_unlike_depths_is_refused():
    with pytest.raises(RecipeError, match="9 hidden states .* 7 of a teacher"):
        layer_pairs("sixths", 8, 6)


@pytest.mark.parametrize(
    ("student", "expected"),
    [  # Pea-KD's and PKD's published pairs for a twelve-layer teacher, counted from 1
        (2, ((1, 6),)),
        (3, ((1, 4), (2, 8))),
        (4, ((1, 3), (2, 6), (3, 9))),
        (6, ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))),
        (9, ((3, 4), (6, 8))),
    ],
)
def test_patient_skip_is_the_published_table(student, expected):
    assert layer_pairs(understood("skip", "patient"), student, 12, inner=True) == expected


def test_patient_last_ends_below_the_top():
    assert layer_pairs("last", 6, 12, inner=True) == ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))


def test_patient_pairs_by_hand_and_their_errors():
    assert layer_pairs([3, 9], 3, 12, inner=True) == ((1, 3), (2, 9))
    with pytest.raises(RecipeError, match="spread"):
        layer_pairs("multiples", 5, 12, inner=True)
    with pytest.raises(RecipeError, match="one layer"):
        layer_pairs("spread", 1, 12, inner=True)
