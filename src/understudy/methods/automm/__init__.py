"""AutoMM: labels, soft labels, features and geometry in one weighted sum (AutoGluon MultiModalPredictor)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.automm.flags import FLAGS
from understudy.methods.automm.settings import KEYS, OWN, PARITY, AutoMM
from understudy.recipe.method import Method
from understudy.recipe.objective import changed


class _AutoMM(Method):
    Settings = AutoMM
    flags = FLAGS
    objective_keys = KEYS
    elsewhere = ("matches",)
    learns_from_answers = True
    summary = "learn the teacher's soft labels, features and geometry in one weighted sum; terms on layers are optional"
    needs = "a teacher of any size; tokenizers may differ (not for terms on layers)"

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        from understudy.kinds import kind as kind_named

        if (of_kind := kind_named(kind).own) is not None:
            return of_kind
        own = changed(OWN, PARITY) if section.get("parity") is True else OWN
        if not kind_named(kind).labelled:  # a bare encoder says nothing about words, and learns the rest
            own = changed(own, {"hard": {"if_possible": True}, "soft": {"if_possible": True}})
        return own


METHOD = _AutoMM()
