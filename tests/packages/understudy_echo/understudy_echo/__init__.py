"""Echo: the student repeats its teacher's answers, first faintly (softened), then aloud.

A method for understudy in a package of its own, with a term, `overlap`, that goes with any method. What is heavy is imported
by the modules that are asked: `plan.py`, `distil.py`, `page.py`.
"""

from __future__ import annotations

from understudy.recipe.method import Method
from understudy_echo.settings import Echo


class _Echo(Method):
    Settings = Echo
    summary = "repeat the teacher's answers, first softened, then as they are; labels are not looked at"
    needs = "a teacher with a trained head, and a task of classes"


METHOD = _Echo()
