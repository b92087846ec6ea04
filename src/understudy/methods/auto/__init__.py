"""Student, objective and schedule chosen for what the student may cost, by what comparisons have shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
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

    def settle(self, recipe: Any, folder: Path | None, *, look: bool = False) -> tuple[Any, list[str]]:
        from understudy.methods.auto.choose import settle

        return settle(recipe, folder, look=look)

    def arm(self, own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
        """What it chooses, so that it can be paid for like any other arm."""
        return {**base.searched_student(), "method": base.limited(own)}, []

    def notes(self, folder: Path, costs: Mapping[str, Any]) -> list[str]:
        from understudy.methods.auto.choose import notes

        return notes(folder, costs)


METHOD = _Auto()
