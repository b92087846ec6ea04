"""No distillation: the labels alone."""

from __future__ import annotations

from understudy.methods.finetune.settings import FineTune
from understudy.recipe.method import Method


class _FineTune(Method):
    Settings = FineTune
    summary = "learn from the labels alone, without distillation: what every student is measured against"
    needs = "labels; a teacher only if the student is made of its layers"
    needs_teacher = False


METHOD = _FineTune()
