"""Counts: how often something happens in a text, by Poisson regression. The model's one output is the log of the rate.

A kind of task as another package brings it: one file, and one line of entry points in pyproject.toml.
"""

from __future__ import annotations

import numpy as np
from torch.nn import functional as F

from understudy.base.errors import DataError
from understudy.kinds import Kind, cells
from understudy.kinds.arithmetic import mean_of


class Counts(Kind):
    named = False
    distribution = None
    no_confidence = "a rate is neither right nor wrong"
    numeric = True
    metrics = ("mae", "deviance")
    errors = frozenset({"mae", "deviance"})

    def names_in(self, cell, *, separator, where):
        return []

    def parse(self, cell, numbers, *, separator, where):
        count = cells.score(cell, where=where)
        if count < 0 or count != int(count):
            raise DataError(f"{where}: {count} is not a count; give a whole number from 0.")
        return count

    def gold(self, labels):
        return np.asarray(labels, np.float64)

    def targets(self, labels, outputs):
        return np.array(labels, np.float32)

    def trained(self, config):
        return False  # transformers has no word for it: such a model is loaded for a task, not by itself

    def loss(self, logits, labels, *, reduction="mean"):
        return F.poisson_nll_loss(logits[:, 0], labels, reduction=reduction)

    def collect(self, rows, examples, taught=None):
        scores, gold = super().collect(rows, examples, taught)
        return np.exp(scores[:, 0]), gold

    def decide(self, scores):
        return np.asarray(scores, np.float64)

    def answer(self, scores, labels, words):
        return {"rate": round(float(scores), 4)}

    def in_words(self, decision, labels, words):
        return f"{float(decision):.1f}"

    def right(self, said, gold):
        return np.rint(said) == gold

    def distance(self, one, other):
        return np.abs(one - other)

    def one_answer(self, decisions):
        return False

    def default_metrics(self, labels):
        return self.metrics

    def statistics(self, labels, scores, gold):
        surprise = np.where(gold > 0, gold * np.log(np.maximum(gold, 1) / scores), 0.0) - (gold - scores)
        return {"mae": mean_of(np.abs(scores - gold)), "deviance": mean_of(2 * surprise)}


KIND = Counts("counts")
