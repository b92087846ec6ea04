"""Cross-encoders: one is fine-tuned on graded lists, a smaller one learns from it, and its scores teach an embedding model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import embedders
import pytest
import torch
import toys

from understudy.recipe.settings import Recipe
from understudy.run import predict, train


def lists(path: Path, count: int, *, seed: int, passages: int = 4) -> Path:
    """Queries and passages; relevant are the glad ones."""
    draw, rows = random.Random(seed), toys.sentences(count * (passages + 1), seed=seed)
    lines = []
    for i in range(count):
        query, _ = rows[i]
        others = draw.sample(rows[count:], passages)
        labels = [float(mood == "glad") for _, mood in others]
        lines.append({"query": query, "passages": [text for text, _ in others], "labels": labels})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def teacher(folder: Path) -> Path:
    """A cross-encoder that finds some passages much better than others."""
    net = toys.bert(labels=1)
    with torch.no_grad():
        net.classifier.weight.mul_(50)
    net.save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    return folder


def recipe(folder: Path, kind: str = "ranking", **changes: Any) -> dict[str, Any]:
    for seed, (name, count) in enumerate({"train": 60, "test": 20}.items()):
        lists(folder / f"{name}.jsonl", count, seed=seed)
    return {
        "task": {"name": "custom", "kind": kind, "path": str(folder), "max_length": 40, "selection": 0.2,
                 "files": {"train": "train.jsonl", "test": "test.jsonl"}},
        "teacher": {"model": str(teacher(folder / "teacher"))},
        "student": {"keep": [0]},
        "method": "automm",
        "objective": {"soft": 1.0, "lists": {"loss": "kl"}},
        "train": {"epochs": 10, "batch_size": 8, "lr": 5e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 20, "latency": {"repeats": 3, "length": 8}},
        **changes,
    }  # fmt: skip


@pytest.mark.slow
def test_a_reranker_teaches_a_smaller_one_and_an_embedding_model(tmp_path: Path) -> None:
    result = train(Recipe(**recipe(tmp_path)), tmp_path / "run")
    score = {name: result[name]["metrics"]["test"]["ndcg@10"] for name in ("teacher", "baseline", "student")}
    assert result["task"]["tests"] == {"test": 20}
    assert score["student"]["low"] <= score["student"]["value"] <= score["student"]["high"]
    assert score["baseline"]["value"] > 0.9 > score["teacher"]["value"]  # which knows nothing of what people find relevant
    rows = [json.loads(line) for line in (tmp_path / "run" / "steps" / "student" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-5:]) < sum(losses[:5]) / 3

    answers = list(predict(tmp_path / "run", str(tmp_path / "train.jsonl")))
    assert [len(one["scores"]) for one in answers] == [4] * 60 and answers[0]["query"]
    scored = tmp_path / "scored.jsonl"
    for one in answers:  # this toy's lie between 0 and 1, as those behind a sigmoid, which are refused
        one["scores"] = [20 * score - 10 for score in one["scores"]]
    scored.write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    embedders.save(tmp_path / "embedder")
    changes = {"teacher": str(tmp_path / "embedder"), "objective": {"lists": {"scores": "labels", "temperature": 3.0}}}
    second = recipe(tmp_path, "embedding", **changes, student={"num_layers": 1})
    second["task"]["files"] = {"train": "scored.jsonl", "test": {"texts": "test.jsonl"}}
    found = train(Recipe(**second), tmp_path / "second")
    assert found["student"]["metrics"]["texts"]["top10"]["value"] >= 0
    rows = [json.loads(line) for line in (tmp_path / "second" / "steps" / "student" / "metrics.jsonl").read_text().splitlines()]
    held_out = [row["select"]["loss"] for row in rows if "select" in row]
    assert min(held_out) < held_out[0]


def test_the_teacher_of_margins_with_cosines_has_to_say_a_scale(tmp_path: Path) -> None:
    from understudy.base.errors import RecipeError

    embedders.save(tmp_path / "embedder")
    changes = {"teacher": str(tmp_path / "embedder"), "objective": {"lists": {"loss": "margin", "scores": "labels"}}}
    with pytest.raises(RecipeError, match="say by `scale`"):
        train(Recipe(**recipe(tmp_path, "embedding", **changes)), tmp_path / "run")


def test_pairs_alone_teach_without_a_teacher(tmp_path: Path) -> None:
    embedders.save(tmp_path / "embedder")
    given = recipe(tmp_path, "embedding", teacher=str(tmp_path / "embedder"), method="finetune", objective=None)
    del given["objective"]
    found = train(Recipe(**given), tmp_path / "run")
    assert found["student"]["metrics"]["test"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "steps" / "student" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-3:]) < sum(losses[:3])
