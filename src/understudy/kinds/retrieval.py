"""How good a ranking is, for one query: the definitions of trec_eval, with its order of ties.

Grades are linear gains; a document whose grade is not above 0 is not relevant. Queries without a relevant document are for the
caller to leave out; one for which nothing was found scores 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def ranked(scores: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """The places of documents, the best score first; of equal ones that with the greater id, as trec_eval has it."""
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__, reverse=True), dtype=np.int64)
    return by_id[np.argsort(-np.asarray(scores)[by_id], kind="stable")]


def ndcg(grades: np.ndarray, judged: Sequence[float], k: int) -> float:
    """Σ_r g_r / log2(r + 1) over the first k, divided by that of the k best judged documents.

    Args:
        grades: of the documents found, in their order; 0 for one that was not judged.
        judged: of all judged documents.
    """
    gains = np.clip(np.asarray(grades[:k], np.float64), 0, None)
    best = np.sort(np.clip(np.asarray(judged, np.float64), 0, None))[::-1][:k]
    discounts = np.log2(np.arange(2, max(len(gains), len(best)) + 2))
    ideal = (best / discounts[: len(best)]).sum()
    return float((gains / discounts[: len(gains)]).sum() / ideal) if ideal else 0.0


def reciprocal_rank(grades: np.ndarray, k: int) -> float:
    """1 / rank of the first relevant document, 0 where none is among the first k."""
    places = np.flatnonzero(np.asarray(grades[:k]) > 0)
    return 1 / (int(places[0]) + 1) if len(places) else 0.0


def average_precision(grades: np.ndarray, relevant: int) -> float:
    """The mean over all relevant documents of the precision at their ranks; those not found count 0."""
    places = np.flatnonzero(np.asarray(grades) > 0)
    return float((np.arange(1, len(places) + 1) / (places + 1)).sum() / relevant) if relevant else 0.0


def recall(grades: np.ndarray, relevant: int, k: int) -> float:
    """The share of all relevant documents among the first k."""
    return float((np.asarray(grades[:k]) > 0).sum() / relevant) if relevant else 0.0


MEASURES = ("ndcg@10", "mrr@10", "map", "recall@10", "recall@100")
SHOWN = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "map": "MAP", "recall@10": "recall@10", "recall@100": "recall@100"}


def measures(order: Sequence[int], ids: Sequence[str], judged: Mapping[str, float]) -> list[float]:
    """`MEASURES` of one query.

    Args:
        order: places of documents in `ids`, the best first.
        judged: document -> grade.
    """
    grades = np.array([judged.get(ids[place], 0.0) for place in order])
    relevant = sum(grade > 0 for grade in judged.values())
    return [
        ndcg(grades, list(judged.values()), 10), reciprocal_rank(grades, 10), average_precision(grades, relevant),
        recall(grades, relevant, 10), recall(grades, relevant, 100),
    ]  # fmt: skip
