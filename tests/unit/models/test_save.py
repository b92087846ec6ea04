"""Saved models: stock transformers reads them, they come back the same, the same model gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from understudy.base import disk
from understudy.models.card import card_text, eval_results_text, public_name
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.save import save_model

LABELS = ("no", "1e-5", "on: off")


def model(family: str = "bert", kind: str = "classification", labels: tuple[str, ...] = LABELS) -> Model:
    head = kind if kind in ("tokens", "text") else "classification"
    net = tiny_net(family, head, num_labels=max(1, len(labels)))
    return Model(net, tiny_tokenizer(), labels, kind, "/home/ada/models/secret", None)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_was_saved_is_what_stock_transformers_and_we_load(family: str, tmp_path: Path):
    one = model(family)
    folder = save_model(one, tmp_path / "student")
    stock = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(stock(tiny_ids()).logits, one.net(tiny_ids()).logits)
    assert stock.config.id2label == dict(enumerate(LABELS))
    assert AutoTokenizer.from_pretrained(folder)("my printer").input_ids == one.tokenizer("my printer").input_ids
    back = load_model(str(folder))
    assert digest(back.net) == digest(one.net)
    assert (back.labels, back.kind, back.notes) == (LABELS, "classification", ())


@pytest.mark.parametrize(
    "kind, labels, problem",
    [
        ("classification", LABELS, "single_label_classification"),
        ("multilabel", LABELS, "multi_label_classification"),
        ("regression", (), "regression"),
        ("tokens", ("O", "B-X", "I-X"), None),
        ("text", (), None),
    ],
)
def test_every_kind_comes_back_as_itself(kind: str, labels: tuple[str, ...], problem: str | None, tmp_path: Path):
    folder = save_model(model(kind=kind, labels=labels), tmp_path / "student")
    assert json.loads((folder / "config.json").read_text()).get("problem_type") == problem
    back = load_model(str(folder))
    assert (back.kind, back.labels) == (kind, labels)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path):
    one = model()
    save_model(one, tmp_path / "a", card="# card")
    one.tokenizer(["my printer is on fire"] * 2, truncation=True, max_length=4, padding="max_length")
    one.net.train()
    save_model(one, tmp_path / "b", card="# card")
    save_model(model(), tmp_path / "elsewhere" / "c", card="# card")
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "elsewhere" / "c")
    assert set(contents(tmp_path / "a")) == {
        "README.md",
        "config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert one.net.training


def test_saving_again_after_loading_gives_the_same_bytes(tmp_path: Path):
    save_model(model(), tmp_path / "a")
    save_model(load_model(str(tmp_path / "a")), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_folder_is_committed_whole_and_replaces_the_old_one(tmp_path: Path, monkeypatch):
    folder = save_model(model(), tmp_path / "student", card="old")
    assert disk.problems(folder) == []
    before = contents(folder)

    def fail(name: str, path: Path) -> None:
        if name == "before-rename" and path.name == "student":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "fault", fail)
    with pytest.raises(Exception, match="disk is full"):
        save_model(model(), folder, card="new")
    monkeypatch.setattr(disk, "fault", None)
    assert not folder.exists() or contents(folder) == before
    save_model(model(), folder, card="new")
    assert (folder / "README.md").read_text() == "new" and disk.problems(folder) == []


def test_no_place_of_this_machine_is_written(tmp_path: Path):
    origin = save_model(model(), tmp_path / "origin-of-it")
    folder = save_model(load_model(str(origin)), tmp_path / "student")
    for path in folder.iterdir():
        data = path.read_bytes()
        assert b"origin-of-it" not in data and str(tmp_path).encode() not in data and b"/home/ada" not in data, path


def test_saving_does_not_change_the_model(tmp_path: Path):
    one = model()
    before = digest(one.net), one.net.config.id2label, one.net.config.problem_type
    save_model(one, tmp_path / "student")
    assert (digest(one.net), one.net.config.id2label, one.net.config.problem_type) == before


def test_saving_prints_nothing(tmp_path: Path, capfd):
    save_model(model(), tmp_path / "student")
    assert capfd.readouterr() == ("", "")


# -- the card ----------------------------------------------------------------------------------------------------------


def result(**changes: Any) -> dict[str, Any]:
    def one(name: str, value: float) -> dict[str, Any]:
        return {
            "name": name,
            "metrics": {"dev": {"f1": {"value": value, "low": value - 0.01, "high": value + 0.01}}},
            "num_parameters": 22_713_216,
            "num_parameters_nonembedding": 10_646_784,
            "size_mb": 90.9,
            "flops": 2_000_000_000,
            "latency_ms": {
                "median": 12.5,
                "iqr": 0.5,
                "threads": 2,
                "device": "cpu",
                "batch_size": 1,
                "length": 128,
            },
        }

    return {
        "version": 1,
        "task": {
            "name": "glue/mrpc",
            "kind": "classification",
            "labels": ["no", "yes"],
            "metrics": ["f1"],
            "select": "f1",
            "tests": {"dev": 408},
        },
        "method": {"name": "automm", "temperature": 5.0},
        "seed": 0,
        "teacher": one("google-bert/bert-base-uncased", 0.9),
        "baseline": one("student", 0.8),
        "student": one("student", 0.85),
        "verdict": "The student keeps 94 % of the teacher.",
        "versions": {"torch": "2.13.0", "understudy": "0.1"},
        **changes,
    }


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_scores_sizes_and_method():
    card = card_text(result())
    assert "| dev | f1 | 0.9000 (95 % interval 0.8900 to 0.9100) | 0.8000 (" in card
    assert "| student | 22,713,216 | 10,646,784 | 90.9 | 2.00 | 12.50 (batch 1, 128 tokens, cpu, threads 2) |" in card
    assert "| temperature | 5.0 |" in card and "seed 0" in card and "torch 2.13.0" in card
    assert "The student keeps 94 % of the teacher." in card
    assert card == card_text(result())
    assert "understudy.register()" not in card
    assert "understudy.register()" in card_text(result(), stock=False)


def test_the_hub_reads_the_metadata():
    data = ModelCard(card_text(result())).data
    (score,) = data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_type) == ("f1", 0.85, "nyu-mll/glue")
    assert (score.dataset_config, score.dataset_split, score.task_type) == ("mrpc", "dev", "text-classification")
    assert data.base_model == ["google-bert/bert-base-uncased"] and data.library_name == "transformers"
    assert ModelCard(card_text(result(), stock=False)).data.library_name == "understudy"


def test_the_hubs_leaderboard_format():
    (entry,) = parse_eval_result_entries(yaml.safe_load(eval_results_text(result())))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("nyu-mll/glue", "mrpc", 0.85)
    assert "95 % interval 0.8400 to 0.8600" in entry.notes
    assert eval_results_text(result(task=result()["task"] | {"name": "custom"})) is None


def test_own_data_no_teacher_no_baseline_no_intervals():
    student = result()["student"]
    student["metrics"] = {"test": {"mcc": {"value": 0.5, "low": None, "high": None}}}
    student["latency_ms"] = None
    task = {"name": "custom", "kind": "tokens", "labels": [], "metrics": ["mcc"], "select": "mcc", "tests": {"test": 3}}
    card = card_text(result(task=task, student=student, teacher=None, baseline=None))
    assert card.count("| student |") == 2 and "0.5000 (no interval)" in card and "| 90.9 | 2.00 | – |" in card
    assert "base_model" not in front_matter(card) and front_matter(card)["pipeline_tag"] == "token-classification"


HOSTILE = "no\n---\nlicense: mit\n: {x}|<script>alert(1)</script>`[a](b)\u202e\x1b[31m"


def test_other_peoples_text_cannot_become_metadata_or_markup():
    task = result()["task"] | {"name": HOSTILE, "labels": [HOSTILE, "no"], "tests": {HOSTILE: 3}}
    student = result()["student"] | {"name": HOSTILE}
    student["metrics"] = {HOSTILE: {"f1": {"value": 0.5, "low": 0.4, "high": 0.6}}}
    hostile = result(
        task=task,
        student=student,
        teacher=result()["teacher"] | {"name": HOSTILE},
        method={"name": HOSTILE, HOSTILE: HOSTILE},
    )
    card = card_text(hostile | {"verdict": HOSTILE, "versions": {HOSTILE: HOSTILE}})
    assert card.count("\n---\n") == 1 and "license" not in front_matter(card)
    body = card.split("\n---\n")[1]
    assert "<script" not in body.replace("\\<", "") and "](b)" not in body.replace("\\]", "")
    assert not any(character in card for character in "\x1b\u202e")
    cells = {line.replace("\\|", "").count("|") for line in body.splitlines() if line.startswith("|")}
    assert cells <= {3, 6, 7}
    model_index = front_matter(card)["model-index"][0]
    assert "\n" not in model_index["name"]


@pytest.mark.parametrize(
    "value, shown",
    [
        ("/home/ada/runs/teacher", "teacher"),
        ("/home/ada/runs/teacher/", "teacher"),
        ("~/teacher", "teacher"),
        ("./teacher", "teacher"),
        ("../runs/teacher", "teacher"),
        ("runs/mrpc/student", "student"),
        (r"C:\Users\ada\teacher", "teacher"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("package:gt_models/a/b", "package:gt_models/a/b"),
        (5.0, "5.0"),
        ("a / b / c", "a / b / c"),
    ],
)
def test_places_are_named_by_their_last_part(value: Any, shown: str):
    assert public_name(value) == shown


def test_a_local_teacher_is_no_base_model_and_no_path_is_shown(tmp_path: Path):
    teacher = result()["teacher"] | {"name": str(tmp_path / "my-teacher")}
    card = card_text(result(teacher=teacher))
    assert "my-teacher" in card and str(tmp_path) not in card and "base_model" not in front_matter(card)


def test_the_card_is_in_the_folder(tmp_path: Path):
    folder = save_model(
        model(), tmp_path / "student", card=card_text(result()), eval_results=eval_results_text(result())
    )
    assert front_matter((folder / "README.md").read_text())["library_name"] == "transformers"
    assert yaml.safe_load((folder / ".eval_results" / "understudy.yaml").read_text())[0]["value"] == 0.85
    assert load_model(str(folder)).labels == LABELS
