"""AutoMM: labels, soft labels, features and geometry in one weighted sum (AutoGluon MultiModalPredictor)."""

from __future__ import annotations

from typing import Any

from understudy.methods.automm.flags import FLAGS
from understudy.methods.automm.settings import AutoMM
from understudy.recipe.method import Method


class _AutoMM(Method):
    Settings = AutoMM
    flags = FLAGS
    summary = "learn the teacher's soft labels, features and geometry in one weighted sum; terms on layers are optional"
    needs = "a teacher of any size; tokenizers may differ (not for terms on layers)"

    def check(self, recipe: Any, data: Any, teacher: Any, student: Any) -> None:
        """Build the objective for these sizes: layer maps, projections and combinations of settings are judged there."""
        import torch

        from understudy.models.anatomy import sides
        from understudy.objective.automm import automm_objective, impossible_terms

        if data is None:
            return
        outputs = max(1, len(data.task.labels))
        heads = {"student_outputs": student.on_vocabulary, "teacher_outputs": teacher.on_vocabulary}
        automm_objective(
            recipe.method,
            task_kind=data.task.kind,
            num_labels=outputs,
            **sides(student.net, teacher.net),
            teacher_head=(torch.zeros(outputs, teacher.width), torch.zeros(outputs)),
            seed=recipe.seed,
            same_tokens=recipe.student.model is None,
            without=impossible_terms(recipe.method, **heads) if data.task.kind.on_vocabulary else [],
        )

    def distil(self, settings: AutoMM, lab: Any) -> Any:
        from understudy.methods.automm.distil import distil

        return distil(settings, lab)


METHOD = _AutoMM()
