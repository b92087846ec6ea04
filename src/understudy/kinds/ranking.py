"""Ranking: the passages of a query get a score each, from a model that reads query and passage together (a cross-encoder).

Scores and gold are one array per query: the scores of its passages, and their grades; behind those stand the grades of relevant
passages that the list lacks. Passages with equal scores are taken to stand in the order of their grades, the lowest first: a
model that tells nothing apart gains nothing, whatever the order of the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds import retrieval
from understudy.kinds.arithmetic import Statistic, mean_of
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor


class Ranking(Kind):
    rows = "texts"
    apart = "pairs"
    named = False
    own = {"soft": 1.0}
    pipeline = "text-ranking"
    pipeline_row = '{"text": "Who repairs printers?", "text_pair": "My printer is on fire."}'
    library = "sentence-transformers"
    code = (
        "from sentence_transformers import CrossEncoder", "", 'model = CrossEncoder(".")',
        'print(model.predict([("Who repairs printers?", "My printer is on fire.")]))',
    )  # fmt: skip
    distribution = None
    no_confidence = "a score orders passages and is neither right nor wrong"
    metrics = retrieval.MEASURES
    shown = retrieval.SHOWN
    onnx_rows = '[("Who repairs printers?", "My printer is on fire."), ("Who?", "Thanks!")]'
    onnx_answer = "print(outputs[:, 0])"

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return []

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        raise NotImplementedError("lists are read by `data.texts`")

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        return None

    def targets(self, labels: Sequence[Any], outputs: int) -> None:
        return None  # `data.encode` makes them, one for each passage

    def trained(self, config: Any) -> bool:
        return False  # its configuration is a regression's; a student of ours says what it is

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return self.metrics

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean") -> Tensor:
        """Binary cross-entropy of each pair (N, 1), grades above 1 being 1; 0 for passages without a grade."""
        from understudy import losses
        from understudy.losses.rows import over_rows

        grades = labels[:, 1]
        known = ~grades.isnan()
        parts = losses.binary_cross_entropy(logits, grades.nan_to_num().clamp(0, 1)[:, None], reduction="none")
        return over_rows(parts * known, reduction)

    def gold(self, labels: Sequence[Any]) -> list[np.ndarray]:
        return [np.asarray(grades, np.float64) for grades in labels]

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        ends = np.cumsum([len(row.more) for row in examples])
        scores = np.array([float(row[0]) for row in rows])
        labels = [row.label for row in examples]
        return np.split(scores, ends[:-1]) if len(ends) else [], None if None in labels else self.gold(labels)

    def broken(self, scores: Any) -> bool:
        return not all(np.isfinite(row).all() for row in scores)

    def decide(self, scores: Any) -> list[np.ndarray]:
        """The order of each query's passages, the best first."""
        return [np.argsort(-np.asarray(row), kind="stable") for row in scores]

    def same(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        return None

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        return {"scores": [round(float(one), 6) for one in scores]}

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        return " > ".join(str(int(place) + 1) for place in decision[:10])

    def right(self, said: Any, gold: Any) -> np.ndarray:
        """Whether a best passage comes first."""
        return np.array([bool(len(order)) and grades[order[0]] == grades.max() for order, grades in zip(said, gold, strict=True)])

    def distance(self, one: Any, other: Any) -> np.ndarray:
        """How many passages stand at other places."""
        pairs = zip(self.decide(one), self.decide(other), strict=True)
        return np.array([float((a != b).sum()) for a, b in pairs])

    def one_answer(self, decisions: Any) -> bool:
        return False

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        table = np.array([_measures(row, grades) for row, grades in zip(scores, gold, strict=True)])
        return {name: mean_of(table[:, i]) for i, name in enumerate(retrieval.MEASURES)}


def _measures(scores: np.ndarray, grades: np.ndarray) -> list[float]:
    order = np.lexsort((grades[: len(scores)], -np.asarray(scores, np.float64)))
    names = [str(i) for i in range(len(grades))]
    return retrieval.measures(order.tolist(), names, dict(zip(names, grades.tolist(), strict=True)))


KIND = Ranking("ranking")
