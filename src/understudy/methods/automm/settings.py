"""The settings of `method: {name: automm}`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from understudy.recipe.method import MethodSettings
from understudy.recipe.types import Flag, LayerMap, PositiveCount, Temperature, Weight

_LOSS_ALIASES = {"": "auto", "mean_square_error": "mse", "cosine_distance": "cosine"}


def _original_name(value: Any) -> Any:
    """The names in the original README and scripts mean the same losses."""
    return _LOSS_ALIASES.get(value, value) if isinstance(value, str) else value


LogitLoss = Annotated[Literal["auto", "mse", "cross_entropy"], BeforeValidator(_original_name)]
FeatureLoss = Annotated[Literal["mse", "cosine"], BeforeValidator(_original_name)]


class AutoMM(MethodSettings):
    """Labels, soft labels, the teacher's head, pooled features and pairwise geometry, in one weighted sum
    (AutoGluon MultiModalPredictor), with optional terms on layers."""

    name: Literal["automm"] = Field(default="automm", description="this method")
    parity: Flag = Field(
        default=False,
        description="reproduce the numbers of the released code, including those listed as wrong on the method's page",
    )
    temperature: Temperature = Field(default=5.0, description="softens both logits (T); a number or a schedule")
    scale_by_t2: Flag | None = Field(
        default=None, description="multiply the soft-label term by T squared, so that T does not change its weight; "
        "null = yes, except under parity"
    )  # fmt: skip
    hard_label_weight: Weight = Field(
        default=0.1, description="weight of the loss on the true labels; 0 for unlabelled data"
    )
    soft_label_weight: Weight = Field(default=1.0, description="weight of the loss on the teacher's softened outputs")
    softmax_regression_weight: Weight = Field(
        default=0.0,
        description="weight of: the student's features, read by the teacher's own head, give the teacher's logits",
    )
    output_feature_loss_weight: Weight = Field(default=0.01, description="weight of matching the pooled feature")
    rkd_distance_loss_weight: Weight = Field(
        default=0.0, description="weight of matching distances between the rows of a batch"
    )
    rkd_angle_loss_weight: Weight = Field(
        default=0.0, description="weight of matching angles between the rows of a batch"
    )
    soft_label_loss_type: LogitLoss = Field(
        default="auto", description="auto = mse for regression, else cross_entropy with the teacher's probabilities"
    )
    softmax_regression_loss_type: LogitLoss = Field(default="mse", description="loss of the softmax-regression term")
    output_feature_loss_type: FeatureLoss = Field(
        default="mse", description="loss of the output-feature term; cosine = 1 - cos"
    )
    output_feature_reduction: Literal["mean", "sum"] = Field(
        default="mean", description="over the feature's dimensions; mean makes the weight shrink with the width"
    )
    feature: Literal["head_input", "cls", "mean"] = Field(
        default="head_input",
        description="the pooled feature: what the head reads, the first token, or the mean of all tokens",
    )
    adaptor: Literal["auto", "identity", "linear", "linear_norm", "mlp"] = Field(
        default="auto", description="from the student's width to the teacher's; auto = linear where they differ"
    )
    adaptor_scope: Literal["shared", "separate"] = Field(
        default="shared", description="one adaptor for all terms that need it, or one for each"
    )
    logit_kl_weight: Weight = Field(
        default=0.0, description="weight of the KL divergence from the teacher, times T squared"
    )
    logit_mse_weight: Weight = Field(default=0.0, description="weight of the squared difference of the raw logits")
    hidden_weight: Weight | None = Field(
        default=None,
        description="weight of matching hidden states, token by token (same tokenizer only); null = 50 where both models cut "
        "texts into the same tokens, 0 where they do not, and 0 under parity",
    )
    hidden_mapping: LayerMap = Field(
        default="uniform",
        description="the teacher layer for each student layer: uniform, first, last, skip, or numbers from 1",
    )
    hidden_loss: FeatureLoss = Field(default="mse", description="loss of the hidden-state term")
    relation_weight: Weight = Field(
        default=0.0,
        description="weight of matching query-query, key-key and value-value relations (MiniLMv2; same tokenizer only)",
    )
    relation_heads: PositiveCount | None = Field(
        default=None,
        description="relation heads that both models' attention is divided into; null = the teacher's heads",
    )
    relation_layer: PositiveCount | None = Field(
        default=None,
        description="teacher layer (from 1) whose relations the student's last layer learns; null = its last",
    )
    patient_weight: Weight = Field(
        default=0.0, description="weight of matching the normalised first token of layers (patient KD)"
    )
    patient_mapping: LayerMap = Field(
        default="skip", description="the teacher layer for each student layer of the patient term, as in hidden_mapping"
    )

    @model_validator(mode="before")
    @classmethod
    def _never_worked(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("matches"):
            raise ValueError(
                "`matches` was accepted by the original but never used (and crashed). For layers use `hidden_weight`, "
                "`relation_weight` or `patient_weight`."
            )
        return data
