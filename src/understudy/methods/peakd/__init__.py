"""Pea-KD: patient distillation of a student that uses its layers twice and knows beforehand what its teacher is sure of."""

from __future__ import annotations

from understudy.methods.peakd.flags import FLAGS
from understudy.methods.peakd.objective import KEYS
from understudy.methods.peakd.settings import PeaKD
from understudy.recipe.method import Method


class _PeaKD(Method):
    Settings = PeaKD
    flags = FLAGS
    summary = (
        "patient distillation of layers and soft labels, shuffled parameter sharing, and pre-training with the teacher's "
        "predictions"
    )
    needs = "a teacher with a trained head; tokenizers may differ; pre-training needs labels of classes"
    share = "sps"
    objective_keys = KEYS
    parity = {"train": {"optimizer": "bertadam", "clip": "tensor", "shuffle": False}}


METHOD = _PeaKD()
