"""MiniDisc: prune, and distil through one assistant, chosen among sub-networks that are trained together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.minidisc.flags import FLAGS
from understudy.methods.minidisc.settings import MiniDisc
from understudy.recipe.method import Facts, Stage
from understudy.recipe.staged import StagedMethod


class _MiniDisc(StagedMethod):
    Settings = MiniDisc
    flags = FLAGS
    summary = "prune and distil through the best teacher assistant, chosen among sub-networks that are trained together"
    needs = "a fine-tuned teacher, and `student.sparsity`, the share of its heads and neurons that goes"

    def check(self, recipe: Any, data: Any, teacher: Any, student: Any) -> None:
        from understudy.methods.minidisc.plan import require

        if data is not None:
            require(recipe.method, recipe.student, data.task.select)

    def stages(self, recipe: Any, facts: Facts) -> list[Stage]:
        from understudy.methods.minidisc.plan import stages

        return stages(recipe, recipe.method, facts)

    def arm(self, own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
        student, sparsity = base.pruned_student()
        # The published least sparsity of an assistant suits students of a tenth: for larger ones half their own.
        room = {} if "min_assistant_sparsity" in own or sparsity > 0.5 else {"min_assistant_sparsity": sparsity / 2}
        return {**student, "method": {**own, **room}}, []

    def section(self, kept: Mapping[str, Any]) -> dict[str, Any] | None:
        from understudy.methods.minidisc.page import section

        return section(kept)

    def distil(self, settings: MiniDisc, lab: Any) -> Any:
        from understudy.methods.minidisc.distil import distil

        return distil(settings, lab)


METHOD = _MiniDisc()
