"""mKD: an adapter is trained on a large model, moved to a small one, and trained further there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.mkd.settings import MKD
from understudy.recipe.method import Method
from understudy.recipe.objective import Sets


class _MKD(Method):
    Settings = MKD
    summary = "move an adapter (bottleneck, LoRA) trained on the teacher to the student, and train on from there"
    needs = "a teacher at least as wide as the student, in any language and with any tokenizer"
    trains = "adapter"
    elsewhere = ("topk",)
    objective_keys = {"soft_label_weight": Sets("soft.weight"), "temperature": Sets("soft.temperature")}

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        """The labels; beyond the original, the adapted teacher's outputs may be given a weight."""
        return {"hard": 1.0, "soft": {"weight": 0.0, "temperature": 2.0}}

    def teacher_adapter(self, settings: MKD) -> str | None:
        return settings.adapter

    def teacher_training(self, settings: MKD, training: Any) -> Any:
        return training if settings.teacher_lr is None else training.model_copy(update={"lr": settings.teacher_lr})


METHOD = _MKD()
