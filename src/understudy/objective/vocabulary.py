"""The terms that an `objective:` may hold: for each its settings, what it is built from, and where it has no meaning.

    objective:
      hard: 0.1                                  # a number is the weight
      soft: {weight: 1, temperature: 5}

A term of your own is a subclass of `TermSettings`, listed here in `TERMS` or, from another package, in the entry-point group
`understudy.terms`. This file imports no torch, so that recipes are read at once; what a term computes is in `terms.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from understudy.base.errors import DataError, RecipeError
from understudy.base.schedule import extremes
from understudy.mapping import chosen, layer_pairs
from understudy.objective.pair import Pair
from understudy.recipe.objective import TermSettings
from understudy.recipe.types import Flag, LayerMapping, NonNegative, PatientMapping, PositiveCount, Temperature

if TYPE_CHECKING:
    from understudy.objective.weighted import Objective, Term

Feature = Literal["head_input", "cls", "mean"]
Adaptor = Literal["auto", "identity", "linear", "linear_norm", "mlp"]
DivergenceName = Literal[
    "forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd", "ab", "adaptive_kl"
]
_LOSSES = {"": "auto", "mean_square_error": "mse", "cosine_distance": "cosine"}  # as AutoMM's README and scripts call them


def _original_name(value: Any) -> Any:
    return _LOSSES.get(value, value) if isinstance(value, str) else value


def _loss(*names: str) -> Any:
    old = [old for old, name in _LOSSES.items() if name in names]
    return Annotated[
        Literal[names], BeforeValidator(_original_name, json_schema_input_type=Literal[(*names, *old)])
    ]


if TYPE_CHECKING:
    LogitLoss = Literal["auto", "mse", "cross_entropy"]
    FeatureLoss = Literal["mse", "cosine"]
else:
    LogitLoss, FeatureLoss = _loss("auto", "mse", "cross_entropy"), _loss("mse", "cosine")


class Hard(TermSettings):
    """The true labels: cross-entropy, squared error or binary cross-entropy, whatever the task asks for."""

    of_outputs = True

    focal: NonNegative = Field(
        default=0.0, description="gamma of the focal loss (classification): rows that are right already count less; 0 = off"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import hard_labels

        one_class = pair.kind.distribution == "softmax" and not pair.kind.per_token
        if self.focal and not one_class:
            raise RecipeError("focal is for a classification: one right class in each row.")
        return hard_labels(pair.kind, class_weights=pair.class_weights, focal=self.focal)


class Soft(TermSettings):
    """The teacher's softened outputs (Hinton et al. 2015)."""

    of_outputs = True

    temperature: Temperature = Field(default=1.0, description="softens both outputs (T); a number or a schedule")
    loss: LogitLoss = Field(default="auto", description="auto = mse for regression, else cross_entropy")
    scale_by_t2: Flag = Field(default=True, description="multiply by T squared, so that T does not change the weight")
    across_rows: Flag = Field(
        default=False, description="AutoMM's fault: on regression, cross_entropy takes the rows of a batch for classes"
    )
    divergence: DivergenceName | None = Field(
        default=None,
        description="how far the student's q is from the teacher's p, in place of `loss`: forward_kl = sum p log(p/q), "
        "reverse_kl = sum q log(q/p), jsd (GKD), skew_kl and skew_reverse_kl (DistiLLM), tvd = total variation, ab (ABKD), "
        "adaptive_kl; null = what `loss` says, and forward_kl for language models",
    )
    alpha: float | None = Field(
        default=None, description="of skew_kl and skew_reverse_kl: the target's share in the mixture (null = 0.1); of ab (0.2)"
    )
    beta: float | None = Field(
        default=None, description="of jsd: the teacher's share in the mixture (null = 0.5); of ab (0.7)"
    )
    mass: float | None = Field(default=None, description="of adaptive_kl: the teacher's mass on its head (null = 0.5)")
    scaled: Flag | None = Field(
        default=None, description="of jsd: divide by beta (1 - beta), so that its ends are the KL divergences; null = no, as TRL"
    )

    align: Literal["prefix", "strict"] = Field(
        default="prefix",
        description="how a language model with another tokenizer is read: prefix = each of its tokens counts for the one with "
        "which the student begins to write it; strict = only where both have the same token, over the tokens in common",
    )

    def build(self, pair: Pair) -> Term:
        from understudy import losses
        from understudy.objective.terms import divergence, soft_labels

        options = {name: value for name in ("alpha", "beta", "mass", "scaled") if (value := getattr(self, name)) is not None}
        chosen = self.divergence or ("forward_kl" if pair.kind.causal else None)
        if chosen is None and options:
            raise RecipeError(f"{' and '.join(options)} belong to a divergence, and none is given.")
        if chosen is not None:
            if self.loss != "auto":
                raise RecipeError(f"loss: {self.loss} and the divergence {chosen} are two answers to one question; keep one.")
            try:
                of = losses.divergence(chosen, **options)
            except ValueError as error:
                raise RecipeError(str(error)) from None
            other = pair.kind.causal and pair.teacher is not None and not pair.same_tokens
            if other and extremes(self.temperature) != (1.0, 1.0):
                raise RecipeError("a teacher with another tokenizer teaches at temperature 1, by sums over its tokens.")
            strict = self.align == "strict"
            return divergence(
                pair.kind, of, temperature=self.temperature, scale_by_t2=self.scale_by_t2, strict=strict
            )
        return soft_labels(
            pair.kind, temperature=self.temperature, loss_type=self.loss, scale_by_t2=self.scale_by_t2, parity=self.across_rows
        )


class LogitKL(TermSettings):
    """KL divergence from the teacher's softened outputs, times T squared: soft labels less the teacher's entropy."""

    of_outputs = True

    temperature: Temperature = Field(default=1.0, description="softens both outputs (T); a number or a schedule")
    over: Literal["sum", "mean"] = Field(
        default="sum", description="add up over classes; or average, as the released code of PKD and Pea-KD"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import logit_kl

        return logit_kl(pair.kind, temperature=self.temperature, over=self.over)


class LogitMSE(TermSettings):
    """Squared difference of the raw outputs, averaged over outputs."""

    of_outputs = True

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import logit_mse

        return logit_mse(pair.kind)


class _Pooled(TermSettings):
    feature: Feature = Field(
        default="head_input", description="the pooled feature: what the head reads, the first token, or the mean of all tokens"
    )
    own_adaptor: Flag = Field(default=False, description="an adaptor of its own, instead of one that all terms share")

    def pooled(self, pair: Pair) -> str:
        """A masked-text head reads every token; there the one vector per text is their mean."""
        return "mean" if pair.kind.on_vocabulary and self.feature == "head_input" else self.feature


class _Adapted(_Pooled):
    adaptor: Adaptor = Field(
        default="auto", description="from the student's width to the teacher's; auto = linear where they differ"
    )


class SoftmaxRegression(_Adapted):
    """The student's feature, read by the teacher's own head, gives the teacher's outputs (Yang et al. 2021)."""

    loss: LogitLoss = Field(default="mse", description="distance of the outputs; auto as for soft")
    across_rows: Flag = Field(default=False, description="AutoMM's fault: on regression all rows are compared with all")

    def build(self, pair: Pair) -> Term:
        from understudy.objective.projections import FrozenHead
        from understudy.objective.terms import softmax_regression

        if pair.taught.head is None:
            raise RecipeError("it uses the teacher's last Linear, and this teacher has none at hand; leave it out.")
        head, shape = pair.taught.head(), (pair.num_labels, pair.taught.width)
        if tuple(head[0].shape) != shape:
            raise DataError(
                f"objective.softmax_regression: the teacher's head is {tuple(head[0].shape)}, but {shape[0]} labels and a "
                f"feature of width {shape[1]} need {shape}; leave it out."
            )
        return softmax_regression(
            pair.kind,
            head=FrozenHead(*head),
            adaptor=pair.adaptor("softmax_regression", self.adaptor, own=self.own_adaptor),
            feature=self.pooled(pair),
            loss_type=self.loss,
            parity=self.across_rows,
        )


class OutputFeature(_Adapted):
    """The student's pooled feature is the teacher's."""

    loss: FeatureLoss = Field(default="mse", description="cosine = 1 - cos")
    over: Literal["mean", "sum"] = Field(
        default="mean", description="over the feature's dimensions; mean makes the weight shrink with the width"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import output_feature

        adaptor = pair.adaptor("output_feature", self.adaptor, own=self.own_adaptor)
        return output_feature(pair.kind, adaptor=adaptor, feature=self.pooled(pair), loss_type=self.loss, over=self.over)


class _Relational(_Pooled):
    # Deviates: AutoMM adapts the student's feature here too, so that training the adaptor alone can satisfy the term.
    # Relations need no common width.
    adaptor: Adaptor | None = Field(default=None, description="adapt the student's feature first, as AutoMM does; null = no")
    as_released: Flag = Field(
        default=False, description="AutoMM's arithmetic: means that count rows compared with themselves, in autocast's precision"
    )

    def relation(self, pair: Pair, term: Callable[..., Term]) -> Term:
        feature = self.pooled(pair)
        if pair.kind.per_token and feature == "head_input":
            raise RecipeError(
                "it compares examples, but on a token task feature: head_input gives one vector per token; set feature to mean "
                "or cls."
            )
        pair.taught  # noqa: B018 - somebody must teach
        adaptor = None if self.adaptor is None else pair.adaptor("rkd", self.adaptor, own=self.own_adaptor)
        return term(feature=feature, adaptor=adaptor, parity=self.as_released)


class RKDDistance(_Relational):
    """Distances between the rows of a batch (Park et al. 2019). Such a batch cannot be computed in parts."""

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import rkd_distance

        return self.relation(pair, rkd_distance)


class RKDAngle(_Relational):
    """Angles between the rows of a batch (Park et al. 2019). Such a batch cannot be computed in parts."""

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import rkd_angle

        return self.relation(pair, rkd_angle)


class Vectors(TermSettings):
    """Each text's vector is the teacher's (kind embedding)."""

    loss: Literal["cosine", "squared", "distance"] = Field(
        default="cosine", description="1 - cos; the squared distance, or the distance (EmbedDistill), summed over dimensions"
    )
    adaptor: Adaptor = Field(
        default="auto", description="from the student's width to the teacher's; auto = linear where they differ"
    )
    dims: tuple[PositiveCount, ...] = Field(
        default=(), description="the first so many dimensions too, where the teacher's vectors may be cut (Matryoshka)"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import vectors

        adaptor = pair.adaptor("vectors", self.adaptor, own=True)
        _require_vectors(pair)
        _require_dims(self.dims, pair.taught.feature)
        return vectors(adaptor=adaptor, loss_type=self.loss, dims=self.dims)


class Similarities(TermSettings):
    """The texts of a batch lie to each other as the teacher's vectors do (kind embedding). Such a batch cannot be computed in
    parts."""

    loss: Literal["kl", "squared"] = Field(
        default="kl", description="kl of each text's distribution over the others, or the squared difference of cosines"
    )
    temperature: Temperature = Field(default=0.05, description="of these distributions")
    dims: tuple[PositiveCount, ...] = Field(
        default=(), description="the student's first so many dimensions too, so that its vectors may be cut (Matryoshka)"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import similarities

        pair.taught  # noqa: B018 - somebody must teach
        _require_vectors(pair)
        _require_dims(self.dims, pair.student.feature)
        return similarities(loss_type=self.loss, temperature=self.temperature, dims=self.dims)


class Contrastive(TermSettings):
    """A query is nearest to its positives among all passages of the batch: labels alone (InfoNCE; kind embedding)."""

    temperature: Temperature = Field(default=0.05, description="cosines are divided by it")

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import contrastive

        _require_vectors(pair)
        return contrastive(temperature=self.temperature)


class Lists(TermSettings):
    """The passages of a query stand to each other as a teacher's scores do (kinds embedding and ranking)."""

    loss: Literal["kl", "margin"] = Field(
        default="kl", description="kl of the distributions over a list, or the squared difference of margins (MarginMSE)"
    )
    scores: Literal["teacher", "labels"] = Field(
        default="teacher", description="the teacher's own, or those that the rows have"
    )
    temperature: Temperature = Field(default=1.0, description="the teacher's scores are divided by it")
    scale: Temperature | None = Field(
        default=None, description="the student's scores are divided by it; null = 0.05 for cosines, else 1"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import lists

        if self.scores == "teacher":
            pair.taught  # noqa: B018 - somebody must teach
        if self.loss == "margin" and pair.kind.pooled and self.scale is None:
            raise RecipeError(
                "cosines lie between -1 and 1, and a reranker's scores do not: say by `scale` what a student's cosine is divided "
                "by before margins are compared, as in scale: 0.05."
            )
        scale = self.scale or (0.05 if pair.kind.pooled else 1.0)
        said = self.scores == "labels"
        return lists(pair.kind, loss_type=self.loss, temperature=self.temperature, scale=scale, from_labels=said)


def _require_vectors(pair: Pair) -> None:
    if not pair.kind.pooled:
        raise RecipeError("it is about the vectors of texts, which only models of kind embedding give.")


def _require_dims(dims: tuple[int, ...], width: int) -> None:
    if any(k > width for k in dims):
        raise RecipeError(f"dims holds {max(dims)}, but the vectors have {width} dimensions.")


class Hidden(TermSettings):
    """Hidden states, token by token, of paired layers; through a Linear for each pair where the widths differ."""

    mapping: LayerMapping = Field(
        default="spread",
        description="which teacher layer each student layer learns from: spread, group_first, group_last, first or last; a layer "
        "number for each, from 1; pairs [student, teacher], 0 being the embeddings; even = the embeddings and up to six layers, "
        "spread over both depths (MiniDisc; sixths = as released)",
    )
    loss: FeatureLoss = Field(default="mse", description="cosine = 1 - cos")

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import hidden_states

        pairs = layer_pairs(self.mapping, pair.student.layers, pair.taught.layers)
        return hidden_states(pairs, **pair.sizes, loss_type=self.loss)


class TwoLayers(TermSettings):
    """Each student layer predicts two teacher layers, an evenly spread one and one of the topmost, through a learnable
    projection (KD-NAS)."""

    mapping: Annotated[
        Literal["group_last", "group_first"],
        BeforeValidator(lambda word: {"uniform_last": "group_last", "uniform_first": "group_first"}.get(str(word), word)),
    ] = Field(
        default="group_last",
        description="the evenly spread teacher layers: the last of each group of layers (the paper's figure), or the first (the "
        "released code); both learn from the topmost layers as well",
    )
    projection: Literal["shared", "per_layer"] = Field(
        default="shared", description="one projection for all student layers, or one for each"
    )
    normalise: Literal["variance", "none"] = Field(
        default="variance",
        description="divide each dimension by its variance over the teacher's states, so that losses lie between 0 and about 1",
    )

    def layers(self, num_student: int, num_teacher: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The two teacher layers of each student layer, counted from 1: the evenly spread ones, and the topmost.

        >>> TwoLayers().layers(3, 6)
        ((2, 4, 6), (4, 5, 6))
        """
        # Deviates: the released code wraps around to other layers (main) or repeats the first (refactor) here.
        if not 1 <= num_student <= num_teacher:
            raise RecipeError(f"a student of {num_student} layers is deeper than its teacher of {num_teacher}.")
        rules = (self.mapping, "last")
        evenly, topmost = (tuple(layer + 1 for layer in chosen(rule, num_student, num_teacher)) for rule in rules)
        return evenly, topmost

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import two_layers

        evenly, topmost = self.layers(pair.student.layers, pair.taught.layers)
        variances = None
        if self.normalise == "variance":
            if pair.variances is None:
                raise RecipeError("normalise: variance needs the teacher's hidden states beforehand; set normalise: none.")
            variances = pair.variances(sorted({*evenly, *topmost}))
        return two_layers(evenly, topmost, **pair.sizes, variances=variances, per_layer=self.projection == "per_layer")


class Relations(TermSettings):
    """Query-query, key-key and value-value relations of the last layer (MiniLMv2)."""

    layer: PositiveCount | None = Field(
        default=None, description="teacher layer (from 1) that the student's last layer learns from; null = its last"
    )
    heads: PositiveCount | None = Field(
        default=None,
        description="relation heads that both models' attention is divided into; null = the largest number up to the teacher's "
        "heads that divides the width of both, which pruning changes",
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import relations

        if pair.student.causal or pair.taught.causal:
            raise RecipeError(
                "it compares how all tokens of a text attend to each other, and a decoder's see only those before them; learn "
                "outputs (soft) or hidden states."
            )
        layer = self.layer or pair.taught.layers
        if layer > pair.taught.layers:
            raise RecipeError(f"layer is {layer}, but the teacher has {pair.taught.layers} layers.")
        ours, theirs = pair.student.attention(), pair.taught.attention()
        widths = [side[at - 1][1] for side, at in ((ours, 0), (theirs, layer)) if side]
        if 0 in widths:
            raise RecipeError(
                "pruning has left no attention head in the layer that is to learn or to teach; set student.prune.min_heads to 1."
            )
        if self.heads is not None and any(width % self.heads for width in widths):
            raise RecipeError(f"heads {self.heads} must divide the widths of both models' attention, {widths}.")
        return relations(pair.student.layers, layer, heads=self.heads)


class Patient(TermSettings):
    """Direction of the first token, layer by layer (Patient KD)."""

    mapping: PatientMapping = Field(
        default="multiples",
        description="which teacher layer each student layer but the last learns from: multiples = layer i·k for layer i, k being "
        "the ratio of depths, where that is a whole number (PKD-skip); a rule or list as for hidden; top = the last layers alone",
    )
    normalize: Flag = Field(default=True, description="compare directions, not lengths")
    over: Literal["sum", "mean"] = Field(
        default="sum", description="over dimensions; mean makes the weight shrink with the width, as released"
    )

    def build(self, pair: Pair) -> Term:
        from understudy.objective.terms import patient

        pairs = layer_pairs(self.mapping, pair.student.layers, pair.taught.layers, inner=True)
        return patient(pairs, **pair.sizes, normalize=self.normalize, over=self.over)


TERMS: dict[str, type[TermSettings]] = {
    "hard": Hard, "soft": Soft, "softmax_regression": SoftmaxRegression, "output_feature": OutputFeature,
    "rkd_distance": RKDDistance, "rkd_angle": RKDAngle, "logit_kl": LogitKL, "logit_mse": LogitMSE, "hidden": Hidden,
    "two_layers": TwoLayers, "relations": Relations, "patient": Patient, "vectors": Vectors, "similarities": Similarities,
    "contrastive": Contrastive, "lists": Lists,
}  # fmt: skip
"""In this order terms are added up, after those of the method itself."""


def build(terms: Mapping[str, TermSettings], pair: Pair) -> tuple[Objective, list[str]]:
    """The objective of a recipe for these two models, and sentences about terms that were left out.

    Raises:
        RecipeError: a term that has no meaning here; or nothing is left to learn. Where a term is `if_possible` and only the
            models lack what it compares, it is left out.
        DataError: a teacher's head of another shape.
    """
    from understudy.objective.weighted import Objective

    pair = replace(pair, modules={})
    built: dict[str, Term] = {}
    notes = []
    for name, settings in terms.items():
        if extremes(settings.weight)[1] == 0:
            continue
        if pair.teacher is not None and not pair.teacher.states and not settings.of_outputs:
            raise RecipeError(
                f"objective.{name}: it compares what goes on inside both models, and of this teacher only answers are known; "
                "leave it out."
            )
        try:
            if pair.kind.causal and name in ("logit_kl", "logit_mse", "softmax_regression"):
                raise RecipeError("a language model learns outputs by soft, whose divergence says how; leave this one out.")
            term = settings.build(pair)
        except RecipeError as error:
            raise RecipeError(f"objective.{name}: {error}") from None
        missing = _missing(term, pair)
        if missing is None:
            built[name] = settings.weight * term
        elif settings.if_possible:
            notes.append(f"objective.{name} is left out: {missing}")
        else:
            raise RecipeError(f"objective.{name}: {missing}")
    if not built:
        raise RecipeError(" ".join(["There is nothing to learn: give a term of `objective` a weight above 0.", *notes]))
    return Objective(**built), notes


def _missing(term: Term, pair: Pair) -> str | None:
    """What the models lack that a term asks of them, as a sentence."""
    if term.needs_teacher and pair.teacher is None:
        return "it asks a teacher, and here nobody teaches; leave it out, or choose another method."
    for needs, side, who in ((term.needs_student, pair.student, "student"), (term.needs_teacher, pair.teacher, "teacher")):
        if needs.logits and side is not None and not side.outputs:
            return f"it compares outputs, and the {who} has no head on the vocabulary; learn hidden, relations or output_feature."
    if term.same_tokens and not pair.same_tokens:
        return (
            "it compares token with token, but teacher and student cut the texts into different tokens; give both the same "
            "tokenizer and max_length, or leave it out."
        )
    return None
