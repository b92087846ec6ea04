"""What Pea-KD trains, and what it cannot do, before anything is trained."""

from __future__ import annotations

from typing import Any

from understudy.base.errors import RecipeError
from understudy.data.types import TaskData
from understudy.methods.peakd import ptp
from understudy.methods.peakd.settings import PeaKD
from understudy.recipe.method import Facts, Stage, student_stage
from understudy.recipe.settings import Recipe


def require(cfg: PeaKD, recipe: Recipe, data: TaskData | None, teacher: Any, student: Any) -> None:
    """Whether there is something to pre-train on."""
    if cfg.ptp is None or data is None:
        return
    ptp.refuse(data.task.kind)
    ptp.require_rule(rule(cfg), data.task.name)
    if cfg.ptp.folds and recipe.teacher is not None and recipe.teacher.finetune is None:
        raise RecipeError(
            f"method.ptp.folds: {recipe.teacher.model} is used as it is, so no teacher can be made that has not seen a row. Give "
            "a checkpoint to fine-tune here (teacher.finetune), or leave folds out."
        )


def rule(cfg: PeaKD) -> str | tuple[float, float]:
    return cfg.thresholds or ("published" if cfg.parity else "median")


def stages(cfg: PeaKD, recipe: Recipe, facts: Facts) -> list[Stage]:
    """Pre-training with the teacher's predictions, then the student."""
    student = student_stage(recipe, facts)
    first = [] if cfg.ptp is None else [Stage("ptp", "method.ptp.epochs", cfg.ptp.epochs, 1.0, student.share)]
    return [*first, student]


def arm(own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
    """Without PTP where there are no classes of predictions."""
    kind = base.seen.data.task.kind if base.seen.data else None
    if kind is None or not kind.no_confidence or own.get("ptp", "on") not in ("on", True):
        return {"method": own}, []
    return {"method": {**own, "ptp": "off"}}, [f"Without PTP, which is for classes: {kind.no_confidence}."]
