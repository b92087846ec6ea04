"""What can be learned: every loss of `losses/` as a `Term`. Recipes name them by `vocabulary.py`.

A term says what it must see of both models, what it is a mean over, and how to compute its sum. `kind` is the task's:
classification, regression, multilabel, tokens or text. Rows are examples; for tokens and text, labelled tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from understudy import losses
from understudy.base.errors import RecipeError
from understudy.base.schedule import Setting, extremes, value_at
from understudy.data.encode import has_label
from understudy.kinds import kind as kind_named
from understudy.losses.chunked import Soft
from understudy.losses.divergences import Divergence
from understudy.losses.rkd import FEWEST_ROWS
from understudy.losses.rows import FeatureLoss, Reduction
from understudy.losses.vectors import FEWEST_TEXTS, VectorLoss
from understudy.models.needs import Needs, Signals
from understudy.objective.projections import FrozenHead, Projection, projection
from understudy.objective.weighted import OverHead, Seen, Term, Unit

LogitLoss = Literal["auto", "mse", "cross_entropy"]
Pairs = Sequence[tuple[int, int]]  # (student layer, teacher layer), counted from 1

_LOGITS, _HEAD = Needs(logits=True), Needs(head=True)
LEAST_VARIANCE = 1e-3
"""Of the mean variance of a layer: a dimension that hardly moves would otherwise decide the whole loss."""


def hard_labels(kind: str, *, class_weights: Sequence[float] | None = None, focal: float = 0.0) -> Term:
    """The true labels: cross-entropy, squared error or binary cross-entropy, whatever the task asks for.

    class_weights: C numbers, for kinds with classes: how much a row of each class counts (see `Kind.loss`); none: all alike.
    focal: gamma of the focal loss, for classification: rows that are right already count less.
    """
    task = kind_named(kind)
    if task.causal:
        return Term(OverHead(), "label", needs_student=_HEAD, needs_labels=True)
    if task.spans:
        return _of_spans(losses.span_cross_entropy, _LOGITS, Needs())

    def loss(seen: Seen) -> Tensor:
        assert seen.labels is not None
        logits, labels = _wide(_get(seen.student, "logits")), seen.labels
        if not task.per_token and not bool((known := has_label(labels)).all()):  # the others are learnt by other terms
            logits, labels = logits[known], labels[known]
        weights = {"weights": logits.new_tensor(class_weights)} if class_weights else {}
        if focal:
            return losses.focal(logits, labels, gamma=focal, reduction="sum", **weights)
        return task.loss(logits, labels, reduction="sum", **weights)

    return Term(loss, "label", needs_student=_LOGITS, needs_labels=True)


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
    task = kind_named(kind)
    if task.spans:
        return _of_spans(losses.span_kl, _LOGITS, _LOGITS, temperature=temperature, scale_by_t2=scale_by_t2)
    if loss_type == "auto":
        loss_type = "mse" if task.distribution is None else "cross_entropy"
    if task.distribution is None and loss_type == "cross_entropy":
        if not parity:
            raise _no_classes("loss: cross_entropy")
        warnings.warn("parity: cross_entropy on a regression task compares the rows of a batch.", stacklevel=2)

        def mixed(seen: Seen) -> Tensor:
            student, teacher = _logits(seen, task.unit)
            return losses.mixed_cross_entropy(student, teacher, temperature=value_at(temperature, seen.progress))

        return Term(mixed, "batch", needs_student=_LOGITS, needs_teacher=_LOGITS)
    loss_of = {
        "mse": losses.soft_mse,
        "cross_entropy": losses.soft_binary_cross_entropy
        if task.distribution == "sigmoid"
        else losses.soft_cross_entropy,
    }[loss_type]
    return _softened(loss_of, kind, temperature, scale_by_t2)


def divergence(
    kind: str, of: Divergence, *, temperature: Setting = 1.0, scale_by_t2: bool = True, strict: bool = False
) -> Term:
    """A divergence between the teacher's and the student's distributions, in fp32; over a vocabulary in chunks.

    strict: how a teacher with another tokenizer is read, see `losses.aligned`.
    of: as `losses.divergence` makes it. Of several labels each is a distribution of two classes, and they are averaged.
    """
    task = kind_named(kind)
    if task.distribution is None:
        raise _no_classes("it")

    def soft(progress: float) -> Soft:
        return Soft(divergence=of, temperature=value_at(temperature, progress), scale_by_t2=scale_by_t2)

    if task.causal:
        asked = Needs(head=True, strict=strict, whole=extremes(temperature) != (1.0, 1.0))
        return Term(OverHead(soft), "label", needs_student=_HEAD, needs_teacher=asked, needs_labels=True)

    def loss(seen: Seen) -> Tensor:
        student, teacher = _logits(seen, task.unit)
        how, outputs = soft(seen.progress), student.shape[1]
        if task.distribution == "sigmoid":
            student, teacher = (torch.stack([z, torch.zeros_like(z)], -1).flatten(0, 1) for z in (student, teacher))
        value = losses.between_logits(student, teacher, divergence=of, temperature=how.temperature).sum() * how.factor
        return value / outputs if task.distribution == "sigmoid" else value

    return Term(loss, task.unit, needs_student=_LOGITS, needs_teacher=_LOGITS)


def _of_spans(
    loss_of: Callable[..., Tensor], ours: Needs, theirs: Needs, *, temperature: Setting | None = None, scale_by_t2: bool = True
) -> Term:
    """A loss of beginnings and ends, window by window; of the labels, or of a teacher with the same tokens."""

    def loss(seen: Seen) -> Tensor:
        assert seen.labels is not None
        asked = seen.labels != -100
        sizes = [int(part.sum()) for part in asked.split(list(seen.student.sizes))]
        student = _wide(_get(seen.student, "logits"))
        if temperature is None:
            return loss_of(student, seen.labels[asked], sizes, reduction="sum")
        now = value_at(temperature, seen.progress)
        teacher = _wide(_get(_teacher(seen), "logits"))
        return loss_of(student, teacher, sizes, temperature=now, scale_by_t2=scale_by_t2, reduction="sum")

    return Term(loss, "example", ours, theirs, needs_labels=True, same_tokens=temperature is not None)


def logit_kl(kind: str, *, temperature: Setting = 1.0, over: Reduction = "sum") -> Term:
    """KL divergence from the teacher's softened probabilities, times T^2: soft labels less the teacher's entropy.

    over: "mean" divides it by the number of classes, as PKD's code does. Several labels are averaged in any case.
    """
    task = kind_named(kind)
    if task.distribution is None:
        raise _no_classes("it")
    loss_of = losses.soft_binary_kl if task.distribution == "sigmoid" else partial(losses.soft_kl, over=over)
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
    task = kind_named(kind)
    if loss_type == "auto":
        loss_type = "mse" if task.distribution is None else "cross_entropy"
    if task.distribution is None and loss_type == "cross_entropy":
        raise _no_classes("loss: cross_entropy")
    if task.on_vocabulary or (task.per_token and feature != "head_input"):
        raise RecipeError(
            "it gives the teacher's head what that reads, one vector per labelled token: it needs feature: head_input, and a "
            "head of one Linear (not masked text)."
        )
    distance = "binary_cross_entropy" if task.distribution == "sigmoid" and loss_type == "cross_entropy" else loss_type
    mixes = task.distribution is None and parity
    if mixes:
        warnings.warn("parity: softmax regression on a regression task compares all rows with all.", stacklevel=2)

    def loss(seen: Seen) -> Tensor:
        student = seen.modules[adaptor.name](_rows(seen, seen.student, "feature", task.unit))
        teacher = _rows(seen, _teacher(seen), "logits", task.unit)
        frozen = cast(FrozenHead, seen.modules["teacher_head"])
        if mixes:
            return losses.mixed_squared_error(frozen(student), teacher)
        return losses.softmax_regression(
            student, teacher, weight=frozen.weight, bias=frozen.bias, kind=distance, reduction="sum"
        )

    return Term(
        loss,
        "batch" if mixes else task.unit,
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
    task = kind_named(kind)
    per_token = task.per_token and not task.on_vocabulary and feature == "head_input"

    def loss(seen: Seen) -> Tensor:
        unit: Unit = "label" if per_token else "example"
        student = seen.modules[adaptor.name](_rows(seen, seen.student, "feature", unit))
        teacher = _rows(seen, _teacher(seen), "feature", unit)
        return losses.output_feature(student, teacher, kind=loss_type, over=over, reduction="sum")

    return _on_features(loss, "label" if per_token else "example", feature, adaptor)


def rkd_distance(*, feature: str = "head_input", adaptor: Projection | None = None, parity: bool = False) -> Term:
    """Distances between the examples of a batch, on features as they are, or adapted as AutoMM does it."""
    return _pairwise(losses.rkd_distance, feature, adaptor, parity)


def rkd_angle(*, feature: str = "head_input", adaptor: Projection | None = None, parity: bool = False) -> Term:
    """Angles between the examples of a batch, on features as they are, or adapted as AutoMM does it."""
    return _pairwise(losses.rkd_angle, feature, adaptor, parity)


def vectors(*, adaptor: Projection, loss_type: VectorLoss = "cosine", dims: Sequence[int] = ()) -> Term:
    """Each text's vector should be the teacher's.

    dims: the first so many dimensions as well, for a teacher whose vectors may be cut (Matryoshka); mean over all of them.
    """

    def loss(seen: Seen) -> Tensor:
        student = seen.modules[adaptor.name](_wide(_get(seen.student, "feature")))
        teacher = _wide(_get(_teacher(seen), "feature"))
        parts = [losses.vector(s, t, kind=loss_type, reduction="sum") for s, t in _cuts(dims, student, teacher)]
        return torch.stack(parts).mean()

    return _on_features(loss, "example", "head_input", adaptor)


def similarities(
    *, loss_type: Literal["kl", "squared"] = "kl", temperature: Setting = 0.05, dims: Sequence[int] = ()
) -> Term:
    """The texts of a batch should lie to each other as the teacher's vectors do.

    dims: the student's first so many dimensions as well (Matryoshka); the teacher's vectors stay whole.
    """

    def loss(seen: Seen) -> Tensor:
        student, teacher = _wide(_get(seen.student, "feature")), _wide(_get(_teacher(seen), "feature"))
        now = value_at(temperature, seen.progress)
        cuts = [student, *(student[:, :k] for k in dims)]
        if loss_type == "squared":
            return torch.stack([losses.similarity_squared(cut, teacher) for cut in cuts]).mean()
        return torch.stack([losses.similarity_kl(cut, teacher, temperature=now) for cut in cuts]).mean()

    return _on_features(loss, "batch", "head_input", None, fewest_rows=FEWEST_TEXTS)


def contrastive(*, temperature: Setting = 0.05) -> Term:
    """A query should be nearest to its positives, among all passages of the batch (InfoNCE). Copies of a positive under other
    queries are no negatives."""

    def loss(seen: Seen) -> Tensor:
        rows = _wide(_get(seen.student, "feature"))
        queries, passages, number, grade, text = _parted(seen)
        own = number[queries][:, None] == number[passages][None]
        positive = own & (grade[passages] > 0)[None]
        texts = text[passages]
        copies = torch.stack([torch.isin(texts, texts[row]) for row in positive])
        allowed = ~copies & ~(own & grade[passages].isnan()[None])
        return losses.contrastive(
            rows[queries], rows[passages], positive, allowed, temperature=value_at(temperature, seen.progress)
        )

    return Term(loss, "batch", needs_student=Needs(feature="head_input"), needs_labels=True, fewest_rows=2)


def lists(
    kind: str, *, loss_type: Literal["kl", "margin"] = "kl", temperature: Setting = 1.0, scale: Setting = 1.0,
    from_labels: bool = False,
) -> Term:  # fmt: skip
    """The passages of a query should stand to each other as a teacher's scores do: those in the rows, or the teacher's own.

    For a model of vectors a score is the cosine of query and passage, for one that reads pairs its output.
    """
    pooled = kind_named(kind).pooled
    needs = Needs(feature="head_input") if pooled else _LOGITS

    def scores(seen: Seen, signals: Signals) -> tuple[Tensor, Tensor]:
        _, passages, number, _, _ = _parted(seen)
        if not pooled:
            return _wide(_get(signals, "logits"))[passages, 0], number[passages]
        rows = torch.nn.functional.normalize(_wide(_get(signals, "feature")), dim=1)
        queries = torch.nonzero(seen.labels[:, 1] == float("-inf")).flatten()  # type: ignore[index]
        place = {int(number[row]): int(row) for row in queries}
        own = torch.tensor([place[int(number[row])] for row in passages], device=rows.device, dtype=torch.int64)
        return (rows[own] * rows[passages]).sum(dim=1), number[passages]

    def loss(seen: Seen) -> Tensor:
        _, passages, _, grade, _ = _parted(seen)
        student, belongs = scores(seen, seen.student)
        teacher = grade[passages] if from_labels else scores(seen, _teacher(seen))[0]
        if bool(teacher.isnan().any()):
            raise RecipeError("objective.lists: some passages have no score, which scores: labels needs; give all of them one.")
        t, s = value_at(temperature, seen.progress), value_at(scale, seen.progress)
        if loss_type == "margin":
            return losses.margin_mse(student / s, teacher / t, belongs)
        return losses.list_kl(student, teacher, belongs, temperature=t, scale=s)

    theirs = Needs() if from_labels else needs
    return Term(loss, "batch", needs_student=needs, needs_teacher=theirs, needs_labels=True, fewest_rows=2)


def _parted(seen: Seen) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Places of queries and of passages, and of each row the list it belongs to, what is said of it, and which text it is."""
    assert seen.labels is not None
    if seen.labels.ndim != 2 or seen.labels.shape[1] != 3:
        raise RecipeError(
            "The objective compares the passages of a query, and these rows have none: give columns such as query and positive."
        )
    number, grade, text = seen.labels.unbind(dim=1)
    first = grade == float("-inf")
    return torch.nonzero(first).flatten(), torch.nonzero(~first).flatten(), number, grade, text


def _cuts(dims: Sequence[int], student: Tensor, teacher: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Both whole, and the first k dimensions of both, brought to the length of the whole."""
    found = [(student, teacher)]
    for k in dims:
        found.append((torch.nn.functional.normalize(student[:, :k], dim=1), torch.nn.functional.normalize(teacher[:, :k], dim=1)))
    return found


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
    """KD-NAS (Trivedi et al. 2023): each student layer predicts two teacher layers at once through a learnable projection.

    For student layer i of L_s, teacher layers u(i) and l(i) of width H_t, and one W: H_s -> 2 H_t for all layers,

        target_i = [H^T_u(i), H^T_l(i)]
        L = sum over i, tokens, dimensions of (W h^S_i - target_i)^2 / variance / (L_s * tokens * 2 H_t)

    There is no padding, hence none in the error. Dividing by the teacher's variance puts L between 0 and about 1: a projection
    that always says the mean gives 1.

    Args:
        uniform, last: u(i) and l(i) for each student layer, counted from 1.
        variances: teacher layer -> (H_t,) variance of its states; None: do not divide.
        per_layer: a projection for each student layer.
    """
    number = len(uniform)
    names = [f"kdnas_{i}" if per_layer else "kdnas" for i in range(number)]
    maps: dict[str, Projection] = {
        name: projection(name, "linear", student_width=student_width, teacher_width=2 * teacher_width, seed=seed)
        for name in dict.fromkeys(names)
    }
    modules: dict[str, nn.Module] = {name: one.module for name, one in maps.items()}
    if variances is not None:
        modules["kdnas_scale"] = _Scale({layer: variances[layer] for layer in {*uniform, *last}})

    def loss(seen: Seen) -> Tensor:
        assert seen.teacher is not None
        total: Tensor | None = None
        for i, layers in enumerate(zip(uniform, last, strict=True)):
            guess = seen.modules[names[i]](seen.student.hidden[i + 1].float())
            for half, layer in zip(guess.chunk(2, dim=-1), layers, strict=True):
                scale = None if variances is None else seen.modules["kdnas_scale"](layer).reciprocal()
                part = _WeightedSquares.apply(half, seen.teacher.hidden[layer].float(), scale)
                total = part if total is None else total + part
        assert total is not None
        return total / (number * 2 * teacher_width)

    ours = tuple(range(1, number + 1))
    theirs = tuple(sorted({*uniform, *last}))
    return Term(loss, "token", Needs(hidden=ours), Needs(hidden=theirs), modules=modules, same_tokens=True)


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
    """MiniLMv2: query-query, key-key and value-value relations of one layer of each side, averaged over the three.

    heads: relation heads that the attention of both is divided into; None: the largest number up to the teacher's heads that
    divides both widths. Widths are read off the signals: pruned layers, and sub-networks trained together, differ.
    """

    def loss(seen: Seen) -> Tensor:
        ours, theirs = seen.student.qkv[student_layer], _teacher(seen).qkv[teacher_layer]
        widths = [side[0].shape[1] * side[0].shape[2] for side in (ours, theirs)]
        number = heads or max(n for n in range(1, theirs[0].shape[1] + 1) if not any(width % n for width in widths))
        if any(width % number for width in widths):
            raise RecipeError(
                f"{number} relation heads do not divide the width of both models' attention, {' and '.join(map(str, widths))}; "
                "set objective.relations.heads to a number that does."
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
    unit = kind_named(kind).unit

    def loss(seen: Seen) -> Tensor:
        student, teacher = _logits(seen, unit)
        now = value_at(temperature, seen.progress)
        return loss_of(student, teacher, temperature=now, scale_by_t2=scale_by_t2, reduction="sum")

    return Term(loss, unit, needs_student=_LOGITS, needs_teacher=_LOGITS)


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


def _teacher(seen: Seen) -> Signals:
    assert seen.teacher is not None  # compute() has checked it
    return seen.teacher


def _get(signals: Signals, name: str) -> Tensor:
    value: Tensor | None = getattr(signals, name)
    if value is None:
        raise ValueError(f"The signals hold no {name}; compute them with the objective's needs.")
    return value


def _rows(seen: Seen, signals: Signals, name: str, unit: Unit) -> Tensor:
    """A signal with one row per example; for the unit label, one per labelled token (per token without labels)."""
    value = _wide(_get(signals, name))
    if unit == "label" and seen.labels is not None:
        try:
            (value,) = losses.labelled(seen.labels, value)
        except ValueError as error:
            raise RecipeError(
                f"The teacher's {name} do not line up with the student's labelled tokens: {error} With two tokenizers "
                "both must keep the same words; raise task.max_length until neither cuts a text off."
            ) from error
    return value


def _logits(seen: Seen, unit: Unit) -> tuple[Tensor, Tensor]:
    return _rows(seen, seen.student, "logits", unit), _rows(seen, _teacher(seen), "logits", unit)


def _wide(tensor: Tensor) -> Tensor:
    """At least fp32: losses of half-precision outputs would lose what tells good from better."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _no_classes(what: str) -> RecipeError:
    return RecipeError(f"{what} compares class probabilities, and a regression task has none; use mse (or logit_mse).")


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
