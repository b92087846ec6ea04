"""`task.windows` against its literal version: each window by the stock forward, alone, and the outputs pooled by hand."""

from __future__ import annotations

import csv
import json
import random

import numpy as np
import pytest
import runs
import torch
import toys
from tiny_models import tiny_net

from understudy.base.errors import DataError, RecipeError
from understudy.check import check, exit_code, look
from understudy.data.custom import custom_task, windowed
from understudy.data.encode import collate, encode
from understudy.data.types import Example, Task, Windows
from understudy.evaluate.predict import predict as predict_rows
from understudy.export import export_folder
from understudy.kinds import kind
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.models.signals import forward
from understudy.recipe.load import recipe_from
from understudy.recipe.settings import TaskSettings
from understudy.run import evaluate_folder, predict, train

WORDS = "good bad day fine lamp desk glad sad".split()
LABELS = {"classification": ("a", "b", "c"), "multilabel": ("a", "b", "c"), "regression": ()}


def texts(number: int = 5) -> list[Example]:
    drawn = random.Random(0)
    sizes = [3, 12, 13, 40, 41][:number]
    return [Example(str(i), text=" ".join(drawn.choices(WORDS, k=size))) for i, size in enumerate(sizes)]


def windows_by_hand(tokenizer, text: str, size: int, stride: int, second: list[int] | None = None) -> list[list[int]]:
    """Token ids, special tokens included, of windows that begin `stride` tokens apart until one reaches the end."""
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    room, start, found = size - 2 if second is None else size - 3 - len(second), 0, []
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    while True:
        inside = whole[start : start + room]
        found.append([cls, *inside, sep] if second is None else [cls, *inside, sep, *second, sep])
        if start + room >= len(whole):
            return found
        start += stride


def pooled_by_hand(outputs: torch.Tensor, pool: str) -> torch.Tensor:
    if pool == "attention":
        weights = outputs.exp() / outputs.exp().sum(dim=0)
        return (weights * outputs).sum(dim=0)
    return outputs.max(dim=0).values if pool == "max" else outputs.sum(dim=0) / len(outputs)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
@torch.no_grad()
def test_outputs_are_those_of_each_window_alone_pooled(family, pool):
    tokenizer, net = toys.tokenizer(), tiny_net(family, "classification", num_labels=3, vocab_size=len(toys.tokenizer())).eval()
    task = Task("t", kind("classification"), LABELS["classification"], ("accuracy",), "accuracy", windows=Windows(6, pool))
    rows = texts()
    encoded = encode(rows, tokenizer, task, max_length=14)
    made = predict_rows(Model(net, tokenizer, task.labels, task.kind, "net", None), rows, encoded)
    for row, said in zip(rows, made.scores, strict=True):
        alone = [net(torch.tensor([ids])).logits[0] for ids in windows_by_hand(tokenizer, row.text or "", 14, 6)]
        np.testing.assert_allclose(said, pooled_by_hand(torch.stack(alone), pool).numpy(), atol=2e-6)


def test_gradients_are_those_of_each_window_alone_pooled():
    tokenizer = toys.tokenizer()
    net = tiny_net("bert", "classification", num_labels=3, vocab_size=len(tokenizer)).eval().double()
    task = Task("t", kind("classification"), LABELS["classification"], windows=Windows(5, "attention"))
    rows = texts()
    batch = collate(encode(rows, tokenizer, task, max_length=12), range(len(rows)))
    forward(net, batch, Needs(logits=True), kind=task.kind).logits.square().sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}
    net.zero_grad()
    for row in rows:
        alone = [net(torch.tensor([ids])).logits[0] for ids in windows_by_hand(tokenizer, row.text or "", 12, 5)]
        pooled_by_hand(torch.stack(alone), "attention").square().sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, msg=name)


def test_the_second_text_of_a_pair_stands_in_each_window_and_what_is_longer_than_most_is_cut():
    tokenizer = toys.tokenizer()
    task = Task("t", kind("classification"), LABELS["classification"], pair=True, windows=Windows(4))
    row = Example("0", text=" ".join(WORDS * 3), pair="good day")
    second = tokenizer("good day", add_special_tokens=False)["input_ids"]
    encoded = encode([row], tokenizer, task, max_length=12)
    by_hand = windows_by_hand(tokenizer, row.text or "", 12, len(encoded_room(second)) - overlap(12, 4, second), second)
    assert encoded.input_ids.tolist() == [token for window in by_hand for token in window]
    task = Task("t", kind("classification"), LABELS["classification"], windows=Windows(6, most=2))
    encoded = encode(texts(), tokenizer, task, max_length=14)
    assert np.diff(encoded.firsts).max() == 2 and encoded.cut.tolist() == [False, False, False, True, True]
    with pytest.raises(DataError, match="would leave words out"):
        encode(texts(), tokenizer, Task("t", kind("classification"), ("a", "b"), windows=Windows(13)), max_length=14)
    with pytest.raises(DataError, match="leaves no room in a window"):
        encode([Example("0", text="good", pair=" ".join(WORDS * 3))], tokenizer, task_of_pairs(), max_length=14)


def encoded_room(second: list[int], size: int = 12) -> range:
    return range(size - 3 - len(second))


def overlap(size: int, stride: int, second: list[int]) -> int:
    return min(size - 3 - stride, size - 3 - len(second) - 1)


def task_of_pairs() -> Task:
    return Task("t", kind("classification"), ("a", "b"), pair=True, windows=Windows(4))


def test_windows_and_pool_name_what_is_stored():
    tokenizer, rows = toys.tokenizer(), texts()
    made = [encode(rows, tokenizer, Task("t", kind("classification"), ("a", "b"), windows=one), max_length=14) for one in
            (None, Windows(6), Windows(5), Windows(6, "max"))]  # fmt: skip
    assert len({encoded.key(4) for encoded in made}) == 4


@pytest.fixture
def made(toy_checkpoint, tmp_path):
    """The word that decides stands behind the first sixteen tokens, where a cut text has none of it."""
    drawn = random.Random(0)
    for name, number in (("train", 160), ("dev", 40), ("test", 40)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            out = csv.writer(stream)
            out.writerow(["body", "mood"])
            for i in range(number):
                word = ("good", "bad")[i % 2]
                filler = drawn.choices(["lamp", "desk", "day"], k=20)
                out.writerow([" ".join([*filler, word, word, word]), ("glad", "sad")[i % 2]])
    recipe = runs.recipe(toy_checkpoint, tmp_path)
    recipe["task"]["max_length"] = 16
    recipe["evaluate"]["baseline"] = False
    return recipe


def test_a_run_learns_scores_and_answers_by_windows(made, tmp_path, capsys):
    made["task"]["windows"] = {"stride": 8}
    result = train(recipe_from(made), tmp_path / "run")
    accuracy = result["student"]["metrics"]["test"]["accuracy"]["value"]
    assert accuracy > 0.9  # by the first window alone it would be a coin
    assert evaluate_folder(tmp_path / "run", recipe_from(made))["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)
    for place in (tmp_path / "run", tmp_path / "run" / "student"):
        answers = list(predict(place, str(tmp_path / "test.csv")))
        right = [answer["label"] == ("glad", "sad")[i % 2] for i, answer in enumerate(answers)]
        assert np.mean(right) == pytest.approx(accuracy) and not any(answer.get("cut") for answer in answers)
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "windows of 16 tokens that begin 8 apart" in card
    assert json.loads((tmp_path / "run" / "student" / "task.json").read_text())["task"]["windows"] == {"stride": 8}
    assert "are cut" not in capsys.readouterr().err


@pytest.mark.parametrize("pool", [*(pytest.param(pool, marks=pytest.mark.slow) for pool in ("mean", "max")), "attention"])
def test_the_code_of_an_onnx_export_reads_windows_too(made, tmp_path, monkeypatch, pool):
    made["task"]["windows"] = {"stride": 6, "pool": pool, "most": 3}
    made["train"]["epochs"] = made["teacher"]["finetune"]["epochs"] = 1
    train(recipe_from(made), tmp_path / "run")
    export_folder(tmp_path / "run", "onnx", out=tmp_path / "onnx")
    with (tmp_path / "test.csv").open() as stream:
        bodies = [row["body"] for row in csv.DictReader(stream)] + ["good", "lamp " * 60]
    (tmp_path / "rows.txt").write_text("\n".join(bodies))
    answers = list(predict(tmp_path / "run", str(tmp_path / "rows.txt")))
    code = (tmp_path / "onnx" / "README.md").read_text().rpartition("```python")[2].partition("```")[0]
    place: dict = {"bodies": bodies}
    monkeypatch.chdir(tmp_path / "onnx")
    exec(code.replace('["My printer is on fire.", "Thanks!"]', "bodies"), place)  # as a reader of the card would
    shares = np.exp(place["outputs"]) / np.exp(place["outputs"]).sum(-1, keepdims=True)
    ours = np.array([list(answer["probabilities"].values()) for answer in answers])
    np.testing.assert_allclose(shares, ours, atol=2e-6)


def test_check_counts_windows_and_finds_what_does_not_fit(made):
    made["task"]["windows"] = {"stride": 8}
    said = [str(finding) for finding in check(recipe_from(made)) if "windows" in str(finding)]
    assert "the longest texts are 3 windows of 16 tokens" in said[0]  # 23 words, 14 to a window: from 0, 8 and 16
    findings = check(recipe_from(made, ["task.windows.stride=15"]))
    assert exit_code(findings) == 3 and any("would leave words out" in str(finding) for finding in findings)
    with pytest.raises(DataError, match="would leave words out"):
        look(recipe_from(made, ["task.windows.stride=15"]), strict=True)


@pytest.mark.parametrize(
    ("asked", "pool", "why"),
    [
        ("tokens", "mean", "words with tags"),
        ("text", "mean", "cut the file into passages"),
        ("regression", "attention", "use mean or max"),
    ],
)
def test_kinds_without_windows_say_why(made, asked, pool, why):
    settings = TaskSettings.model_validate({**made["task"], "kind": asked, "windows": {"pool": pool}})
    with pytest.raises(RecipeError, match=rf"task\.windows: not for kind {asked}: .*{why}"):
        windowed(custom_task(settings, ()), settings)
