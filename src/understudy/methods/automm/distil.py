"""AutoMM distillation: one fit, one weighted sum of what labels and teacher say (AutoGluon MultiModalPredictor).

    L = w_hard L_hard + w_soft L_soft + w_sr L_sr + w_of L_of + w_rd L_rkd_distance + w_ra L_rkd_angle

and, beyond the original, terms on logits and layers; docs/automm.md lists every knob and every difference to the released code.
"""

from __future__ import annotations

from understudy.lab import Lab
from understudy.lab.objective import learn
from understudy.methods.automm.settings import AutoMM
from understudy.models.model import Model


def distil(cfg: AutoMM, lab: Lab) -> Model:
    """Teacher and student read the same examples, each in its own tokens; the student learns the weighted sum."""
    teacher, student = lab.answers() or lab.teacher(), lab.student()
    return learn(lab, "student", student, teacher)
