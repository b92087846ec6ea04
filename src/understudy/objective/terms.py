"""The vocabulary of what can be learned: every loss of `losses/` as a `Term`.

A term says what it must see of both models, what it is a mean over, and how to compute its sum. `kind` is the task's:
classification, regression, multilabel, tokens or text. Rows are examples; for tokens and text, labelled tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from understudy import losses
from understudy.base.errors import RecipeError
from understudy.base.schedule import Setting, value_at
from understudy.losses.rkd import FEWEST_ROWS
from understudy.losses.rows import FeatureLoss, Reduction
from understudy.models.needs import Needs, Signals
from understudy.objective.projections import FrozenHead, Projection, projection
from understudy.objective.weighted import Seen, Term, Unit

LogitLoss = Literal["auto", "mse", "cross_entropy"]
Pairs = Sequence[tuple[int, int]]  # (student layer, teacher layer), counted from 1

_LOGITS = Needs(logits=True)


def hard_labels(kind: str, *, class_weights: Sequence[float] | None = None) -> Term:
    """The true labels: cross-entropy, squared error or binary cross-entropy, whatever the task asks for.

    class_weights: C numbers, for classification: how much a row of each class counts.
    """
    loss_of = {
        "classification": losses.cross_entropy,
        "regression": losses.squared_error,
        "multilabel": losses.binary_cross_entropy,
        "tokens": losses.token_cross_entropy,
        "text": losses.token_cross_entropy,
    }[kind]

    def loss(seen: Seen) -> Tensor:
        assert seen.labels is not None
        return loss_of(_wide(_get(seen.student, "logits")), seen.labels, reduction="sum")

    def weighted(seen: Seen) -> Tensor:
        assert seen.labels is not None
        logits = _wide(_get(seen.student, "logits"))
        weights = logits.new_tensor(class_weights)
        return losses.cross_entropy(logits, seen.labels, weights=weights, reduction="sum")

    return Term(loss if class_weights is None else weighted, _unit(kind), needs_student=_LOGITS, needs_labels=True)


def soft_labels(
    kind: str,
    *,
    temperature: Setting = 1.0,
    loss_type: LogitLoss = "auto",
    scale_by_t2: bool = True,
    parity: bool = False,
) -> Term:
    """The teacher's softened outputs.

    loss_type: auto (mse for regression, else cross_entropy), cross_entropy or mse. For multi-label tasks cross_entropy
    is taken label by label. On regression cross_entropy has no meaning and is refused; with parity it is AutoMM's
    cross-entropy along the batch.
    """
    if loss_type == "auto":
        loss_type = "mse" if kind == "regression" else "cross_entropy"
    if kind == "regression" and loss_type == "cross_entropy":
        if not parity:
            raise _no_classes("soft_label_loss_type")
        warnings.warn("parity: cross_entropy on a regression task compares the rows of a batch.", stacklevel=2)

        def mixed(seen: Seen) -> Tensor:
            student, teacher = _logits(seen, kind)
            return losses.mixed_cross_entropy(student, teacher, temperature=value_at(temperature, seen.progress))

        return Term(mixed, "batch", needs_student=_LOGITS, needs_teacher=_LOGITS)
    loss_of = {
        "mse": losses.soft_mse,
        "cross_entropy": losses.soft_binary_cross_entropy if kind == "multilabel" else losses.soft_cross_entropy,
    }[loss_type]
    return _softened(loss_of, kind, temperature, scale_by_t2)


def logit_kl(kind: str, *, temperature: Setting = 1.0, over: Reduction = "sum") -> Term:
    """KL divergence from the teacher's softened probabilities, times T^2: soft labels less the teacher's entropy.

    over: "mean" divides it by the number of classes, as PKD's code does. Several labels are averaged in any case.
    """
    if kind == "regression":
        raise _no_classes("logit_kl_weight")
    loss_of = losses.soft_binary_kl if kind == "multilabel" else partial(losses.soft_kl, over=over)
    return _softened(loss_of, kind, temperature, True)


def logit_mse(kind: str) -> Term:
    """Squared difference of the raw logits, averaged over outputs."""
    return _softened(losses.soft_mse, kind, 1.0, True)


def softmax_regression(
    kind: str,
    *,
    head: FrozenHead,
    adaptor: Projection,
    feature: str = "head_input",
    loss_type: LogitLoss = "mse",
    parity: bool = False,
) -> Term:
    """The student's adapted feature, read by the teacher's head, should give the teacher's logits."""
    if loss_type == "auto":
        loss_type = "mse" if kind == "regression" else "cross_entropy"
    if kind == "regression" and loss_type == "cross_entropy":
        raise _no_classes("softmax_regression_loss_type")
    if kind == "text" or (kind == "tokens" and feature != "head_input"):
        raise RecipeError(
            "Softmax regression gives the teacher's head what it reads, one vector per labelled token: it needs "
            "method.feature: head_input, and a head of one Linear (not masked text). Else set its weight to 0."
        )
    distance = "binary_cross_entropy" if kind == "multilabel" and loss_type == "cross_entropy" else loss_type
    mixes = kind == "regression" and parity
    if mixes:
        warnings.warn("parity: softmax regression on a regression task compares all rows with all.", stacklevel=2)

    def loss(seen: Seen) -> Tensor:
        student = seen.modules[adaptor.name](_rows(seen, seen.student, "feature", kind))
        teacher = _rows(seen, _teacher(seen), "logits", kind)
        frozen = cast(FrozenHead, seen.modules["teacher_head"])
        if mixes:
            return losses.mixed_squared_error(frozen(student), teacher)
        return losses.softmax_regression(
            student, teacher, weight=frozen.weight, bias=frozen.bias, kind=distance, reduction="sum"
        )

    return Term(
        loss,
        "batch" if mixes else _unit(kind),
        needs_student=Needs(feature=feature),
        needs_teacher=_LOGITS,
        modules={adaptor.name: adaptor.module, "teacher_head": head},
    )


def output_feature(
    kind: str,
    *,
    adaptor: Projection,
    feature: str = "head_input",
    loss_type: FeatureLoss = "mse",
    over: Reduction = "mean",
) -> Term:
    """The student's adapted feature should be the teacher's."""
    per_token = kind == "tokens" and feature == "head_input"

    def loss(seen: Seen) -> Tensor:
        rows_kind = "tokens" if per_token else "classification"
        student = seen.modules[adaptor.name](_rows(seen, seen.student, "feature", rows_kind))
        teacher = _rows(seen, _teacher(seen), "feature", rows_kind)
        return losses.output_feature(student, teacher, kind=loss_type, over=over, reduction="sum")

    return _on_features(loss, "label" if per_token else "example", feature, adaptor)


def rkd_distance(*, feature: str = "head_input", adaptor: Projection | None = None, parity: bool = False) -> Term:
    """Distances between the examples of a batch, on features as they are, or adapted as AutoMM does it."""
    return _pairwise(losses.rkd_distance, feature, adaptor, parity)


def rkd_angle(*, feature: str = "head_input", adaptor: Projection | None = None, parity: bool = False) -> Term:
    """Angles between the examples of a batch, on features as they are, or adapted as AutoMM does it."""
    return _pairwise(losses.rkd_angle, feature, adaptor, parity)


def hidden_states(
    pairs: Pairs, *, student_width: int, teacher_width: int, seed: int, loss_type: FeatureLoss = "mse"
) -> Term:
    """Hidden states of paired layers, each through a Linear of its own where the widths differ; mean over pairs."""
    maps = _maps("hidden", pairs, student_width, teacher_width, seed)

    def loss(seen: Seen) -> Tensor:
        student = [seen.modules[m.name](seen.student.hidden[s]) for m, (s, _) in zip(maps, pairs, strict=True)]
        teacher = [_teacher(seen).hidden[t] for _, t in pairs]
        return losses.hidden_states(student, teacher, kind=loss_type, reduction="sum")

    ours, theirs = (tuple(sorted(set(side))) for side in zip(*pairs, strict=True))
    return Term(
        loss, "token", Needs(hidden=ours), Needs(hidden=theirs), modules=dict(maps), same_tokens=True
    )  # fmt: skip


def patient(
    pairs: Pairs, *, student_width: int, teacher_width: int, seed: int, normalize: bool = True, over: Reduction = "sum"
) -> Term:
    """Normalised first-token states of paired layers, projected where the widths differ; mean over pairs."""
    maps = _maps("patient", pairs, student_width, teacher_width, seed)

    def loss(seen: Seen) -> Tensor:
        student = [seen.modules[m.name](seen.student.cls[s]) for m, (s, _) in zip(maps, pairs, strict=True)]
        teacher = [_teacher(seen).cls[t] for _, t in pairs]
        return losses.patient(student, teacher, normalize=normalize, over=over, reduction="sum")

    ours, theirs = (tuple(sorted(set(side))) for side in zip(*pairs, strict=True))
    return Term(loss, "example", Needs(cls=ours), Needs(cls=theirs), modules=dict(maps))


def relations(student_layer: int, teacher_layer: int, *, heads: int | None = None) -> Term:
    """MiniLMv2: query-query, key-key and value-value relations of one layer of each side, averaged over the three."""

    def loss(seen: Seen) -> Tensor:
        ours, theirs = seen.student.qkv[student_layer], _teacher(seen).qkv[teacher_layer]
        number = heads or theirs[0].shape[1]
        width = ours[0].shape[1] * ours[0].shape[2]
        if width % number:
            raise RecipeError(
                f"{number} relation heads do not divide the student's width {width}; set method.relation_heads to a "
                "number that divides both models' widths."
            )
        if not seen.student.sizes:  # a process without a row of its own in this step
            return ours[0].sum()
        parts = [
            losses.relations(s, t, seen.student.sizes, heads=number, reduction="sum")
            for s, t in zip(ours, theirs, strict=True)
        ]
        return torch.stack(parts).mean()

    return Term(loss, "example", Needs(qkv=(student_layer,)), Needs(qkv=(teacher_layer,)), same_tokens=True)


def _softened(loss_of: Callable[..., Tensor], kind: str, temperature: Setting, scale_by_t2: bool) -> Term:
    def loss(seen: Seen) -> Tensor:
        student, teacher = _logits(seen, kind)
        now = value_at(temperature, seen.progress)
        return loss_of(student, teacher, temperature=now, scale_by_t2=scale_by_t2, reduction="sum")

    return Term(loss, _unit(kind), needs_student=_LOGITS, needs_teacher=_LOGITS)


def _pairwise(loss_of: Callable[..., Tensor], feature: str, adaptor: Projection | None, parity: bool) -> Term:
    def loss(seen: Seen) -> Tensor:
        student = _wide(_get(seen.student, "feature"))
        if adaptor is not None:
            student = seen.modules[adaptor.name](student)
        return loss_of(student, _wide(_get(_teacher(seen), "feature")), parity=parity)

    return _on_features(loss, "batch", feature, adaptor, fewest_rows=FEWEST_ROWS)


def _on_features(
    loss: Callable[[Seen], Tensor], unit: Unit, feature: str, adaptor: Projection | None, *, fewest_rows: int = 1
) -> Term:
    modules: dict[str, nn.Module] = {} if adaptor is None else {adaptor.name: adaptor.module}
    need = Needs(feature=feature)
    return Term(loss, unit, needs_student=need, needs_teacher=need, modules=modules, fewest_rows=fewest_rows)


def _maps(name: str, pairs: Pairs, student_width: int, teacher_width: int, seed: int) -> list[Projection]:
    return [
        projection(f"{name}_{s}_{t}", "auto", student_width=student_width, teacher_width=teacher_width, seed=seed)
        for s, t in pairs
    ]


def _unit(kind: str) -> Unit:
    return "label" if kind in ("tokens", "text") else "example"


def _teacher(seen: Seen) -> Signals:
    assert seen.teacher is not None  # compute() has checked it
    return seen.teacher


def _get(signals: Signals, name: str) -> Tensor:
    value: Tensor | None = getattr(signals, name)
    if value is None:
        raise ValueError(f"The signals hold no {name}; compute them with the objective's needs.")
    return value


def _rows(seen: Seen, signals: Signals, name: str, kind: str) -> Tensor:
    """A signal with one row per example; for tokens and text, one per labelled token (per token without labels)."""
    value = _wide(_get(signals, name))
    if _unit(kind) == "label" and seen.labels is not None:
        try:
            (value,) = losses.labelled(seen.labels, value)
        except ValueError as error:
            raise RecipeError(
                f"The teacher's {name} do not line up with the student's labelled tokens: {error} With two tokenizers "
                "both must keep the same words; raise task.max_length until neither cuts a text off."
            ) from error
    return value


def _logits(seen: Seen, kind: str) -> tuple[Tensor, Tensor]:
    return _rows(seen, seen.student, "logits", kind), _rows(seen, _teacher(seen), "logits", kind)


def _wide(tensor: Tensor) -> Tensor:
    """At least fp32: losses of half-precision outputs would lose what tells good from better."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _no_classes(key: str) -> RecipeError:
    return RecipeError(
        f"method.{key} compares class probabilities, and a regression task has none; use mse (or weight 0)."
    )
