"""Pea-KD: patient distillation of a student that uses its layers twice and knows beforehand what its teacher is sure of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.peakd.flags import FLAGS
from understudy.methods.peakd.objective import KEYS, objective
from understudy.methods.peakd.settings import PeaKD
from understudy.recipe.method import Facts, Method, Stage


class _PeaKD(Method):
    Settings = PeaKD
    flags = FLAGS
    summary = (
        "patient distillation of layers and soft labels, shuffled parameter sharing, and pre-training with the teacher's "
        "predictions"
    )
    needs = "a teacher with a trained head; tokenizers may differ; pre-training needs labels of classes"
    share = "sps"
    objective_keys = KEYS
    parity = {"train": {"optimizer": "bertadam", "clip": "tensor", "shuffle": False}}

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        return objective(section, kind)

    def check(self, recipe: Any, data: Any, teacher: Any, student: Any) -> None:
        from understudy.methods.peakd.plan import require

        if data is not None:
            require(recipe.method, recipe, data.task)

    def stages(self, recipe: Any, facts: Facts) -> list[Stage]:
        from understudy.methods.peakd.plan import stages

        return stages(recipe, recipe.method, facts)

    def arm(self, own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
        from understudy.methods.peakd.plan import arm

        return arm(own, base)

    def section(self, kept: Mapping[str, Any]) -> dict[str, Any] | None:
        from understudy.methods.peakd.page import section

        return section(kept)

    def distil(self, settings: PeaKD, lab: Any) -> Any:
        from understudy.methods.peakd.distil import distil

        return distil(settings, lab)


METHOD = _PeaKD()
