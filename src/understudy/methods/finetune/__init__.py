"""No distillation: the labels alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.finetune.settings import FineTune
from understudy.recipe.method import Method


class _FineTune(Method):
    Settings = FineTune
    summary = "learn from the labels alone, without distillation: what every student is measured against"
    needs = "labels; a teacher only if the student is made of its layers"
    needs_teacher = False

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        from understudy.kinds import kind as kind_named

        return {kind_named(kind).by_labels: 1.0}


METHOD = _FineTune()
