"""Student, objective and schedule chosen for what the student may cost, by what comparisons have shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.auto.settings import Auto
from understudy.recipe.method import Method


class _Auto(Method):
    Settings = Auto
    summary = "choose student, objective and schedule for a latency or size, by what comparisons have shown"
    needs = "a teacher, any task; no `student`: the method makes it"
    finds_student = True
    student_example = {"searched": True}

    def objective(self, section: Mapping[str, Any], kind: str) -> None:
        """The method that is chosen brings its own."""


METHOD = _Auto()
