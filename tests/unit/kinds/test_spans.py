"""Answers that are parts of a text: read, cut into windows, decoded, and judged as SQuAD's script judges them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys

from understudy import losses
from understudy.base.errors import DataError
from understudy.data.encode import encode
from understudy.data.tasks import load_task
from understudy.data.types import Example, Task
from understudy.kinds import kind
from understudy.kinds.spans import best_span, exact_match, normalised, token_f1
from understudy.recipe.settings import Recipe, TaskSettings
from understudy.run import predict, train

TASK = Task("questions", kind("spans"), pair=True)


def question(number: int, draw: random.Random, *, answered: bool = True) -> dict[str, Any]:
    """"Which word is glad?": the one glad word of a text, or none."""
    words = draw.choices(toys.NOISE[:30], k=draw.randint(6, 40))
    found = draw.choice(toys.GLAD)
    if answered:
        words.insert(draw.randrange(len(words)), found)
    text = " ".join(words)
    start = f" {text} ".find(f" {found} ") if answered else 0
    answers = [{"text": found, "answer_start": start}] * 2 if answered else []
    asked = {"id": f"q{number}", "question": "this good", "answers": answers, "is_impossible": not answered}
    return {"context": text, "qas": [asked]}


def squad(path: Path, count: int, *, seed: int, unanswered: int = 0) -> Path:
    draw = random.Random(seed)
    paragraphs = [question(i, draw, answered=not unanswered or i % unanswered > 0) for i in range(count)]
    articles = [{"title": f"article {i}", "paragraphs": paragraphs[i::5]} for i in range(5)]
    path.write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")
    return path


def load(path: Path) -> list[Example]:
    settings = TaskSettings(name="custom", kind="spans", files={"train": str(path)}, selection=0.2)  # type: ignore[arg-type]
    data = load_task(settings, seed=0)
    titles = [{row.group for row in part} for part in (data.train, data.select, data.tests["test"])]
    assert not titles[0] & titles[1] and not titles[0] & titles[2]  # articles are never on two sides
    return [*data.train, *data.select, *data.tests["test"]]


def test_answers_are_compared_as_by_the_script() -> None:
    assert normalised("The  U.S.\tArmy, an army!") == "us army army"
    assert normalised("Die Armee") == "die armee"  # the rule is the English one for every language
    assert exact_match("the Cat", ["A cat.", "dog"]) == 1 and exact_match("cats", ["cat"]) == 0
    assert token_f1("the old grey cat", ["grey cat"]) == pytest.approx(2 * 2 / (3 + 2))
    assert token_f1("cat cat", ["cat"]) == pytest.approx(2 / 3)  # shared words count as often as in both
    assert token_f1("cat", ["dog", "a cat"]) == 1
    assert token_f1("", [""]) == exact_match("", [""]) == 1 and token_f1("cat", [""]) == token_f1("", ["cat"]) == 0
    assert token_f1("the", ["cat"]) == 0 and token_f1("the", [""]) == 1  # nothing but an article is empty


def test_files_of_squad_and_of_datasets_hold_the_same(tmp_path: Path) -> None:
    rows = load(squad(tmp_path / "squad.json", 20, seed=0, unanswered=4))
    table = tmp_path / "table.jsonl"
    lines = [{"id": row.id, "title": row.group, "question": row.text, "context": row.pair,
              "answers": {"text": [t for _, t in row.label], "answer_start": [s for s, _ in row.label]}} for row in rows]  # type: ignore[union-attr]
    table.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    again = {row.id: (row.text, row.pair, row.label, row.group) for row in load(table)}
    assert again == {row.id: (row.text, row.pair, row.label, row.group) for row in rows}
    assert sum(row.label == () for row in rows) == 5
    assert all(len(row.label or ()) < 2 for row in rows)  # two equal answers are one


@pytest.mark.parametrize(("change", "part"), [
    ({"answers": [{"text": "good", "answer_start": 1}]}, "'q3'.*does not stand at character 1"),
    ({"id": "q4"}, "'q4' is there twice"),
])  # fmt: skip
def test_answers_and_ids_that_cannot_be_meant_are_refused(change: dict[str, Any], part: str, tmp_path: Path) -> None:
    path = squad(tmp_path / "squad.json", 10, seed=0)
    whole = json.loads(path.read_text())
    whole["data"][3]["paragraphs"][0]["qas"][0].update(change)
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError, match=part):
        load(path)


def test_windows_overlap_and_only_those_with_the_answer_have_it() -> None:
    context = " ".join(["the door"] * 30 + ["happy cup"] + ["a lamp"] * 30)
    start = context.index("happy")
    rows = [Example("1", "this good", context, label=((start, "happy cup"),)), Example("2", "this good", "the door", label=())]  # type: ignore[arg-type]
    encoded = encode(rows, toys.tokenizer(), TASK, max_length=40)
    assert encoded.source is not None and encoded.chars is not None and encoded.labels is not None
    windows = encoded.source.tolist().count(0)
    assert windows > 3 and encoded.source[-1] == 1
    seen: set[int] = set()
    for i in range(len(encoded)):
        part = slice(encoded.offsets[i], encoded.offsets[i + 1])
        labels, chars = encoded.labels[part], encoded.chars[part]
        assert labels[0] != -100 and (labels[1:4] == -100).all()  # [CLS], and the question with its [SEP]
        assert encoded.input_ids[part][1:3].tolist() == toys.tokenizer()("this good")["input_ids"][1:3]
        begin, end = np.flatnonzero((labels & 1 > 0) & (labels >= 0)), np.flatnonzero((labels & 2 > 0) & (labels >= 0))
        assert len(begin) == len(end) == 1
        if begin[0]:
            assert context[chars[begin[0], 0] : chars[end[0], 1]] == "happy cup"
            seen.add(i)
        seen_chars = [tuple(one) for one in chars[4:-1]]
        assert all(a < b for a, b in seen_chars)
    assert 0 < len(seen) < windows
    answered = encode([rows[0]], toys.tokenizer(), TASK, max_length=40)  # every question has an answer: no window says "none"
    without = [i for i in range(len(answered)) if not (answered.labels[answered.offsets[i] : answered.offsets[i + 1]] > 0).any()]  # type: ignore[index]
    assert len(without) == windows - len(seen)
    with pytest.raises(DataError, match="leaves no room"):
        encode([Example("1", "good " * 40, context)], toys.tokenizer(), TASK, max_length=40)


def test_the_best_span_of_all_windows_by_hand() -> None:
    one = np.array([[0.0, 1.0], [3.0, 0.0], [0.0, 2.0], [5.0, -9.0]]), np.array([[0, 0], [0, 3], [4, 8], [9, 12]])
    two = np.array([[-2.0, 0.5], [2.0, 2.5], [1.0, 0.0]]), np.array([[0, 0], [9, 12], [13, 20]])
    assert best_span([one]) == (0, 8, 5.0, 1.0)  # 3 + 2; the 5 begins where nothing ends
    assert best_span([one, two]) == (0, 8, 5.0, -1.5)
    assert best_span([two])[:3] == (9, 12, 4.5)
    long = np.zeros((40, 2))
    long[1, 0] = long[35, 1] = 9.0
    chars = np.stack([np.arange(40), np.arange(1, 41)], axis=1)
    begin, end, score, _ = best_span([(long, chars)])
    assert score == 9.0 and end - begin <= 30  # thirty-five tokens are no answer


def test_losses_window_by_window() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(7, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    flags, sizes = torch.tensor([0, 1, 2, 0, 3, 0, 0]), [3, 2, 2]
    hard = kl = 0.0
    start = 0
    for size in sizes:
        part, theirs, marks = student[start : start + size], teacher[start : start + size], flags[start : start + size]
        for side in (0, 1):
            p, q = (x[:, side].div(2.0).exp() / x[:, side].div(2.0).exp().sum() for x in (theirs, part))
            kl += float((p * (p / q).log()).sum()) / 2 * 4
            at = [i for i in range(size) if int(marks[i]) & (1, 2)[side]]
            hard += sum(-float(part[i, side] - part[:, side].exp().sum().log()) for i in at) / 2
        start += size
    assert losses.span_cross_entropy(student, flags, sizes, reduction="sum").item() == pytest.approx(hard, rel=1e-10)
    assert losses.span_kl(student, teacher, sizes, temperature=2.0, reduction="sum").item() == pytest.approx(kl, rel=1e-10)


def test_a_reader_is_taught_and_answers_with_parts_of_the_text(tmp_path: Path) -> None:
    files = {name: str(squad(tmp_path / f"{name}.json", count, seed=seed, unanswered=5))
             for seed, (name, count) in enumerate({"train": 120, "dev": 30, "test": 40}.items())}  # fmt: skip
    recipe = {
        "task": {"name": "custom", "kind": "spans", "files": files, "max_length": 32},
        "teacher": {"model": str(toys.save_checkpoint(tmp_path / "model")), "finetune": {"epochs": 6}},
        "student": {"keep": [1]},
        "method": "automm",
        "train": {"epochs": 6, "batch_size": 16, "lr": 5e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 20, "latency": {"repeats": 3, "length": 8}},
    }
    result = train(Recipe(**recipe), tmp_path / "run")
    score = {name: result[name]["metrics"]["test"]["f1"]["value"] for name in ("teacher", "baseline", "student")}
    assert result["task"]["tests"] == {"test": 40} and score["teacher"] > 0.8 and score["student"] > 0.8
    contexts = {row.id: row.pair or "" for row in load(tmp_path / "test.json")}
    answers = list(predict(tmp_path / "run", str(tmp_path / "test.json")))
    assert len(answers) == 40
    for one in answers:
        assert one["answer"] in ("", contexts[one["row"]][one["start"] : one["end"]])
    exact = result["student"]["metrics"]["test"]["exact_match"]["value"]
    gold = {row.id: [text for _, text in row.label or ()] or [""] for row in load(tmp_path / "test.json")}  # type: ignore[misc]
    assert np.mean([exact_match(one["answer"], gold[one["row"]]) for one in answers]) == pytest.approx(exact)
