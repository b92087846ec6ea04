"""The losses of MiniDisc's released model types, as named objectives of terms that weigh the same.

    ft      CE(labels)                          kd      [softCE + CE] / 2
    sparse  [MSE(h_s, h_t) + softCE] / 2        pkd     [MSE(h_s/|h_s|, h_t/|h_t|) + softCE + CE] / 3

softCE = -sum softmax(z_t/T) log softmax(z_s/T) · T^2, T = 1 as released; for regression, squared errors of the logits. h of
`sparse` are hidden states of all tokens, the embeddings among them; h of `pkd` the first token's of the last layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from understudy.base.errors import RecipeError
from understudy.objective import Objective, Term
from understudy.objective import terms as learn
from understudy.recipe.staged import Staged

WEIGHTS = {
    "ft": {"hard": 1.0},
    "kd": {"soft": 1 / 2, "hard": 1 / 2},
    "pkd": {"patient": 1 / 3, "soft": 1 / 3, "hard": 1 / 3},
    "sparse": {"hidden": 1 / 2, "soft": 1 / 2},
}
MOST_LAYERS = 6


def minidisc_objective(
    settings: Staged,
    *,
    task_kind: str,
    student_layers: int,
    teacher_layers: int,
    student_width: int,
    teacher_width: int,
    seed: int,
) -> Objective:
    """The objective of one stage.

    Args:
        task_kind: classification, regression, multilabel, tokens or text.
        student_layers, teacher_layers: depths; student_width, teacher_width: widths of the hidden states.
        seed: initialises projections, where the widths differ.

    Raises RecipeError for a layer map that does not fit, or with parity for depths at which the original crashes.
    """
    given = {
        "hidden": settings.hidden_weight, "soft": settings.soft_label_weight, "hard": settings.hard_label_weight
    }  # fmt: skip
    weights = WEIGHTS[settings.objective] | {name: weight for name, weight in given.items() if weight is not None}
    widths: dict[str, Any] = {"student_width": student_width, "teacher_width": teacher_width, "seed": seed}
    build: dict[str, Callable[[], Term]] = {
        "hidden": lambda: learn.hidden_states(hidden_pairs(settings, student_layers, teacher_layers), **widths),
        "patient": lambda: learn.patient([(student_layers, teacher_layers)], over="mean", **widths),
        "soft": lambda: learn.soft_labels(task_kind, temperature=settings.temperature),
        "hard": lambda: learn.hard_labels(task_kind),
    }
    return Objective(**{name: weight * build[name]() for name, weight in weights.items() if weight > 0})


def hidden_pairs(settings: Staged, student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """(student layer, teacher layer) of the hidden states that are compared; 0 are the embeddings."""
    if settings.hidden_map == "even":
        return _released(student_layers, teacher_layers) if settings.parity else even_pairs(student_layers, teacher_layers)
    for ours, theirs in settings.hidden_map:
        if ours > student_layers or theirs > teacher_layers:
            raise RecipeError(
                f"method.hidden_map pairs layer {ours} of the student with layer {theirs} of the teacher, but they have "
                f"{student_layers} and {teacher_layers} layers."
            )
    return list(settings.hidden_map)


def even_pairs(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """The embeddings and n = min(6, both depths) layers: the i-th is layer i L / n of a model with L, half rounded up.

    For depths 6, 12, 18 and 24 these are the layers 0, k, 2k, … of the original; here any pair of depths works.

    >>> even_pairs(4, 12), even_pairs(8, 12)[1:4]
    ([(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)], [(1, 2), (3, 4), (4, 6)])
    """
    n = min(MOST_LAYERS, student_layers, teacher_layers)
    ours, theirs = ([(2 * i * depth + n) // (2 * n) for i in range(n + 1)] for depth in (student_layers, teacher_layers))
    return list(zip(ours, theirs, strict=True))


def _released(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Layers 0, k, 2k, … of each side, k = int(depth / 6)."""
    if min(student_layers, teacher_layers) < MOST_LAYERS:
        raise RecipeError(
            f"parity: the original's layer map is not defined below six layers (student {student_layers}, teacher "
            f"{teacher_layers}), where its code crashes; set method.hidden_map, or method.parity to false."
        )
    ours, theirs = (range(0, depth + 1, depth // MOST_LAYERS) for depth in (student_layers, teacher_layers))
    if len(ours) != len(theirs):
        raise RecipeError(
            f"parity: the original compares {len(ours)} hidden states of a student of {student_layers} layers with "
            f"{len(theirs)} of a teacher of {teacher_layers}, and crashes; set method.hidden_map, or method.parity to false."
        )
    return list(zip(ours, theirs, strict=True))
