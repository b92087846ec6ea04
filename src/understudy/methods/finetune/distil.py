"""No distillation: the labels alone. How teachers are made, and what every distilled student is compared with."""

from __future__ import annotations

from understudy.data.types import Task
from understudy.lab import Lab
from understudy.lab.objective import about, objective_for
from understudy.methods.finetune.settings import FineTune
from understudy.models.model import Model
from understudy.objective import Objective
from understudy.objective.terms import hard_labels


def labels_only(task: Task) -> Objective:
    """The loss on the true labels, whatever a recipe's objective says; masked words for plain text."""
    return Objective(hard=hard_labels(task.kind, class_weights=task.weights))


def distil(cfg: FineTune, lab: Lab) -> Model:
    """Train the student on the labels."""
    student = lab.student()
    return lab.fit("student", student, objective_for(lab, student, None), about=about(lab), rows=lab.data.labelled())
