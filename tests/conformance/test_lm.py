"""A language model from a teacher, from the recipe to the folder that anybody can load."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import decoders
import pytest
import torch
from ranks import assert_close, pair
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.recipe.load import recipe_from
from understudy.run import evaluate_folder, train, verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lm")
    settings = decoders.recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_HOME", str(folder / "home"))
        result = train(recipe_from(settings), folder / "run")
    return settings, folder / "run", result


def test_the_check_passes_and_the_run_is_proved(finished) -> None:
    settings, folder, result = finished
    assert exit_code(check(recipe_from(settings))) == 0
    assert result["task"]["metrics"] == ["bpb", "loss", "perplexity", "kl", "agreement"]
    for model in ("teacher", "baseline", "student"):
        score = result[model]["metrics"]["test"]
        assert score["bpb"]["low"] <= score["bpb"]["value"] <= score["bpb"]["high"]
    taught = result["teacher"]["metrics"]["test"]
    assert taught["kl"]["value"] == pytest.approx(0, abs=1e-6) and taught["agreement"]["value"] == 1
    assert result["student"]["metrics"]["test"]["kl"]["value"] < result["baseline"]["metrics"]["test"]["kl"]["value"]
    assert "bits per byte" in (folder / "report.html").read_text()
    assert [sorted(one) for one in result["samples"]] == [["baseline", "prompt", "student", "teacher"]] * 3
    assert "What they write" in (folder / "report.html").read_text()
    assert "## What it writes" in (folder / "student" / "README.md").read_text()
    assert verify(folder, replay=2)["replayed_steps"] == 2


def test_the_student_is_a_stock_model_and_its_score_can_be_computed_from_it(finished) -> None:
    """Literally: each document alone, token by token, by transformers; over all bytes."""
    settings, folder, result = finished
    net = AutoModelForCausalLM.from_pretrained(folder / "student").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    assert net.config.num_hidden_layers == 2
    assert net.generation_config.eos_token_id == [257, 259]  # the teacher's, all of them
    assert tokenizer.pad_token is None and tokenizer.model_max_length > 1000
    assert "convert_hf_to_gguf.py" in (folder / "student" / "README.md").read_text()
    from understudy.data.tasks import load_task

    documents = load_task(recipe_from(settings).task, seed=0).tests["test"]
    nats = num_bytes = 0.0
    for document in documents:
        ids = tokenizer(document.text)["input_ids"]
        for start, first, end in ((0, 0, 24), (12, 24, 36), (24, 36, 48), (36, 48, 60)):  # positions of the windows
            if first >= len(ids) - 1:
                continue
            with torch.no_grad():
                logits = net(torch.tensor([ids[start:end]]), use_cache=False).logits[0].double().log_softmax(-1)
            for position in range(first, min(end, len(ids) - 1)):
                nats -= logits[position - start, ids[position + 1]].item()
        num_bytes += len(document.text.encode())
    assert nats / num_bytes / math.log(2) == pytest.approx(result["student"]["metrics"]["test"]["bpb"]["value"], rel=1e-5)


def test_samples_are_the_likeliest_tokens_one_after_the_other(finished) -> None:
    _, folder, result = finished
    net = AutoModelForCausalLM.from_pretrained(folder / "student").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    one = result["samples"][0]
    begun = tokenizer(one["prompt"])["input_ids"]
    ids = list(begun)
    with torch.no_grad():
        while len(ids) < 64 and len(ids) - len(begun) < 48:
            ids.append(int(net(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] in (257, 259):
                break
    assert one["student"] == tokenizer.decode(ids[len(begun) :], skip_special_tokens=True)


@pytest.mark.parametrize(("kind", "family"), [("sft", "qwen3"), ("chat", "gemma2")])
def test_prompts_and_conversations(kind: str, family: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    settings = decoders.recipe(tmp_path, kind=kind, family=family)
    assert exit_code(check(recipe_from(settings))) == 0
    result = train(recipe_from(settings), tmp_path / "run")
    assert result["student"]["metrics"]["test"]["kl"]["value"] < result["baseline"]["metrics"]["test"]["kl"]["value"]
    net = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student")
    assert net.config.num_hidden_layers == 2 and getattr(net.config, "layer_types", ["x"] * 2)[1:] != []


@pytest.mark.slow
def test_two_processes_make_the_student_of_one(tmp_path: Path, monkeypatch) -> None:
    """Rows of a step are shared out unevenly, and in some steps a process has fewer tokens to score than the other."""
    settings = decoders.recipe(tmp_path)
    settings["train"] |= {"lr": 1e-4}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home-one"))
    train(recipe_from(settings), tmp_path / "one")
    with pair(tmp_path / "launchers") as both:
        ended = both.run("train", path, "--out", tmp_path / "two", home=tmp_path / "home-two")
    assert [one.code for one in ended] == [0, 0], ended[0].err
    assert_close(*(load_file(tmp_path / name / "student" / "model.safetensors") for name in ("one", "two")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": {"sparsity": 0.5}}, "student.sparsity is for encoders"),
        ({"student": {"num_layers": 2, "share": "sps"}}, "student.share is for encoders"),
        ({"objective": {"soft": 1.0, "relations": 1.0}}, "objective.relations: it compares how all tokens"),
        ({"student": {"config": {"hidden_size": 30}, "init": "teacher"}}, "refuses 4 heads with hidden_size 30"),
        ({"train": {"batch_tokens": 8}}, "a row has 24 tokens"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_what_decoders_cannot_be_or_learn_is_refused(changes: dict, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    made = recipe_from(decoders.recipe(tmp_path, **changes))
    with pytest.raises(RecipeError, match=message):
        train(made, tmp_path / "run")
    if "batch_tokens" not in changes.get("train", {}):  # the others are known before anything is read
        assert any(message in one.text for one in check(made) if one.level == "error")
        assert not (tmp_path / "run" / "steps").exists()


def test_a_narrower_student_and_its_score_again(tmp_path: Path, monkeypatch) -> None:
    """Fewer groups and neurons, chosen by importance; `eval` gives the scores of the run."""
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    student = {"config": {"num_key_value_heads": 1, "intermediate_size": 32}, "init": "teacher"}
    settings = decoders.recipe(tmp_path, student=student, family="gemma3_text")
    rows = settings["task"]["files"]["train"]
    settings["task"]["files"] = {"train": rows, "test": rows}
    result = train(recipe_from(settings), tmp_path / "run")
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student").config
    assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (2, 1, 32)
    again = evaluate_folder(tmp_path / "run", recipe_from(settings))
    assert again["metrics"]["test"]["bpb"] == pytest.approx(result["student"]["metrics"]["test"]["bpb"]["value"])


def test_a_student_of_one_layer_through_an_assistant(tmp_path: Path, monkeypatch) -> None:
    """Every way from three layers to one, compared by compression, of which more is better."""
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    settings = decoders.recipe(tmp_path, student={"num_layers": 1}, method="maxidisc")
    settings["objective"] = {"hard": 0.5, "soft": 1.0}
    settings["task"]["select"] = "compression"
    assert exit_code(check(recipe_from(settings))) == 0
    result = train(recipe_from(settings), tmp_path / "run")
    assert result["task"]["select"] == "compression" and result["task"]["metrics"][0] == "compression"
    made = result["student"]["metrics"]["test"]
    assert made["compression"]["value"] == pytest.approx(1 - made["bpb"]["value"] / 8)
    assert (tmp_path / "run" / "steps" / "2L-1L").exists() or any("2L" in p.name for p in (tmp_path / "run" / "steps").iterdir())
