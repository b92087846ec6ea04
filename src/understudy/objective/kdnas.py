"""KD-NAS: each student layer predicts two teacher layers at once through a learnable projection (Trivedi et al. 2023).

For student layer i of L_s (from 0), a teacher of L_t layers and width H_t,

    target_i = [H^T_uniform(i), H^T_last(i)]         last(i) = i + L_t - L_s
    L = Σ_{i, tokens, dimensions} (W h^S_i - target_i)² / variance / (L_s · tokens · 2 H_t)

with one W: H_s → 2 H_t for all layers, trained along and kept for full KD. There is no padding here, hence none in the
error. Dividing by the teacher's variance puts L between 0 and about 1: a projection that always says the mean gives 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from understudy.base.errors import RecipeError
from understudy.base.schedule import Setting, extremes
from understudy.models.needs import Needs
from understudy.objective import Objective, Projection, Term, projection
from understudy.objective import terms as learn
from understudy.objective.weighted import Seen

LEAST_VARIANCE = 1e-3
"""Of the mean variance of a layer: a dimension that hardly moves would otherwise decide the whole loss."""


def uniform_layers(mapping: str, num_student: int, num_teacher: int) -> tuple[int, ...]:
    """The evenly spread teacher layer for each student layer, both counted from 0.

    `uniform_last`: ⌊(i + 1) L_t / L_s⌋ - 1, the last of each group (the paper's figure). `uniform_first`: ⌊i L_t / L_s⌋,
    the first of each group (the released code).

    >>> uniform_layers("uniform_last", 3, 6), uniform_layers("uniform_first", 3, 6)
    ((1, 3, 5), (0, 2, 4))
    """
    _deep_enough(num_student, num_teacher)
    if mapping == "uniform_last":
        return tuple((i + 1) * num_teacher // num_student - 1 for i in range(num_student))
    if mapping == "uniform_first":
        return tuple(i * num_teacher // num_student for i in range(num_student))
    raise RecipeError(f"method.mapping: '{mapping}' is not uniform_last or uniform_first.")


def last_layers(num_student: int, num_teacher: int) -> tuple[int, ...]:
    """The topmost teacher layers, one for each student layer, counted from 0."""
    _deep_enough(num_student, num_teacher)
    return tuple(range(num_teacher - num_student, num_teacher))


def _deep_enough(num_student: int, num_teacher: int) -> None:
    # Deviates: the released code wraps around to other layers (main) or repeats the first (refactor) here.
    if not 1 <= num_student <= num_teacher:
        raise RecipeError(
            f"KD-NAS pairs layers, and a student of {num_student} layers is deeper than its teacher of {num_teacher}."
        )


def kdnas_objective(
    settings: Any,
    *,
    task_kind: str,
    student_layers: int,
    teacher_layers: int,
    student_width: int,
    teacher_width: int,
    variances: Mapping[int, Tensor] | None,
    seed: int,
    thorough: bool = False,
) -> Objective:
    """The objective of mini-KD, or with `thorough` of full KD.

    Args:
        task_kind: classification, regression, multilabel, tokens or text.
        variances: teacher layer (hidden state, from 1) -> (H_t,) variance of its states; None with `normalise: none`.
        seed: initialises the projection.

    Raises RecipeError for a student deeper than its teacher, or when nothing is left to learn.
    """
    labelled = task_kind != "text"
    weights: dict[str, Setting] = {
        "hidden": settings.hidden_weight,
        "hard": _default(settings.hard_label_weight, 1.0 if labelled else 0.0),
        "soft": _default(settings.soft_label_weight, 1.0 if labelled else 0.0),
        "relation": settings.relation_weight if thorough else 0.0,
    }
    build = {
        "hidden": lambda: two_layers(
            uniform_layers(settings.mapping, student_layers, teacher_layers),
            last_layers(student_layers, teacher_layers),
            student_width=student_width,
            teacher_width=teacher_width,
            variances=variances if settings.normalise == "variance" else None,
            per_layer=settings.projection == "per_layer",
            seed=seed,
        ),
        "hard": lambda: learn.hard_labels(task_kind),
        "soft": lambda: learn.soft_labels(task_kind, temperature=settings.temperature),
        "relation": lambda: learn.relations(student_layers, teacher_layers, heads=_relation_heads(student_width, teacher_width)),
    }
    return Objective(**{name: weight * build[name]() for name, weight in weights.items() if extremes(weight)[1] > 0})


def two_layers(
    uniform: tuple[int, ...],
    last: tuple[int, ...],
    *,
    student_width: int,
    teacher_width: int,
    variances: Mapping[int, Tensor] | None,
    per_layer: bool,
    seed: int,
) -> Term:
    """The hidden-state term: student layer i against teacher layers uniform[i] and last[i], all counted from 0."""
    number = len(uniform)
    names = [f"kdnas_{i}" if per_layer else "kdnas" for i in range(number)]
    maps: dict[str, Projection] = {
        name: projection(name, "linear", student_width=student_width, teacher_width=2 * teacher_width, seed=seed)
        for name in dict.fromkeys(names)
    }
    modules: dict[str, nn.Module] = {name: one.module for name, one in maps.items()}
    if variances is not None:
        modules["kdnas_scale"] = _Scale({layer: variances[layer + 1] for layer in {*uniform, *last}})

    def loss(seen: Seen) -> Tensor:
        assert seen.teacher is not None
        total: Tensor | None = None
        for i, layers in enumerate(zip(uniform, last, strict=True)):
            guess = seen.modules[names[i]](seen.student.hidden[i + 1].float())
            for half, layer in zip(guess.chunk(2, dim=-1), layers, strict=True):
                scale = None if variances is None else seen.modules["kdnas_scale"](layer).reciprocal()
                part = _WeightedSquares.apply(half, seen.teacher.hidden[layer + 1].float(), scale)
                total = part if total is None else total + part
        assert total is not None
        return total / (number * 2 * teacher_width)

    ours = tuple(range(1, number + 1))
    theirs = tuple(sorted({layer + 1 for layer in (*uniform, *last)}))
    return Term(loss, "token", Needs(hidden=ours), Needs(hidden=theirs), modules=modules, same_tokens=True)


class _WeightedSquares(torch.autograd.Function):
    """Σ weight · (guess - target)², in a third of the passes over memory that it takes autograd: these tensors are the largest
    of a step, and a small student's step costs little else."""

    @staticmethod
    def forward(ctx: Any, guess: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        difference = guess - target
        scaled = difference if weight is None else difference * weight
        ctx.save_for_backward(scaled)
        ctx.dtype = guess.dtype
        return torch.dot(difference.flatten(), scaled.flatten())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (scaled,) = ctx.saved_tensors
        return (scaled * (2 * grads[0])).to(ctx.dtype), None, None


class _Scale(nn.Module):
    """The teacher's variances: move with the objective, are neither trained nor saved."""

    def __init__(self, variances: Mapping[int, Tensor]) -> None:
        super().__init__()
        for layer, variance in variances.items():
            least = LEAST_VARIANCE * variance.mean()
            self.register_buffer(f"layer_{layer}", variance.float().clamp_min(float(least)), persistent=False)

    def forward(self, layer: int) -> Tensor:
        return self.get_buffer(f"layer_{layer}")


def _relation_heads(student_width: int, teacher_width: int) -> int:
    """The largest number up to 12 that divides both widths."""
    return max(n for n in range(1, 13) if student_width % n == 0 and teacher_width % n == 0)


def _default(given: Setting | None, otherwise: float) -> Setting:
    return otherwise if given is None else given
