"""MaxiDisc: a student for every assistant, trained from beginning to end, and the best one kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.maxidisc.settings import MaxiDisc
from understudy.recipe.method import Facts, Stage
from understudy.recipe.staged import StagedMethod, target_of


class _MaxiDisc(StagedMethod):
    Settings = MaxiDisc
    summary = "prune and distil through a teacher assistant; every assistant is tried, the best one on held-out rows is kept"
    needs = "a fine-tuned teacher, and a student that is part of it (`student.sparsity` or `student.num_layers`)"

    def check(self, recipe: Any, data: Any, teacher: Any, student: Any) -> None:
        from understudy.methods.maxidisc.plan import ways

        if data is not None:
            ways(recipe.method, target_of(recipe.student), teacher.layers)

    def stages(self, recipe: Any, facts: Facts) -> list[Stage]:
        from understudy.methods.maxidisc.plan import stages

        return stages(recipe, recipe.method, facts)

    def arm(self, own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
        from understudy.methods.maxidisc.plan import arm

        return arm(own, base), []

    def affordable(
        self, own: Mapping[str, Any], recipe: Any, facts: Facts, kind: str, total: float
    ) -> tuple[dict[str, Any], list[str]]:
        from understudy.methods.maxidisc.plan import affordable

        return ({}, []) if "assistants" in own else affordable(recipe, recipe.method, facts, kind, total)

    def student_step(self, recipe: Any, kept: Mapping[str, Any]) -> str:
        from understudy.methods.maxidisc.plan import student_step

        return student_step(recipe, recipe.method, kept)

    def section(self, kept: Mapping[str, Any]) -> dict[str, Any] | None:
        from understudy.methods.maxidisc.page import section

        return section(kept)

    def distil(self, settings: MaxiDisc, lab: Any) -> Any:
        from understudy.methods.maxidisc.distil import distil

        return distil(settings, lab)


METHOD = _MaxiDisc()
