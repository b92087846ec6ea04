"""Embedding: a text becomes a vector. There is nothing to decide about a single text; vectors are judged by each other.

A set of rows is one of three, told by what its rows have:

    pairs with a score      how well cosines follow the scores: Spearman's and Pearson's correlation
    queries and documents   how well a query's nearest documents are the relevant ones: nDCG@10, MRR@10, MAP, recall
    texts alone             nothing but the teacher to compare with

and wherever there is a teacher, in each of them the agreement with it. Scores are (J, M): for each judged row (pair, query or
text) one number of each of `COLUMNS`, NaN where it has none. Gold is (J,), the scores of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds import retrieval
from understudy.kinds.arithmetic import Statistic, correlation, mean_of, ranker, unit
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("cosine", *retrieval.MEASURES, "teacher_cosine", "top10")
NEAREST = 10
"""Neighbours whose overlap with the teacher's is counted."""
_AT_ONCE = 512  # rows of a table of similarities that are in memory


class Embedding(Kind):
    labelled = False
    by_objective = True
    rows = "texts"
    pooled = True
    apart = "texts"
    named = False
    own = {"vectors": 1.0}
    by_labels = "contrastive"
    auto = "AutoModel"
    peft_type = "FEATURE_EXTRACTION"
    pipeline = "sentence-similarity"
    library = "sentence-transformers"
    code = (
        "from sentence_transformers import SentenceTransformer", "", 'model = SentenceTransformer(".")',
        'vectors = model.encode(["My printer is on fire.", "The printer burns."])', "print(model.similarity(vectors, vectors))",
    )  # fmt: skip
    distribution = None
    no_confidence = "a vector is neither right nor wrong"
    metrics = ("spearman", "pearson", *retrieval.MEASURES, "teacher_cosine", "top10")
    shown = {**retrieval.SHOWN, "teacher_cosine": "cosine to the teacher", "top10": "shared nearest ten"}
    without = "no training at all"
    onnx_answer = "print(outputs.shape)"

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return []

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        raise NotImplementedError("texts are read by `data.texts`")

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        return None

    def targets(self, labels: Sequence[Any], outputs: int) -> None:
        return None  # `data.encode` says which texts belong together

    def has_head(self, config: Any) -> bool:
        return True

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return self.metrics

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean") -> Tensor:
        raise NotImplementedError("what a vector should be is said by terms of `objective`")

    def judged(self, examples: Sequence[Any]) -> Sequence[Any]:
        """Queries with a relevant document, pairs, or texts: all that is no document of queries."""
        queries = any(row.role == "query" for row in examples)
        return [row for row in examples if row.label] if queries else examples

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        vectors = np.stack(rows).astype(np.float32) if rows else np.empty((0, 1), np.float32)
        theirs = None if taught is None else np.stack(taught).astype(np.float32)
        judged = self.judged(examples)
        scores = np.full((len(judged), len(COLUMNS)), np.nan)
        if any(row.role == "query" for row in examples):
            self._queries(scores, vectors, theirs, examples)
        else:
            self._texts(scores, vectors, theirs, examples)
        gold = [row.label if isinstance(row.label, int | float) else np.nan for row in judged]
        return scores, np.array(gold, dtype=np.float64)

    def _queries(self, scores: np.ndarray, vectors: np.ndarray, theirs: np.ndarray | None, examples: Sequence[Any]) -> None:
        places = [i for i, row in enumerate(examples) if row.role != "query"]
        asked = [i for i, row in enumerate(examples) if row.role == "query" and row.label]
        ids, texts = [examples[i].id for i in places], [examples[i].text for i in places]
        for number, i in enumerate(asked):
            query = examples[i]
            same = [n for n, one in enumerate(ids) if one == query.id and texts[n] == query.text]  # no answer to itself
            found = retrieval.ranked(_without(vectors[places] @ vectors[i], same), ids)[: len(ids) - len(same)]
            scores[number, 1 : 1 + len(retrieval.MEASURES)] = retrieval.measures(found.tolist(), ids, dict(query.label))
            if theirs is not None:
                nearest = retrieval.ranked(_without(theirs[places] @ theirs[i], same), ids)[: len(ids) - len(same)]
                shared = set(found[:NEAREST].tolist()) & set(nearest[:NEAREST].tolist())
                scores[number, -1] = len(shared) / max(1, min(NEAREST, len(nearest)))
        if theirs is not None:
            scores[:, -2] = _alike(vectors[asked], theirs[asked])

    def _texts(self, scores: np.ndarray, vectors: np.ndarray, theirs: np.ndarray | None, examples: Sequence[Any]) -> None:
        sizes = [(row.text is not None) + (row.pair is not None) + len(row.more) for row in examples]
        starts = np.cumsum(sizes, dtype=np.int64) - np.array(sizes, np.int64)
        if all(isinstance(row.label, int | float) for row in examples):
            scores[:, 0] = _alike(vectors[starts], vectors[starts + 1])
        if theirs is None or not len(examples):
            return
        scores[:, -2] = np.add.reduceat(_alike(vectors, theirs), starts) / sizes
        scores[:, -1] = np.add.reduceat(_shared_neighbours(vectors, theirs), starts) / sizes

    def broken(self, scores: Any) -> bool:
        """NaN is what a set has not."""
        return bool(np.isinf(scores).any() or np.isnan(scores).all(axis=1).any())

    def decide(self, scores: Any) -> np.ndarray:
        return np.asarray(scores, dtype=np.float64)

    def one_answer(self, decisions: Any) -> bool:
        """Whether all pairs are equally alike."""
        cosines = decisions[:, 0]
        return len(decisions) > 1 and bool((cosines == cosines[:1]).all())

    def same(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        return None

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        """Those of `metrics` that these rows have."""
        scores, gold = np.asarray(scores, dtype=np.float64), np.asarray(gold, dtype=np.float64)
        there = {name: scores[:, i] for i, name in enumerate(COLUMNS) if not np.isnan(scores[:, i]).any()}
        found: dict[str, Statistic] = {}
        if (cosines := there.pop("cosine", None)) is not None:
            true, said = ranker(gold), ranker(cosines)
            found["spearman"] = lambda weights: correlation(weights, true(weights), said(weights))
            found["pearson"] = lambda weights: correlation(weights, unit(gold), unit(cosines))
        return found | {name: mean_of(values) for name, values in there.items()}


def _without(scores: np.ndarray, places: list[int]) -> np.ndarray:
    """Scores with these places last."""
    scores = scores.copy()
    scores[places] = -np.inf
    return scores


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, V) twice -> (N,) cosines, 0 for a vector of zeros; NaN where widths differ: the spaces are not one."""
    if one.shape[1] != other.shape[1]:
        return np.full(len(one), np.nan)
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.where(lengths, lengths, 1.0)


def _shared_neighbours(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(N,): which share of a text's ten nearest others are the same for both."""
    number = len(ours)
    many = min(NEAREST, number - 1)
    found = np.zeros(number)
    for start in range(0, number if many > 0 else 0, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, number))
        nearest = []
        for vectors in (ours, theirs):
            table = vectors[rows] @ vectors.T
            table[np.arange(len(rows)), rows] = -np.inf
            nearest.append(np.argsort(-table, axis=1, kind="stable")[:, :many])
        found[rows] = [len(set(a) & set(b)) / many for a, b in zip(*(one.tolist() for one in nearest), strict=True)]
    return found


KIND = Embedding("embedding")
