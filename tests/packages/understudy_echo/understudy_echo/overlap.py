"""A term for any objective: how much the student's and the teacher's answers overlap."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from understudy.base.errors import RecipeError
from understudy.recipe.objective import TermSettings
from understudy.recipe.types import Positive


class Overlap(TermSettings):
    """1 - Σ min(p, q) over the classes, of the softened probabilities of student and teacher."""

    temperature: Positive = Field(default=1.0, description="softens both outputs")

    def build(self, pair: Any) -> Any:
        from understudy.models.needs import Needs
        from understudy.objective import Term

        if pair.taught and pair.kind.distribution != "softmax":
            raise RecipeError("it compares probabilities of classes, and this task has none; leave it out.")

        def loss(seen: Any) -> Any:
            ours, theirs = (
                (one.logits.float() / self.temperature).softmax(-1) for one in (seen.student, seen.teacher)
            )
            return (1 - ours.minimum(theirs).sum(-1)).sum()

        logits = Needs(logits=True)
        return Term(loss, pair.kind.unit, needs_student=logits, needs_teacher=logits)
