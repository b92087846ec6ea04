"""A run of kind embedding from files to a folder that sentence-transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import embedders
import numpy as np
import pytest
import toys

from understudy.recipe.settings import Recipe
from understudy.run import train


def judged(folder: Path) -> None:
    """A BEIR folder and scored pairs: texts of one mood belong together."""
    rows = toys.sentences(40, seed=8)
    documents = [{"_id": f"0{i}", "title": "door" if i % 2 else "", "text": text} for i, (text, _) in enumerate(rows[:30])]
    queries = [{"_id": f"0{i}", "text": text} for i, (text, _) in enumerate(rows[30:])]
    (folder / "beir" / "qrels").mkdir(parents=True)
    for name, lines in (("corpus", documents), ("queries", queries)):
        (folder / "beir" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    grades = [f"0{q}\t0{d}\t1" for q in range(9) for d in range(30) if rows[30 + q][1] == rows[d][1]]
    (folder / "beir" / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *grades]), encoding="utf-8")
    pairs = [f"{a}\t{b}\t{5 * (m == n)}" for (a, m), (b, n) in zip(rows[:20], rows[20:], strict=True)]
    (folder / "sts.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *pairs]), encoding="utf-8")


def recipe(folder: Path, *, seed: int = 0, **changes: Any) -> dict[str, Any]:
    judged(folder)
    (folder / "texts.txt").write_text("\n".join(text for text, _ in toys.sentences(120, seed=1)), encoding="utf-8")
    (folder / "more.txt").write_text("\n".join(text for text, _ in toys.sentences(30, seed=2)), encoding="utf-8")
    embedders.save(folder / "teacher", layers=3, seed=seed, prompts={"query": "the good ", "document": ""})
    return {
        "task": {
            "name": "custom", "kind": "embedding", "path": str(folder), "max_length": 24, "files": {
                "train": "texts.txt", "test": {"sts": "sts.tsv", "beir": "beir", "texts": "more.txt"},
            },
        },
        "teacher": str(folder / "teacher"),
        "student": {"keep": [0, 2]},
        "method": "automm",
        "train": {"epochs": 8, "batch_size": 16, "lr": 1e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 20, "latency": {"repeats": 3, "length": 8}},
        **changes,
    }  # fmt: skip


def test_without_any_label_a_student_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    result = train(Recipe(**recipe(tmp_path)), tmp_path / "run")
    assert set(result["student"]["metrics"]["sts"]) == {"spearman", "pearson", "teacher_cosine", "top10"}
    ranked = {"ndcg@10", "mrr@10", "map", "recall@10", "recall@100", "teacher_cosine", "top10"}
    assert set(result["student"]["metrics"]["beir"]) == ranked
    assert set(result["student"]["metrics"]["texts"]) == {"teacher_cosine", "top10"}
    assert result["task"]["tests"] == {"sts": 20, "beir": 9, "texts": 30}
    for test in ("sts", "beir", "texts"):
        scores = {name: result[name]["metrics"][test] for name in ("teacher", "baseline", "student")}
        agreement = {name: one["teacher_cosine"]["value"] for name, one in scores.items()}
        assert agreement["teacher"] == pytest.approx(1, abs=1e-6)
        assert agreement["baseline"] < agreement["student"] < 1
    assert "over no training at all" in result["verdict"] or "tie" in result["verdict"] or "no training" in result["verdict"]

    library = pytest.importorskip("sentence_transformers")
    student = library.SentenceTransformer(str(tmp_path / "run" / "student"), device="cpu", local_files_only=True)
    assert student.prompts["query"] == "the good " and student.max_seq_length == 24
    queries, corpus = (
        {row["_id"]: row for row in map(json.loads, (tmp_path / "beir" / f"{name}.jsonl").read_text().splitlines())}
        for name in ("queries", "corpus")
    )
    ids = list(corpus)
    documents = student.encode_document([f"{one['title']} {one['text']}".strip() for one in corpus.values()])
    found = student.encode_query([one["text"] for one in queries.values()]) @ documents.T
    qrels: dict[str, set[str]] = {}
    for line in (tmp_path / "beir" / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        qrels.setdefault(line.split("\t")[0], set()).add(line.split("\t")[1])
    hits = []
    for query, scores in zip(queries, found, strict=True):
        if query in qrels:
            ten = [ids[i] for i in np.argsort(-scores)[:10]]
            hits.append(len(qrels[query] & set(ten)) / len(qrels[query]))
    assert result["student"]["metrics"]["beir"]["recall@10"]["value"] == pytest.approx(float(np.mean(hits)), abs=1e-9)


def test_a_second_run_asks_the_teacher_nothing(tmp_path: Path) -> None:
    given = recipe(tmp_path, seed=5, evaluate={"bootstrap": 0, "latency": {"repeats": 3, "length": 8}})
    given["train"]["epochs"] = 1
    first = train(Recipe(**given), tmp_path / "run")
    again = train(Recipe(**{**given, "student": {"keep": [1, 2]}}), tmp_path / "other")
    assert first["teacher_forwards"] > 0 and again["teacher_forwards"] == 0
