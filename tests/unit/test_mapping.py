import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.base.errors import RecipeError
from understudy.mapping import STRATEGIES, inner_pairs, layer_map


@pytest.mark.parametrize(
    ("mapping", "student", "teacher", "expected"),
    [
        ("uniform", 6, 12, (1, 3, 5, 8, 10, 12)),  # layers 0 2 4 7 9 11 from 0: DistilBERT's choice
        ("uniform", 1, 12, (12,)),
        ("uniform", 4, 2, (1, 1, 2, 2)),
        ("skip", 6, 12, (2, 4, 6, 8, 10, 12)),
        ("skip", 4, 6, (1, 3, 4, 6)),
        ("skip", 4, 2, (1, 1, 1, 2)),
        ("first", 3, 12, (1, 2, 3)),
        ("last", 3, 12, (10, 11, 12)),
        ([2, 2, 9], 3, 12, (2, 2, 9)),
    ],
)
def test_layer_maps(mapping, student, teacher, expected):
    assert layer_map(mapping, student, teacher) == expected


@given(st.sampled_from(STRATEGIES), st.integers(1, 48), st.integers(1, 48))
def test_every_map_rises_within_the_teacher(mapping, student, teacher):
    if mapping in ("first", "last") and student > teacher:
        with pytest.raises(RecipeError, match="uniform"):
            layer_map(mapping, student, teacher)
        return
    layers = layer_map(mapping, student, teacher)
    assert len(layers) == student and list(layers) == sorted(layers)
    assert layers[0] >= 1 and layers[-1] <= teacher
    if mapping != "first":
        assert layers[-1] == teacher
    if student == teacher:
        assert layers == tuple(range(1, student + 1))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("unifrom", "Did you mean 'uniform'"),
        ([1, 2], "2 entries for 3"),
        ([1, 2, 13], "13"),
        ([0, 1, 2], "counted from 1"),
        ([1, True, 3], "True"),
        ([1, "2", 3], "'2'"),
    ],
)
def test_wrong_maps_say_why(mapping, words):
    with pytest.raises(RecipeError, match=words):
        layer_map(mapping, 3, 12)


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
    assert inner_pairs("skip", student, 12) == expected


def test_patient_last_ends_below_the_top():
    assert inner_pairs("last", 6, 12) == ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))


def test_patient_pairs_by_hand_and_their_errors():
    assert inner_pairs([3, 9], 3, 12) == ((1, 3), (2, 9))
    with pytest.raises(RecipeError, match="uniform"):
        inner_pairs("skip", 5, 12)
    with pytest.raises(RecipeError, match="one layer"):
        inner_pairs("uniform", 1, 12)
