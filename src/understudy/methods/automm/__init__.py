"""AutoMM: labels, soft labels, features and geometry in one weighted sum (AutoGluon MultiModalPredictor)."""

from __future__ import annotations

from typing import Any

from understudy.methods.automm.settings import AutoMM
from understudy.recipe.method import Method


class _AutoMM(Method):
    Settings = AutoMM
    summary = "learn the teacher's soft labels, features and geometry in one weighted sum; terms on layers are optional"
    needs = "a teacher of any size; tokenizers may differ (not for terms on layers)"

    def distil(self, settings: AutoMM, lab: Any) -> Any:
        from understudy.methods.automm.distil import distil

        return distil(settings, lab)


METHOD = _AutoMM()
