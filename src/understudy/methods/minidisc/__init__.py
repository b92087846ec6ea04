"""MiniDisc: prune, and distil through one assistant, chosen among sub-networks that are trained together."""

from __future__ import annotations

from understudy.methods.minidisc.flags import FLAGS
from understudy.methods.minidisc.settings import MiniDisc
from understudy.recipe.staged import StagedMethod


class _MiniDisc(StagedMethod):
    Settings = MiniDisc
    flags = FLAGS
    summary = "prune and distil through the best teacher assistant, chosen among sub-networks that are trained together"
    needs = "a fine-tuned teacher, and `student.sparsity`, the share of its heads and neurons that goes"


METHOD = _MiniDisc()
