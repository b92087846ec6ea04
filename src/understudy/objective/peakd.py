"""Pea-KD's losses: those of Patient Knowledge Distillation, and the classification it is pre-trained on.

    L = (1 - α) L_labels + α T² KL(teacher/T || student/T) + β L_layers

(Sun et al. 2019, equations 4 to 8; the same in Cho & Kang, Pea-KD.) The released codes average the KL divergence over
the C classes too, and L_layers over the width D. So their α and β mean, in terms of the equations,

    labels 1 - α        softened logits α / C        layers β / D

which is why published values of β are as large as they are. docs/peakd.md has the conversions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.base.schedule import extremes
from understudy.mapping import inner_pairs
from understudy.objective import Objective, Term
from understudy.objective import terms as learn


def peakd_objective(
    settings: Any,
    *,
    task_kind: str,
    student_width: int,
    teacher_width: int,
    student_layers: int,
    teacher_layers: int,
    seed: int,
) -> Objective:
    """The objective of a recipe's `method: {name: peakd, ...}`.

    Args:
        task_kind: classification, regression, multilabel, tokens or text.
        student_width, teacher_width: D of each; where they differ, each pair of layers has a Linear of its own.
        student_layers: of the network as it is run, shared layers counted as often as they are used.
        seed: initialises those Linears.

    Raises RecipeError for a student of one layer with `train_type: pkd`, and for layers that do not exist.
    """
    cfg, kind = settings, task_kind
    if cfg.train_type == "ft":
        return Objective(hard=learn.hard_labels(kind))
    terms: dict[str, Term] = {"hard": (1 - cfg.alpha) * learn.hard_labels(kind), "soft": cfg.alpha * _soft(cfg, kind)}
    if cfg.train_type == "pkd" and extremes(cfg.beta)[1] > 0:
        terms["patient"] = cfg.beta * _patient(cfg, student_width, teacher_width, student_layers, teacher_layers, seed)
    return Objective(**terms)


def _soft(cfg: Any, kind: str) -> Term:
    if kind == "regression":  # Deviates: PKD has no regression; there the teacher's number takes the logits' place
        return learn.logit_mse(kind)
    averages = (cfg.kd_reduction or ("mean" if cfg.parity else "batchmean")) == "mean"
    return learn.logit_kl(kind, temperature=cfg.temperature, over="mean" if averages else "sum")


def _patient(
    cfg: Any, student_width: int, teacher_width: int, student_layers: int, teacher_layers: int, seed: int
) -> Term:
    """The layers, so that `beta` times it is the released code's loss in either unit."""
    per_element = (cfg.patience_reduction or ("element" if cfg.parity else "vector")) == "element"
    term = learn.patient(
        inner_pairs(cfg.layers, student_layers, teacher_layers),
        student_width=student_width,
        teacher_width=teacher_width,
        seed=seed,
        normalize=cfg.normalize,
        over="mean" if per_element else "sum",
    )
    return term if per_element else (1 / teacher_width) * term


def ptp_objective(class_weights: Sequence[float] | None = None) -> Objective:
    """Cross-entropy on the four classes; with weights, each row counts as much as its class says."""
    return Objective(ptp=learn.hard_labels("classification", class_weights=class_weights))
