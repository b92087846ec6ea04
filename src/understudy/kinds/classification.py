"""Classification: each text has one of C classes. Scores are logits (N, C), gold class numbers (N,)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds.arithmetic import Statistic, counter, f1, log_softmax, mean_of, precision, ratio, recall
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor


def positive_label(labels: Sequence[str]) -> int:
    """The class that binary F1, precision and recall are about: the label named '1', else the second one."""
    return labels.index("1") if "1" in labels else 1


class Classification(Kind):
    problem_type = "single_label_classification"
    metrics = ("accuracy", "f1", "precision", "recall", "macro_f1", "micro_f1", "mcc", "loss")
    onnx_answer = 'print([config["id2label"][str(i)] for i in outputs.argmax(-1)])'

    def absent(self, labels: Sequence[Label], names: Sequence[str]) -> list[str]:
        present = set(labels)
        return [name for number, name in enumerate(names) if number not in present]

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean", weights: Tensor | None = None) -> Tensor:
        """Cross-entropy. weights: (C,), how much a row of each class counts."""
        from understudy import losses

        return losses.cross_entropy(logits, labels, weights=weights, reduction=reduction)

    def confidence(self, logits: np.ndarray) -> np.ndarray:
        """The largest softmax probability, at temperature 1."""
        logits = np.asarray(logits, dtype=np.float64)
        return 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)

    def decide(self, scores: Any) -> np.ndarray:
        """Class numbers (N,)."""
        return np.asarray(scores).argmax(axis=1)

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        powers = np.exp(scores.astype(np.float64) - scores.max())
        named = dict(zip(labels, (round(float(share), 6) for share in powers / powers.sum()), strict=True))
        return {"label": max(named, key=named.__getitem__), "probabilities": named}

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        return labels[int(decision)]

    def distance(self, one: Any, other: Any) -> np.ndarray:
        """How far apart the probabilities are, where the classes differ."""
        gap = np.abs(_softmax(one) - _softmax(other)).sum(axis=1)
        return np.where(self.decide(one) != self.decide(other), gap, 0.0)

    def constant(self, labels: Sequence[Any], outputs: int, sizes: Sequence[int]) -> np.ndarray:
        """The logarithm of each class's share: the most frequent class, as sure as the shares make it."""
        shares = np.bincount(np.asarray(labels, np.int64), minlength=outputs) / len(labels)
        with np.errstate(divide="ignore"):
            return np.tile(np.log(shares).clip(min=-50.0), (len(sizes), 1))

    def problem(self, ids: Sequence[str], scores: Any, gold: Any, labels: Sequence[str]) -> str | None:
        return one_output_per_label(scores, labels)

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("accuracy", "f1") if len(labels) == 2 else ("accuracy", "macro_f1")

    def about(self, metric: str, labels: Sequence[str]) -> str | None:
        return labels[positive_label(labels)] if len(labels) == 2 and metric in ("f1", "precision", "recall") else None

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        """With two classes f1, precision and recall are those of `positive_label`, else macro averages."""
        gold, said = np.asarray(gold), self.decide(scores)
        rows = np.arange(len(gold))
        is_gold, is_said = np.zeros((2, len(gold), len(labels)))
        is_gold[rows, gold] = is_said[rows, said] = 1
        counts = counter(is_gold, is_said)
        one = positive_label(labels) if len(labels) == 2 else None

        def average(score: Callable[..., np.ndarray]) -> Statistic:
            def value(weights: np.ndarray) -> np.ndarray:
                hit, said_n, gold_n = counts(weights)
                per_class = score(hit, said_n, gold_n)
                if one is not None:
                    return per_class[:, one]
                return ratio(per_class.sum(axis=1), ((said_n + gold_n) > 0).sum(axis=1))

            return value

        def macro_f1(weights: np.ndarray) -> np.ndarray:
            # As scikit-learn: the mean over classes that occur in truth or predictions; an absent class is not a failure.
            hit, said_n, gold_n = counts(weights)
            return ratio(f1(hit, said_n, gold_n).sum(axis=1), ((said_n + gold_n) > 0).sum(axis=1))

        def mcc(weights: np.ndarray) -> np.ndarray:
            """R_K for any number of classes (Gorodkin 2004), Matthews' coefficient for two."""
            hit, said_n, gold_n = counts(weights)
            total = weights.sum(axis=1)
            covariance = hit.sum(axis=1) * total - (said_n * gold_n).sum(axis=1)
            spread = np.sqrt(total**2 - (said_n**2).sum(axis=1)) * np.sqrt(total**2 - (gold_n**2).sum(axis=1))
            return ratio(covariance, spread)

        accuracy = mean_of((gold == said).astype(np.float64))
        loss = mean_of(-log_softmax(np.asarray(scores, dtype=np.float64))[rows, gold])
        return {
            "accuracy": accuracy, "f1": average(f1), "precision": average(precision), "recall": average(recall),
            "macro_f1": macro_f1, "micro_f1": accuracy, "mcc": mcc, "loss": loss,
        }  # fmt: skip

    def class_counts(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, tuple[int, int, int]]:
        table = self.confusion(labels, scores, gold)
        return named_counts(labels, np.diag(table), table.sum(axis=0), table.sum(axis=1))

    def confusion(self, labels: Sequence[str], scores: Any, gold: Any) -> np.ndarray:
        cell = np.asarray(gold) * len(labels) + self.decide(scores)
        return np.bincount(cell, minlength=len(labels) ** 2).reshape(len(labels), len(labels))


def one_output_per_label(scores: Any, labels: Sequence[str]) -> str | None:
    """Why scores do not fit the labels; None where they do."""
    if np.shape(scores)[1:] == (len(labels),):
        return None
    return (
        f" has {len(labels)} labels, but the model gave scores of shape {np.shape(scores)}; its head must have one output "
        "per label."
    )


def named_counts(labels: Sequence[str], *counts: np.ndarray) -> dict[str, tuple[int, int, int]]:
    """label -> (hits, predicted, gold), from three arrays (C,)."""
    return {label: (int(hit), int(said), int(gold)) for label, hit, said, gold in zip(labels, *counts, strict=True)}


def _softmax(logits: Any) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


KIND = Classification("classification")
