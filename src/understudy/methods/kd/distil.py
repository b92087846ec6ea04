"""Plain distillation: one fit on the recipe's objective.

    L = w_hard · CE(labels) + w_soft · T² CE(teacher's softened outputs)      at temperature T
"""

from __future__ import annotations

from understudy.lab import Lab
from understudy.lab.objective import learn
from understudy.methods.kd import KD
from understudy.models.model import Model


def distil(cfg: KD, lab: Lab) -> Model:
    """Teacher and student read the same examples; the student learns the weighted sum."""
    teacher, student = lab.teacher(), lab.student()
    return learn(lab, "student", student, teacher)
