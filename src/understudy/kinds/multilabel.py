"""Several labels at once: each of C labels applies to a text or not. Scores are logits (N, C), gold 0 or 1 (N, C)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds import cells
from understudy.kinds.arithmetic import Statistic, counter, f1, mean_of, precision, recall
from understudy.kinds.classification import named_counts, one_output_per_label
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor


class Multilabel(Kind):
    problem_type = "multi_label_classification"
    distribution = "sigmoid"
    pipeline_options = ", truncation=True, top_k=None"  # each label's probability; those above one half apply
    metrics = ("micro_f1", "macro_f1", "f1", "precision", "recall", "accuracy", "loss")
    onnx_answer = 'print([[config["id2label"][str(i)] for i in np.flatnonzero(row > 0)] for row in outputs])'

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return cells.label_names(cell, separator=separator, where=where)

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        return cells.indicator(cells.label_names(cell, separator=separator, where=where), numbers, where=where)

    def classes(self, label: Any) -> set[int]:
        return {number for number, on in enumerate(label) if on}

    def targets(self, labels: Sequence[Any], outputs: int) -> np.ndarray:
        none = [np.nan] * outputs
        return np.array([none if label is None else label for label in labels], np.float32).reshape(len(labels), outputs)

    def batch_labels(self, labels: Tensor) -> Tensor:
        return labels.float()

    def balanced(self, labels: Sequence[Any], outputs: int) -> list[float]:
        """For each label, rows without it by rows with it: as much is learnt from those that have it as from the others."""
        on = np.asarray(labels).sum(axis=0)
        return [float((len(labels) - count) / count) if 0 < count < len(labels) else 1.0 for count in on]

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean", weights: Tensor | None = None) -> Tensor:
        """Binary cross-entropy, averaged over labels. weights: (C,), how much a row that has the label counts."""
        from understudy import losses

        return losses.binary_cross_entropy(logits, labels, weights=weights, reduction=reduction)

    def confidence(self, logits: np.ndarray) -> np.ndarray:
        """The answer is a set of labels; its probability is the product over labels of max(p, 1 - p)."""
        logits = np.asarray(logits, dtype=np.float64)
        return np.exp(-np.logaddexp(0.0, -np.abs(logits)).sum(axis=1))

    def decide(self, scores: Any) -> np.ndarray:
        """0 or 1, (N, C): whether the logit is above 0."""
        return (np.asarray(scores) > 0).astype(np.int64)

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        shares = 1 / (1 + np.exp(-scores.astype(np.float64)))
        named = dict(zip(labels, (round(float(share), 6) for share in shares), strict=True))
        return {"labels": [label for label, share in named.items() if share > 0.5], "probabilities": named}

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        return ", ".join(label for label, on in zip(labels, decision, strict=True) if on) or "none"

    def right(self, said: Any, gold: Any) -> np.ndarray:
        return (said == (np.asarray(gold) > 0)).all(axis=1)

    def distance(self, one: Any, other: Any) -> np.ndarray:
        """How many labels the two decide otherwise."""
        return (self.decide(one) != self.decide(other)).sum(axis=1).astype(np.float64)

    def constant(self, labels: Sequence[Any], outputs: int, sizes: Sequence[int]) -> np.ndarray:
        """The logit of each label's share."""
        shares = self.targets(labels, outputs).mean(axis=0).clip(1e-6, 1 - 1e-6)
        return np.tile(np.log(shares / (1 - shares)), (len(sizes), 1))

    def problem(self, ids: Sequence[str], scores: Any, gold: Any, labels: Sequence[str]) -> str | None:
        return one_output_per_label(scores, labels)

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("micro_f1", "macro_f1", "accuracy")

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        gold, said = np.asarray(gold, dtype=np.float64), self.decide(scores).astype(np.float64)
        counts = counter(gold, said)
        logits = np.asarray(scores, dtype=np.float64)

        def micro(score: Callable[..., np.ndarray]) -> Statistic:
            return lambda weights: score(*(part.sum(axis=1) for part in counts(weights)))

        return {
            "micro_f1": micro(f1), "macro_f1": lambda weights: f1(*counts(weights)).mean(axis=1), "f1": micro(f1),
            "precision": micro(precision), "recall": micro(recall),
            "accuracy": mean_of((gold == said).all(axis=1).astype(np.float64)),
            "loss": mean_of((np.logaddexp(0.0, logits) - gold * logits).mean(axis=1)),
        }  # fmt: skip

    def class_counts(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, tuple[int, int, int]]:
        gold, said = np.asarray(gold, dtype=np.int64), self.decide(scores)
        return named_counts(labels, (gold & said).sum(axis=0), said.sum(axis=0), gold.sum(axis=0))


KIND = Multilabel("multilabel")
