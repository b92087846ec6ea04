"""No distillation: the labels alone."""

from __future__ import annotations

from understudy.lab import Lab
from understudy.lab.objective import learn
from understudy.methods.finetune.settings import FineTune
from understudy.models.model import Model


def distil(cfg: FineTune, lab: Lab) -> Model:
    """Train the student on the labels."""
    return learn(lab, "student", lab.student(), None, rows=lab.data.labelled())
