"""Distillation losses: pure functions of tensors, one idea per file, torch only.

Conventions of this folder:

* `student` comes first, `teacher` second. The teacher is a constant: no gradient flows into it.
* Rows are examples or tokens. Sequences are packed one behind the other, (T, ...) with `sizes`: there is no padding.
* Within a row each loss is defined by its docstring; `reduction` says what happens over rows: "mean", "sum" for
  callers that split a batch and divide by the number of rows of the whole, or "none" for one number per row.
* Shapes must agree; nothing broadcasts. A mismatch is a ValueError.

Shape suffixes: B examples, T tokens, N rows of either kind, C outputs, D width, H heads, d width of a head, L length.
"""

from understudy.losses.chunked import over_vocabulary
from understudy.losses.divergences import between_logits, divergence
from understudy.losses.features import output_feature
from understudy.losses.hard import binary_cross_entropy, cross_entropy, focal, squared_error, token_cross_entropy
from understudy.losses.hidden import hidden_states
from understudy.losses.parity import mixed_cross_entropy, mixed_squared_error
from understudy.losses.patient import patient
from understudy.losses.relations import attention_relations, relations, token_similarity
from understudy.losses.rkd import rkd_angle, rkd_distance
from understudy.losses.rows import labelled
from understudy.losses.soft import soft_binary_cross_entropy, soft_binary_kl, soft_cross_entropy, soft_kl, soft_mse
from understudy.losses.softmax_regression import head_logits, softmax_regression
from understudy.losses.spans import span_cross_entropy, span_kl
from understudy.losses.vectors import contrastive, list_kl, margin_mse, similarity_kl, similarity_squared, vector

__all__ = [
    "attention_relations",
    "between_logits",
    "binary_cross_entropy",
    "contrastive",
    "cross_entropy",
    "divergence",
    "focal",
    "head_logits",
    "hidden_states",
    "labelled",
    "list_kl",
    "margin_mse",
    "mixed_cross_entropy",
    "mixed_squared_error",
    "output_feature",
    "over_vocabulary",
    "patient",
    "relations",
    "rkd_angle",
    "rkd_distance",
    "similarity_kl",
    "similarity_squared",
    "soft_binary_cross_entropy",
    "soft_binary_kl",
    "soft_cross_entropy",
    "soft_kl",
    "soft_mse",
    "softmax_regression",
    "span_cross_entropy",
    "span_kl",
    "squared_error",
    "token_cross_entropy",
    "token_similarity",
    "vector",
]
