"""From which logit on a label applies, where each of several labels does or does not: chosen on rows that nobody learns from.

A threshold becomes part of the weights: the bias of its output is lowered by it, so that 0 (a probability of one half) stays
the boundary for everything that reads the model, stock pipelines and ONNX graphs included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from understudy.models.anatomy import anatomy
from understudy.models.model import Model


def best_thresholds(logits: np.ndarray, gold: np.ndarray) -> list[float]:
    """For each label the logit with the best F1 on these rows; 0 where none is better than 0, or no row has the label.

    logits (N, C), gold 0 or 1 (N, C). Between two rows the boundary is half-way.
    """
    found = []
    for scores, true in zip(np.asarray(logits, np.float64).T, np.asarray(gold).T, strict=True):
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], np.cumsum(true[order])
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + max(1, true.sum()))  # when the first k rows are said to have it
        between = np.append(ranked[:-1] > ranked[1:], True)  # rows with one score are on one side
        best = int(np.argmax(np.where(between, f1, -1.0)))
        at_zero = int((scores > 0).sum())
        now = f1[at_zero - 1] if at_zero else 0.0
        after = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1.0
        found.append(float((ranked[best] + after) / 2) if f1[best] > now else 0.0)
    return found


def move_boundaries(model: Model, thresholds: Sequence[float]) -> None:
    """Lower the bias of each output by its threshold, in place."""
    bias = anatomy(model.net).final_linear(model.net).bias
    with torch.no_grad():
        bias.sub_(torch.tensor(thresholds, dtype=bias.dtype, device=bias.device))
