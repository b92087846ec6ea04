"""MaxiDisc: a student for every assistant, trained from beginning to end, and the best one kept."""

from __future__ import annotations

from understudy.methods.maxidisc.settings import MaxiDisc
from understudy.recipe.staged import StagedMethod


class _MaxiDisc(StagedMethod):
    Settings = MaxiDisc
    summary = "prune and distil through a teacher assistant; every assistant is tried, the best one on held-out rows is kept"
    needs = "a fine-tuned teacher, and a student that is part of it (`student.sparsity` or `student.num_layers`)"


METHOD = _MaxiDisc()
