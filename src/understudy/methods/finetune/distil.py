"""No distillation: the labels alone. How teachers are made, and what every distilled student is compared with."""

from __future__ import annotations

from understudy.data.types import Task
from understudy.lab import Lab
from understudy.methods.finetune.settings import FineTune
from understudy.models.model import Model
from understudy.objective import Objective
from understudy.objective.terms import hard_labels


def labels_only(task: Task) -> Objective:
    """Cross-entropy, squared error or binary cross-entropy on the true labels; masked words for plain text."""
    return Objective(hard=hard_labels(task.kind))


def distil(cfg: FineTune, lab: Lab) -> Model:
    """Train the student on the labels."""
    return lab.fit("student", lab.student(), labels_only(lab.data.task))
