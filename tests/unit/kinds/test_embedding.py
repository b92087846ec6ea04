"""Vectors are judged as trec_eval, ranx and scipy judge them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from understudy.data.types import Example, Task
from understudy.evaluate.bootstrap import resample
from understudy.evaluate.metrics import compute
from understudy.evaluate.predictions import Predictions
from understudy.kinds import kind
from understudy.kinds.retrieval import measures, ranked

EMBEDDING = kind("embedding")
METRICS = EMBEDDING.default_metrics(())
TASK = Task("vectors", EMBEDDING, (), METRICS, METRICS[0])


def score(vectors: np.ndarray, rows: list[Example], taught: np.ndarray | None = None) -> dict[str, float]:
    scores, gold = EMBEDDING.collect(list(vectors), rows, None if taught is None else list(taught))
    judged = EMBEDDING.judged(rows)
    return compute(TASK, Predictions([row.id for row in judged], scores, gold))


def retrieval(seed: int, *, documents: int = 60, queries: int = 9) -> tuple[np.ndarray, list[Example], dict[str, dict[str, int]]]:
    """Vectors of few values, so that many scores tie; graded judgements, some of them 0 or negative, of few documents."""
    draw = np.random.default_rng(seed)
    vectors = draw.integers(-1, 2, (queries + documents, 4)).astype(np.float32)
    qrels: dict[str, dict[str, int]] = {}
    for q in range(queries):
        chosen = draw.choice(documents, 12, replace=False)
        qrels[f"q{q}"] = {f"{d:03}": int(draw.integers(-1, 4)) for d in chosen} | {f"{chosen[0]:03}": 2}
    rows = [Example(q, f"query {q}", label=tuple(judged.items()), role="query") for q, judged in qrels.items()]  # type: ignore[arg-type]
    rows += [Example(f"{d:03}", f"text {d}", role="document") for d in range(documents)]
    return vectors, rows, qrels


@pytest.mark.parametrize("seed", range(8))
def test_ranking_measures_are_those_of_trec_eval(seed: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    vectors, rows, qrels = retrieval(seed)
    found = vectors[:9] @ vectors[9:].T
    run = {f"q{q}": {f"{d:03}": float(found[q, d]) for d in range(60)} for q in range(9)}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "map", "recall_10", "recall_100", "recip_rank"})
    theirs = evaluator.evaluate(run)
    ours = score(vectors, rows)
    for name, called in {"ndcg@10": "ndcg_cut_10", "map": "map", "recall@10": "recall_10", "recall@100": "recall_100"}.items():
        assert ours[name] == pytest.approx(np.mean([theirs[q][called] for q in qrels]), abs=1e-9)
    cut = [rank if (rank := theirs[q]["recip_rank"]) >= 0.1 else 0.0 for q in qrels]
    assert ours["mrr@10"] == pytest.approx(np.mean(cut), abs=1e-9)


@pytest.mark.slow  # ranx compiles itself for a minute
@pytest.mark.parametrize("seed", range(3))
def test_ranking_measures_are_those_of_ranx_where_nothing_ties(seed: int) -> None:
    ranx = pytest.importorskip("ranx")
    vectors, rows, qrels = retrieval(seed)
    vectors = np.random.default_rng(seed).normal(size=vectors.shape).astype(np.float32)
    positive = {q: {d: max(0, grade) for d, grade in judged.items()} for q, judged in qrels.items()}
    found = vectors[:9] @ vectors[9:].T
    run = {f"q{q}": {f"{d:03}": float(found[q, d]) for d in range(60)} for q in range(9)}
    names = ["ndcg@10", "mrr@10", "map", "recall@10", "recall@100"]
    theirs = ranx.evaluate(ranx.Qrels(positive), ranx.Run(run), names)
    ours = score(vectors, rows)
    assert [ours[name] for name in names] == pytest.approx([theirs[name] for name in names], abs=1e-9)


def test_ties_do_not_depend_on_the_order_of_documents() -> None:
    vectors, rows, _ = retrieval(0)
    order = np.random.default_rng(1).permutation(60)
    again = np.concatenate([vectors[:9], vectors[9:][order]])
    assert score(again, [*rows[:9], *(rows[9 + i] for i in order)]) == score(vectors, rows)
    assert ranked(np.zeros(3), ["a", "c", "b"]).tolist() == [1, 2, 0]


def test_a_query_is_no_answer_to_itself() -> None:
    rows = [Example("1", "how", label=(("2", 1.0),), role="query"), Example("1", "how", role="document"),
            Example("2", "so", role="document"), Example("3", "no", role="document")]  # fmt: skip
    vectors = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
    assert score(vectors, rows)["mrr@10"] == 1.0
    rows[1] = Example("1", "another text under the same id", role="document")
    assert score(vectors, rows)["mrr@10"] == 0.5


def test_only_queries_with_a_relevant_document_are_judged_and_what_is_not_found_counts() -> None:
    rows = [Example("a", "x", label=(("1", 1.0), ("gone", 1.0)), role="query"), Example("1", "y", role="document")]
    found = score(np.eye(2, dtype=np.float32), rows)
    assert found["recall@10"] == 0.5 and found["map"] == 0.5
    assert measures([], [], {"1": 1.0}) == [0.0] * 5


def test_pairs_are_judged_by_scipys_correlations() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(60, 5)).astype(np.float32)
    rows = [Example(str(i), "a", "b", label=float(draw.integers(0, 6))) for i in range(30)]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    found, gold = score(vectors, rows), [row.label for row in rows]
    assert set(found) == {"spearman", "pearson"}
    assert found["spearman"] == pytest.approx(stats.spearmanr(cosines, gold)[0], abs=1e-6)
    assert found["pearson"] == pytest.approx(stats.pearsonr(cosines, gold)[0], abs=1e-6)


def test_texts_alone_are_judged_by_their_teacher() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(2, 15, 4)).astype(np.float32)
    found = score(ours, rows := [Example(str(i), str(i)) for i in range(15)], theirs)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert found["teacher_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
    shared = []
    for i in range(15):
        nearest = [{j for j in np.argsort(-(v @ v[i])) if j != i and j in [k for k in np.argsort(-(v @ v[i])) if k != i][:10]}
                   for v in (ours, theirs)]  # fmt: skip
        shared.append(len(nearest[0] & nearest[1]) / 10)
    assert found["top10"] == pytest.approx(np.mean(shared))
    assert set(score(ours[:, :3], rows, theirs)) == {"top10"}  # another space has no cosines to it
    same = score(theirs, rows, theirs)
    assert same["teacher_cosine"] == pytest.approx(1) and same["top10"] == 1


def test_a_vector_of_zeros_is_like_nothing() -> None:
    rows = [Example("1", "", "b", label=1.0), Example("2", "a", "b", label=2.0)]
    found = score(np.array([[0, 0], [1, 0], [1, 0], [1, 0]], np.float32), rows)
    assert found["spearman"] == pytest.approx(1)


def test_intervals_draw_queries_and_not_documents() -> None:
    vectors, rows, _ = retrieval(3)
    scores, gold = EMBEDDING.collect(list(vectors), rows)
    predictions = Predictions([row.id for row in EMBEDDING.judged(rows)], scores, gold)
    drawn = resample(TASK, {"student": predictions}, resamples=200)["student"]["ndcg@10"]
    per_query = scores[:, 1]
    assert drawn.value == pytest.approx(per_query.mean())
    assert drawn.samples.std() == pytest.approx(per_query.std() / 3, rel=0.25)
