"""Two trainings and one count, each a durable step of the run."""

from __future__ import annotations

from typing import Any

from understudy.models.model import Model
from understudy.objective import Objective
from understudy.objective.terms import soft_labels
from understudy_echo.settings import Echo


def distil(settings: Echo, lab: Any) -> Model:
    teacher, student, kind = lab.teacher(), lab.student(), lab.data.task.kind
    faint = Objective(soft=soft_labels(kind, temperature=settings.temperature))
    training = lab.recipe.train.model_copy(update={"epochs": settings.faint_epochs})
    about = settings.model_dump(mode="json")
    student = lab.fit("faint", student, faint, teacher=teacher, settings=training, about=about)
    lab.keep("echo", about, lambda: {"rows": len(lab.data.train), "temperature": settings.temperature})
    return lab.fit("student", student, Objective(soft=soft_labels(kind)), teacher=teacher, about=about)
