"""AutoMM distillation: one fit, one weighted sum of what labels and teacher say (AutoGluon MultiModalPredictor).

The loss itself is in `objective/automm.py`; docs/automm.md lists every knob and every difference to the released code.
"""

from __future__ import annotations

import dataclasses

from understudy.base.schedule import extremes
from understudy.lab import Lab
from understudy.methods.automm.settings import AutoMM
from understudy.models.anatomy import anatomy, sides
from understudy.models.model import Model
from understudy.objective.automm import automm_objective, impossible_terms


def distil(cfg: AutoMM, lab: Lab) -> Model:
    """Teacher and student read the same examples, each in its own tokens; the student learns the weighted sum."""
    teacher, student = lab.teacher(), lab.student()
    head = None
    if extremes(cfg.softmax_regression_weight)[1] > 0 and not teacher.model.bare:
        linear = anatomy(teacher.model.net).final_linear(teacher.model.net)
        head = (linear.weight, linear.bias)
    without = impossible_terms(cfg, student_outputs=not student.bare, teacher_outputs=not teacher.model.bare)
    if without:
        note = f"There is no head on the vocabulary, so these terms are left out: {', '.join(without)}."
        student = dataclasses.replace(student, notes=(*student.notes, note))
    objective = automm_objective(
        cfg,
        task_kind=lab.data.task.kind,
        num_labels=max(1, len(lab.data.task.labels)),
        **sides(student.net, teacher.model.net),
        teacher_head=head,
        seed=lab.recipe.seed,
        same_tokens=lab.same_tokens(teacher.model, student),
        without=without,
    )
    return lab.fit("student", student, objective, teacher=teacher, about=cfg.model_dump(mode="json"))
