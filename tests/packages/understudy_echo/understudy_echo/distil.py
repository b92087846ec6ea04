"""Two trainings and one count, each a durable step of the run."""

from __future__ import annotations

from typing import Any

from understudy.lab.objective import about, objective_for
from understudy.models.model import Model
from understudy.objective import Objective
from understudy.objective.terms import soft_labels
from understudy_echo.settings import Echo


def distil(settings: Echo, lab: Any) -> Model:
    teacher, student = lab.teacher(), lab.student()
    faint = Objective(soft=soft_labels(lab.data.task.kind, temperature=settings.temperature))
    training = lab.recipe.train.model_copy(update={"epochs": settings.faint_epochs})
    own = settings.model_dump(mode="json")
    student = lab.fit("faint", student, faint, teacher=teacher, settings=training, about=own)
    lab.keep("echo", own, lambda: {"rows": len(lab.data.train), "temperature": settings.temperature})
    return lab.fit("student", student, objective_for(lab, student, teacher), teacher=teacher, about=about(lab, echo=own))
