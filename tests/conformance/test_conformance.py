"""One table, the same tests for every row: each method on each family and kind of task, from files to a student that
anybody can load."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import torch
import transformers
from safetensors.numpy import load_file
from table import ALL, FAST, listed, recipe_of, refused

from understudy.base import disk
from understudy.base.errors import RecipeError
from understudy.cache import SignalCache
from understudy.data.encode import encode
from understudy.data.masking import mask_inputs
from understudy.data.tasks import load_task
from understudy.evaluate import measure
from understudy.evaluate.result import validated
from understudy.lab import bench, lab
from understudy.recipe.load import recipe_from
from understudy.run import train
from understudy.train import loop

TABLE = [
    pytest.param(row, id="-".join(row), marks=[] if row in FAST else pytest.mark.slow)
    for row in ALL
    if (listed(*row) or row in FAST) and not refused(*row)
]
FIRST = {row[0]: row for row in reversed(FAST)}.values()  # of each method
TOGETHER = [
    pytest.param(row, id="-".join(row), marks=[] if row in FIRST else pytest.mark.slow)
    for row in (param.values[0] for param in TABLE)
    if row[0] != "kdnas" and (row in FAST or row[1] == "bert" or row[2] == "classification")
]
"""What two processes train together: each method on each family and on each kind of task. A search is refused."""
REFUSED = [
    pytest.param(row, id="-".join(row), marks=[] if row[0] == "mkd" else pytest.mark.slow)
    for row in ALL
    if listed(*row) and refused(*row)
]
STOCK = {"tokens": transformers.AutoModelForTokenClassification, "text": transformers.AutoModelForMaskedLM}


@dataclass(frozen=True)
class Finished:
    """A run of one row of the table."""

    recipe: dict[str, Any]
    folder: Path
    result: dict[str, Any]
    kind: str


def run(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    return train(recipe_from(recipe), folder)


@pytest.fixture(scope="module", params=TABLE)
def finished(request, tmp_path_factory) -> Any:
    """The run of a row, once for all tests of the row, in a shared store of its own."""
    method, family, kind = request.param
    folder = tmp_path_factory.mktemp("row")
    before, os.environ["UNDERSTUDY_HOME"] = os.environ["UNDERSTUDY_HOME"], str(folder / "home")
    recipe = recipe_of(folder, method, family, kind)
    result = run(recipe, folder / "run")
    yield Finished(recipe, folder / "run", result, kind)
    os.environ["UNDERSTUDY_HOME"] = before


def test_result_holds_to_its_schema(finished: Finished):
    written = json.loads((finished.folder / "result.json").read_text())
    assert validated(written) == json.loads(json.dumps(finished.result))
    models = {"student"} if finished.kind == "text" else {"student", "teacher"}
    if finished.recipe["method"]["name"] != "finetune" and finished.kind != "text":
        models |= {"baseline"}
    assert {name for name in ("teacher", "baseline", "student") if written[name]} == models
    metrics = written["student"]["metrics"]["test"]
    assert all(np.isfinite(metric["value"]) for metric in metrics.values())
    assert not disk.problems(finished.folder)
    assert "<html" in (finished.folder / "report.html").read_text()


@torch.no_grad()
def test_the_student_is_a_stock_model_that_says_what_was_recorded(finished: Finished):
    """Loaded and run by transformers alone, padded: the recorded predictions, in the label's own units."""
    folder = str(finished.folder / "student")
    stock = STOCK.get(finished.kind, transformers.AutoModelForSequenceClassification)
    net, report = stock.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    net.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    recipe = recipe_from(finished.recipe)
    data = load_task(recipe.task, seed=recipe.seed)
    rows = data.tests["test"]
    arrays = load_file(finished.folder / "steps" / "predict-student-test" / "predictions.safetensors")
    if data.task.labels:
        assert [net.config.id2label[i] for i in range(len(data.task.labels))] == list(data.task.labels)
    if finished.kind == "text":
        masked = encode(rows, tokenizer, data.task, max_length=32)
        masked = mask_inputs(masked, tokenizer, seed=recipe.seed, variant=0, probability=recipe.task.mask_probability)
        for i in range(len(rows)):
            part = slice(masked.offsets[i], masked.offsets[i + 1])
            ids, labels = (torch.from_numpy(array[part].astype(np.int64)) for array in (masked.input_ids, masked.labels))
            logits = net(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0]
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            assert arrays["scores"][i] == pytest.approx(loss, rel=1e-3, abs=1e-4)
        return
    words = finished.kind == "tokens"
    texts = [list(row.words) if words else row.text for row in rows]
    pairs = [row.pair for row in rows] if data.task.pair else None
    batch = tokenizer(texts, pairs, padding=True, is_split_into_words=words, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if "token_type_ids" in batch:
        inputs["token_type_ids"] = batch["token_type_ids"]
    logits = net(**inputs).logits
    if words:
        said = [
            logits[i].argmax(dim=1)[[batch.word_ids(i).index(word) for word in range(len(row.words))]].tolist()
            for i, row in enumerate(rows)
        ]
        assert arrays["scores"].tolist() == [tag for tags in said for tag in tags]
    else:
        expected = logits[:, 0] if finished.kind == "regression" else logits
        np.testing.assert_allclose(arrays["scores"], expected.numpy(), rtol=1e-3, atol=2e-4)


def test_a_second_run_does_nothing(finished: Finished, monkeypatch):
    """The same command again: nothing is trained, predicted or measured, no file of a step is touched."""

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a finished run did work again")

    for module, name in ((bench, "fit"), (bench, "predict"), (lab, "predict"), (SignalCache, "_compute")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(measure, "costs", forbidden)
    files = {path: path.stat().st_mtime_ns for path in (finished.folder / "steps").rglob("*") if path.is_file()}
    student = {path: path.stat().st_mtime_ns for path in (finished.folder / "student").rglob("*")}
    again = run(finished.recipe, finished.folder)
    assert again["teacher_forwards"] == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert {path: path.stat().st_mtime_ns for path in student} == student
    for key in ("teacher", "baseline", "student", "gap_recovered", "train_seconds", "verdict"):
        assert again[key] == json.loads(json.dumps(finished.result))[key]


class Stopped(BaseException):
    """The process dies here, as far as the run knows."""


def test_interrupted_again_and_again_it_ends_with_the_same_bits(finished: Finished, tmp_path, understudy_home, monkeypatch):
    """Stopped in every fifth optimiser step, whatever is being trained, and repeated until it is done."""
    steps = 0
    original = loop._Loop._attempt

    def attempt(self: Any, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps % 5 == 0:
            raise Stopped
        return original(self, *arguments)

    monkeypatch.setattr(loop._Loop, "_attempt", attempt)
    recipe = {**finished.recipe, "train": {**finished.recipe["train"], "checkpoint_steps": 2}}
    for _ in range(60):
        try:
            run(recipe, tmp_path / "run")
            break
        except Stopped:
            continue
    assert steps >= 5
    one, other = (load_file(folder / "student" / "model.safetensors") for folder in (finished.folder, tmp_path / "run"))
    assert set(one) == set(other)
    assert all(np.array_equal(other[name], tensor) for name, tensor in one.items())


def test_a_live_teacher_gives_the_same_student(finished: Finished, tmp_path, understudy_home):
    """Signals from disk or from the teacher itself: the same weights but for rounding. In another store, where no stage is."""
    if finished.recipe["method"]["name"] == "finetune":
        recipe = recipe_from(finished.recipe)
        assert not recipe.how.needs_teacher and finished.result["teacher_forwards"] <= 16  # its test rows alone
        return
    live = run({**finished.recipe, "cache": {"mode": "live"}}, tmp_path / "live")
    assert live["teacher_forwards"] > 48  # in both epochs
    one, other = (load_file(folder / "student" / "model.safetensors") for folder in (finished.folder, tmp_path / "live"))
    assert set(one) == set(other)
    for name, tensor in one.items():
        np.testing.assert_allclose(other[name], tensor, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Any:
    """Two processes that train together."""
    with ranks.pair(tmp_path_factory.mktemp("two")) as pair:
        yield pair


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
@pytest.mark.parametrize("row", TOGETHER)
def test_two_processes_make_the_student_of_one(row, two: ranks.Pair, tmp_path, understudy_home):
    """As under torchrun. Steps of nine rows, so that the processes never have equally many, and no dropout, which is another
    in each; the learning rate is small because AdamW turns the rounding of a gradient of nearly 0 into a visible step."""
    recipe = recipe_of(tmp_path, *row)
    recipe["train"] |= {"batch_size": 9, "lr": 1e-4, "dropout": 0.0}
    if row[0] in ("minidisc", "maxidisc"):  # a pruned student begins as its teacher: only from labels has it much to learn
        recipe["method"] = {**recipe["method"], "objective": "ft"}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    ended = two.run("train", path, "--out", tmp_path / "two", home=tmp_path / "home-two")
    assert [one.code for one in ended] == [0, 0], ended[0].err[-3000:] + ended[1].err[-3000:]
    assert ended[0].out and not ended[1].out  # one voice
    run(recipe, tmp_path / "one")
    steps = ranks.curves(tmp_path / "one", understudy_home)
    for name, curve in ranks.curves(tmp_path / "two", tmp_path / "home-two").items():
        assert len(curve) >= 12 and curve == pytest.approx(steps.pop(name), rel=1e-3), name
    assert not steps
    for file, near in (("student/model", 1e-5), ("steps/predict-student-test/predictions", 1e-3)):
        one, other = (load_file(tmp_path / name / f"{file}.safetensors") for name in ("one", "two"))
        ranks.assert_close(one, other, near)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
def test_a_search_in_two_processes_is_refused_before_anything_is_trained(two: ranks.Pair, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_of(tmp_path, "kdnas", "bert", "classification")), encoding="utf-8")
    ended = two.run("train", path, "--out", tmp_path / "run", home=tmp_path / "home")
    assert [one.code for one in ended] == [RecipeError.exit_code] * 2
    assert "A search does not run under torchrun" in ended[0].err and "understudy search worker" in ended[0].err
    assert not list(tmp_path.glob("home/steps/*")) and not list(tmp_path.glob("run/steps/*"))


@pytest.mark.parametrize("row", REFUSED)
def test_what_cannot_be_combined_is_refused_with_the_reason(row, tmp_path, understudy_home):
    with pytest.raises(RecipeError, match=refused(*row)):
        run(recipe_of(tmp_path, *row), tmp_path / "run")
