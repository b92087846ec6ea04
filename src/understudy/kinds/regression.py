"""Regression: each text has a number. Scores and gold are numbers (N,), in the units of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds import cells
from understudy.kinds.arithmetic import Statistic, correlation, mean_of, ranker, unit
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor


class Regression(Kind):
    problem_type = "regression"
    named = False
    standardise = True
    distribution = None
    no_confidence = "a number is neither right nor wrong, and a regression head has no confidence"
    metrics = ("pearson", "spearman", "mse", "mae")
    errors = frozenset({"mse", "mae"})
    numeric = True
    onnx_answer = "print(outputs[:, 0])"

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return []

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        return cells.score(cell, where=where)

    def gold(self, labels: Sequence[Any]) -> np.ndarray:
        return np.asarray(labels, np.float64)

    def targets(self, labels: Sequence[Any], outputs: int) -> np.ndarray:
        return np.array(labels, np.float32)

    def batch_labels(self, labels: Tensor) -> Tensor:
        return super().batch_labels(labels).float()

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean") -> Tensor:
        """Squared error."""
        from understudy import losses

        return losses.squared_error(logits, labels, reduction=reduction)

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        scores, gold = super().collect(rows, examples)
        return scores[:, 0], gold

    def decide(self, scores: Any) -> np.ndarray:
        """The numbers themselves, (N,)."""
        return np.asarray(scores, dtype=np.float64).reshape(-1)

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        return {"value": round(float(scores), 6)}

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        return f"{float(decision):.2f}"

    def right(self, said: Any, gold: Any) -> np.ndarray:
        """Within half of the standard deviation of the truth."""
        gold = np.asarray(gold)
        return np.abs(said - gold.reshape(-1)) <= gold.std() / 2

    def distance(self, one: Any, other: Any) -> np.ndarray:
        return np.abs(self.decide(one) - self.decide(other))

    def one_answer(self, decisions: Any) -> bool:
        return False

    def constant(self, labels: Sequence[Any], outputs: int, sizes: Sequence[int]) -> np.ndarray:
        """The mean of the training labels."""
        return np.full(len(sizes), np.mean(labels))

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("pearson", "spearman", "mae")

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        gold, said = np.asarray(gold, dtype=np.float64).reshape(-1), self.decide(scores)
        gold_ranks, said_ranks = ranker(gold), ranker(said)
        return {
            "pearson": lambda weights: correlation(weights, unit(gold), unit(said)),
            "spearman": lambda weights: correlation(weights, gold_ranks(weights), said_ranks(weights)),
            "mse": mean_of((said - gold) ** 2),
            "mae": mean_of(np.abs(said - gold)),
        }


KIND = Regression("regression")
