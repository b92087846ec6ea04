"""KD-NAS: many short distillations find the architecture, one thorough distillation makes the student.

    settings.py    what a recipe may say                              distil.py      the search, then full KD of the best
    candidates.py  what is tried: student, mini-KD, latency, reward   study.py       the durable study: workers, claims, retries
    space.py       the legal architectures, listed one by one         costs.py       what one costs before it is trained
    engines.py     who is tried next: random, TPE, NSGA-II, LSTM      controller.py  the LSTM that predicts rewards
    reward.py      quality and latency in one number                  warm_start.py  a student cut out of its teacher
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.base.errors import RecipeError
from understudy.methods.kdnas.objective import KEYS, objective
from understudy.methods.kdnas.settings import KDNAS, STUDY
from understudy.recipe.method import Facts, Method, Stage


class _KDNAS(Method):
    Settings = KDNAS
    summary = "find the student's architecture by many short distillations, then distil the winner thoroughly"
    needs = "a teacher, plain text or any task; no `student`: the method makes it"
    finds_student = True
    databases = (STUDY,)
    student_example = {"searched": True}
    parity = {
        "train": {"epochs": 10, "lr": 5e-5, "batch_size": 8, "schedule": "constant", "warmup": 0.0, "max_grad_norm": None}
    }

    objective_keys = KEYS

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        return objective(section, kind)

    def settle(self, recipe: Any, folder: Path | None, *, look: bool = False) -> tuple[Any, list[str]]:
        # Before the processes wait for each other: workers share a search through its study.
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RecipeError(
                "A search does not run under torchrun: start the run once, and `understudy search worker DIR` for each further "
                "device."
            )
        return recipe, []

    def check(self, recipe: Any, data: Any, teacher: Any, student: Any) -> str:
        from understudy.methods.kdnas.plan import space_of

        return f"the method finds the student: {space_of(recipe, recipe.method, teacher)[0].describe()}"

    def stages(self, recipe: Any, facts: Facts) -> list[Stage]:
        from understudy.methods.kdnas.plan import stages

        return stages(recipe, recipe.method, facts)

    def arm(self, own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
        from understudy.methods.kdnas.plan import arm

        return arm(own, base), []

    def affordable(
        self, own: Mapping[str, Any], recipe: Any, facts: Facts, kind: str, total: float
    ) -> tuple[dict[str, Any], list[str]]:
        from understudy.methods.kdnas.plan import affordable

        return affordable(recipe, recipe.method, facts, kind, total)

    def expected_share(self, recipe: Any, teacher: Any) -> float:
        from understudy.methods.kdnas.plan import expected_share

        return expected_share(recipe, recipe.method, teacher)

    def student_step(self, recipe: Any, kept: Mapping[str, Any]) -> str:
        return kept["full-kd"]["rows"][kept["full-kd"]["chosen"]]["step"]

    def spent(self, stage: Stage, recipe: Any, kept: Mapping[str, Any], rows: int) -> tuple[int, float] | None:
        from understudy.methods.kdnas.plan import spent

        return spent(recipe.method, kept["search"], rows) if stage.name == "search" else None

    def search_result(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        from understudy.methods.kdnas.page import search_result

        return search_result(kept)

    def section(self, kept: Mapping[str, Any]) -> dict[str, Any] | None:
        from understudy.methods.kdnas.page import section

        return section(kept)

    def distil(self, settings: KDNAS, lab: Any) -> Any:
        from understudy.methods.kdnas.distil import distil

        return distil(settings, lab)

    def untrained(self, settings: KDNAS, lab: Any) -> Any:
        from understudy.methods.kdnas.distil import untrained

        return untrained(lab)

    def join(self, settings: KDNAS, lab: Any) -> int:
        from understudy.methods.kdnas.distil import join

        return join(settings, lab)


METHOD = _KDNAS()
