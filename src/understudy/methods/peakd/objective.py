"""What Pea-KD learns where a recipe's `objective` does not say, and the names under `method` that set it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.base.errors import RecipeError
from understudy.recipe.objective import Sets


def objective(section: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The losses of Patient Knowledge Distillation (Sun et al. 2019, equations 4 to 8; the same in Cho & Kang, Pea-KD):

        L = (1 - α) L_labels + α T² KL(teacher/T || student/T) + β L_layers

    `train_type`: ft = labels alone, kd = without the layers, pkd = all. The released codes average the KL divergence over the C
    classes too, and L_layers over the width D, so that their α and β mean, in terms of the equations, α / C and β / D; which is
    why published values of β are as large as they are. Here (and not under parity) α is that of the equation. docs/peakd.md has
    the conversions.
    """
    from understudy.kinds import kind as kind_named

    train_type, alpha = section.get("train_type") or "pkd", section.get("alpha", 0.7)
    if train_type not in ("ft", "kd", "pkd"):
        raise RecipeError(f"method.train_type: should be one of ft, kd, pkd, not '{train_type}'.")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
        raise RecipeError(f"method.alpha: should be a number from 0 to 1, not {alpha!r}.")
    if train_type == "ft":
        return {"hard": 1.0}
    over = "mean" if section.get("parity") is True else "sum"
    soft = {"logit_kl": {"weight": alpha, "temperature": 10.0, "over": over}}
    if kind_named(kind).numeric:  # Deviates: PKD has no regression; there the teacher's number takes the logits' place
        soft = {"logit_mse": {"weight": alpha}}
    layers = {"weight": section.get("beta", 100.0) if train_type == "pkd" else 0.0, "over": "mean"}
    return {"hard": 1 - alpha, **soft, "patient": layers}


KEYS = {
    "train_type": Sets(),
    "alpha": Sets(),
    "temperature": Sets("logit_kl.temperature"),
    "kd_reduction": Sets("logit_kl.over", values={"batchmean": "sum"}),
    "beta": Sets(),
    "layers": Sets("patient.mapping"),
    "normalize": Sets("patient.normalize"),
}
