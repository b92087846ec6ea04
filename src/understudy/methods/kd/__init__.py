"""Plain distillation: the labels and the teacher's outputs, nothing else (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from understudy.recipe.method import Method, MethodSettings


class KD(MethodSettings):
    """The labels and the teacher's outputs, nothing else (Hinton et al. 2015). Its weights are those of `objective`."""

    name: Literal["kd"] = Field(default="kd", description="this method")


class _KD(Method):
    Settings = KD
    summary = "learn from the labels and the teacher's outputs, nothing else; what language models are distilled with"
    needs = "a teacher with the same outputs"

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        """Labels and soft labels at temperature 2; for the next token the whole distribution at temperature 1, and half as much
        of the text itself."""
        from understudy.kinds import kind as kind_named

        if kind_named(kind).causal:
            return {"hard": 0.5, "soft": 1.0}
        return {"hard": 0.5, "soft": {"weight": 0.5, "temperature": 2.0}}


METHOD = _KD()
