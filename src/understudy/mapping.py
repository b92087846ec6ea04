"""Which teacher layers teach which student layers. No torch: layers are counted from 1, as hidden states are.

The output of layer i is hidden state i (0 would be the embeddings), so the last layer of a twelve-layer model is 12.
"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean

STRATEGIES = ("uniform", "first", "last", "skip")

Mapping = str | Sequence[int]


def layer_map(mapping: Mapping, num_student: int, num_teacher: int) -> tuple[int, ...]:
    """The teacher layer (1-based) for each student layer, in order of the student's layers.

    * `uniform`: evenly spread from the first teacher layer to the last, rounded half up.
    * `skip`: every k-th, k = teacher depth / student depth: student layer i learns from floor(i k), the last from the
      last (Sun et al. 2019, "PKD-skip"; Distiller's `skip`).
    * `first`, `last`: the lowest or the topmost teacher layers in a row; the teacher must be at least as deep.
    * a list: one teacher layer per student layer.

    Raises `RecipeError` for an unknown name, a list of the wrong length, and layers that do not exist.

    >>> layer_map("uniform", 6, 12), layer_map("skip", 3, 12), layer_map("last", 2, 12)
    ((1, 3, 5, 8, 10, 12), (4, 8, 12), (11, 12))
    """
    if num_student < 1 or num_teacher < 1:
        raise RecipeError(f"A layer mapping needs layers on both sides; student {num_student}, teacher {num_teacher}.")
    if not isinstance(mapping, str):
        return _explicit(mapping, num_student, num_teacher)
    students = range(1, num_student + 1)
    if mapping == "uniform":
        if num_student == 1:
            return (num_teacher,)  # a single layer stands for the whole teacher, so it learns from the last
        steps = num_student - 1
        return tuple(1 + (2 * (i - 1) * (num_teacher - 1) + steps) // (2 * steps) for i in students)
    if mapping == "skip":
        return tuple(max(1, i * num_teacher // num_student) for i in students)
    if mapping in ("first", "last"):
        if num_student > num_teacher:
            raise RecipeError(
                f"The layer mapping '{mapping}' needs a teacher at least as deep as the student, but the student has "
                f"{num_student} layers and the teacher {num_teacher}; use 'uniform' or a list."
            )
        offset = 0 if mapping == "first" else num_teacher - num_student
        return tuple(offset + i for i in students)
    raise RecipeError(
        f"Unknown layer mapping '{mapping}'; use one of {', '.join(STRATEGIES)} or a list of teacher layers."
        + did_you_mean(mapping, STRATEGIES)
    )


def inner_pairs(mapping: Mapping, num_student: int, num_teacher: int) -> tuple[tuple[int, int], ...]:
    """Pairs (student layer, teacher layer) without the student's last layer, which learns through the head.

    This is the pairing of Patient Knowledge Distillation (Sun et al. 2019, section 3.2). Its `skip` keeps a pair only
    where i k is a whole number, and its `last` ends one below the teacher's last layer; the other mappings are those of
    `layer_map` without the last pair. A list may name one teacher layer per inner student layer.

    >>> inner_pairs("skip", 6, 12)
    ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))
    """
    if num_student < 2:
        raise RecipeError(
            "Patient distillation matches the layers below the student's last one, and a student of one layer has "
            "none; leave the layers out (peakd: method.train_type: kd; automm: method.patient_weight: 0)."
        )
    inner = range(1, num_student)
    if not isinstance(mapping, str):
        return tuple(zip(inner, _explicit(mapping, num_student - 1, num_teacher), strict=True))
    if mapping == "skip":
        pairs = tuple(
            (i, i * num_teacher // num_student)
            for i in inner
            if i * num_teacher % num_student == 0 and i * num_teacher >= num_student
        )
        if not pairs:
            raise RecipeError(
                f"'skip' pairs no layer of a student with {num_student} layers with a teacher with {num_teacher}: no "
                "multiple of their ratio is a whole number. Use 'uniform'."
            )
        return pairs
    return tuple(zip(inner, layer_map(mapping, num_student, num_teacher)[:-1], strict=True))


def _explicit(layers: Sequence[int], num_student: int, num_teacher: int) -> tuple[int, ...]:
    if len(layers) != num_student:
        raise RecipeError(
            f"The layer mapping {list(layers)} has {len(layers)} entries for {num_student} student layers; name one "
            "teacher layer for each."
        )
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= num_teacher:
            raise RecipeError(
                f"The layer mapping {list(layers)} names teacher layer {layer!r}; layers are counted from 1 to "
                f"{num_teacher}."
            )
    return tuple(layers)
