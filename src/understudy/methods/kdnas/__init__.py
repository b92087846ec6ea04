"""KD-NAS: many short distillations find the architecture, one thorough distillation makes the student.

    settings.py    what a recipe may say                              distil.py      the search, then full KD of the best
    candidates.py  what is tried: student, mini-KD, latency, reward   study.py       the durable study: workers, claims, retries
    space.py       the legal architectures, and what each costs       warm_start.py  a student cut out of its teacher
    engines.py     who is tried next: random, TPE, NSGA-II, LSTM      controller.py  the LSTM that predicts rewards
    reward.py      quality and latency in one number
"""

from __future__ import annotations

from understudy.methods.kdnas.objective import KEYS
from understudy.methods.kdnas.settings import KDNAS, STUDY
from understudy.recipe.method import Method


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


METHOD = _KDNAS()
