"""Which layers: one vocabulary for every place that chooses some layers of a model, or pairs those of two.

A rule chooses n of N layers (here 3 of 12), counted from 0. Hidden states count from 1, for 0 are the embeddings.

    first         the lowest n in a row                         0 1 2
    last          the topmost n in a row                        9 10 11
    group_first   the first of each of n equal groups           0 4 8       floor(j N / n)
    group_last    the last of each of n equal groups            3 7 11      floor((j + 1) N / n) - 1
    spread        evenly from the first to the last, both in    0 6 11      rounded half up

Papers and released scripts call these by other names, and by the same name for different ones: `skip` is `group_last` in
Distiller and `group_first` in mKD. `OLD_WORDS` has their words for each place where they are understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean

RULES = ("first", "last", "group_first", "group_last", "spread")
OLD_WORDS: dict[str, dict[str, str]] = {
    "student": {"uniform": "group_first", "skip": "group_last"},
    "objective": {"uniform": "spread", "skip": "group_last"},  # `skip`: Distiller
    "patient": {"uniform": "spread", "skip": "multiples"},  # PKD-skip, Sun et al. 2019; Pea-KD
    "transfer": {"skip": "group_first", "last": "group_last"},  # mKD, Klimaszewski et al. 2024
    "kdnas": {"uniform_last": "group_last", "uniform_first": "group_first"},  # KD-NAS' figure, and its released code
}
"""Where a word is understood -> the word -> the rule it means there."""
MOST_EVEN = 6
"""Layers that MiniDisc compares at most."""

Mapping = str | Sequence[int] | Sequence[Sequence[int]]


def understood(word: Any, place: str) -> Any:
    """The rule that an old word means in this place; anything else passes unchanged.

    >>> understood("skip", "objective"), understood("skip", "transfer"), understood("first", "student")
    ('group_last', 'group_first', 'first')
    """
    return OLD_WORDS[place].get(word, word) if isinstance(word, str) else word


def chosen(rule: str, number: int, of: int) -> tuple[int, ...]:
    """`number` of the layers 0 to `of` - 1 by a rule, rising; `spread` and the groups repeat layers where there are too few.

    Raises `RecipeError` for an unknown rule, and for `first` and `last` where there are too few layers.

    >>> [chosen(rule, 3, 12) for rule in RULES]
    [(0, 1, 2), (9, 10, 11), (0, 4, 8), (3, 7, 11), (0, 6, 11)]
    """
    if number < 1 or of < 1:
        raise RecipeError(f"Layers are chosen of models that have some; {number} of {of} cannot be.")
    if rule not in RULES:
        raise RecipeError(
            f"Unknown rule for layers '{rule}'; use one of {', '.join(RULES)}, or a list.{did_you_mean(rule, RULES)}"
        )
    places = range(number)
    if rule == "spread":
        if number == 1:
            return (of - 1,)  # a single layer stands for the whole model, so it is the last
        steps = number - 1
        return tuple((2 * j * (of - 1) + steps) // (2 * steps) for j in places)
    if rule == "group_first":
        return tuple(j * of // number for j in places)
    if rule == "group_last":
        return tuple(max(0, (j + 1) * of // number - 1) for j in places)
    if number > of:
        raise RecipeError(
            f"'{rule}' takes layers in a row, and {number} layers (of the student) are more than {of} (of the teacher); use "
            "spread, or a list."
        )
    return tuple(range(number)) if rule == "first" else tuple(range(of - number, of))


def groups(number: int, of: int) -> tuple[tuple[int, ...], ...]:
    """The layers 0 to `of` - 1 in `number` equal groups. Raises `RecipeError` where `of` is no multiple of `number`.

    >>> groups(2, 4)
    ((0, 1), (2, 3))
    """
    size, rest = divmod(of, number)
    if rest or not size:
        raise RecipeError(
            f"Groups of layers need a teacher depth that is a multiple of the student's, but they are {of} and {number}. List "
            f"the teacher layer for each student layer, as in {list(chosen('group_first', number, of))}."
        )
    return tuple(tuple(range(j * size, (j + 1) * size)) for j in range(number))


def layer_pairs(mapping: Mapping, num_student: int, num_teacher: int, *, inner: bool = False) -> tuple[tuple[int, int], ...]:
    """(student layer, teacher layer) of the hidden states that are compared, counted from 1; 0 would be the embeddings.

    * a rule: chooses the teacher's layer for each student layer.
    * `multiples`: (i, i k), k = teacher depth / student depth, where i k is a whole number (PKD-skip).
    * `top`: the last layers alone.
    * `even`: the embeddings and min(6, both depths) layers, evenly spread over *both* depths (MiniDisc).
    * `sixths`: layers 0, k, 2k, … of each side, k = floor(depth / 6), as MiniDisc's released code does it.
    * a list: a teacher layer for each student layer, or pairs [student, teacher].

    inner: leave out the student's last layer, which learns through the head (Sun et al. 2019, section 3.2); a list then names
    one layer less. Raises `RecipeError` for a list of the wrong length and layers that do not exist.

    >>> layer_pairs("spread", 3, 12), layer_pairs("multiples", 4, 12, inner=True), layer_pairs("even", 2, 12)
    (((1, 1), (2, 7), (3, 12)), ((1, 3), (2, 6), (3, 9)), ((0, 0), (1, 6), (2, 12)))
    """
    if mapping == "top":
        return ((num_student, num_teacher),)
    if mapping in ("even", "sixths"):
        return (_even if mapping == "even" else _sixths)(num_student, num_teacher)
    if inner and num_student < 2:
        raise RecipeError(
            "The layers below the student's last one are matched, and a student of one layer has none; leave this term out."
        )
    number = num_student - inner
    if mapping == "multiples":
        pairs = [(i, i * num_teacher // num_student) for i in range(1, number + 1) if i * num_teacher % num_student == 0]
        if not pairs:
            raise RecipeError(
                f"'multiples' (skip) pairs no layer of a student with {num_student} layers with a teacher with {num_teacher}: no "
                "multiple of their ratio is a whole number. Use spread."
            )
        return tuple(pairs)
    if isinstance(mapping, str):
        rising = chosen(mapping, num_student, num_teacher)[:number]
        return tuple((i, layer + 1) for i, layer in enumerate(rising, start=1))
    pairs: list[Any] = [entry if isinstance(entry, list | tuple) else (i, entry) for i, entry in enumerate(mapping, start=1)]
    if len(pairs) != number and any(not isinstance(entry, list | tuple) for entry in mapping):
        raise RecipeError(
            f"The layer mapping {list(mapping)} has {len(pairs)} entries for {number} student layers; name one teacher layer "
            "for each, or give pairs of [student layer, teacher layer]."
        )
    lowest = 0 if mapping and isinstance(mapping[0], list | tuple) else 1
    for ours, theirs in pairs:
        for side, layer, depth in (("student", ours, num_student), ("teacher", theirs, num_teacher)):
            if isinstance(layer, bool) or not isinstance(layer, int) or not lowest <= layer <= depth:
                raise RecipeError(
                    f"The layer mapping {list(mapping)} names {side} layer {layer!r}; its layers are counted from {lowest} to "
                    f"{depth}."
                )
    return tuple((ours, theirs) for ours, theirs in pairs)


def _even(num_student: int, num_teacher: int) -> tuple[tuple[int, int], ...]:
    """The i-th of n layers is layer i L / n of a model with L, half rounded up; for depths 6, 12, 18 and 24 as released."""
    n = min(MOST_EVEN, num_student, num_teacher)
    ours, theirs = ([(2 * i * depth + n) // (2 * n) for i in range(n + 1)] for depth in (num_student, num_teacher))
    return tuple(zip(ours, theirs, strict=True))


def _sixths(num_student: int, num_teacher: int) -> tuple[tuple[int, int], ...]:
    if min(num_student, num_teacher) < MOST_EVEN:
        raise RecipeError(
            f"'sixths', the layer map of MiniDisc's released code, is not defined below six layers (student {num_student}, "
            f"teacher {num_teacher}), where that code crashes; use even, or pairs."
        )
    ours, theirs = (range(0, depth + 1, depth // MOST_EVEN) for depth in (num_student, num_teacher))
    if len(ours) != len(theirs):
        raise RecipeError(
            f"'sixths', the layer map of MiniDisc's released code, compares {len(ours)} hidden states of a student of "
            f"{num_student} layers with {len(theirs)} of a teacher of {num_teacher}, and crashes; use even, or pairs."
        )
    return tuple(zip(ours, theirs, strict=True))
