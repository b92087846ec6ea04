"""A student with a part of its teacher's tokens, with any method: what it learns from is still the whole teacher."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import toys
import transformers

from understudy.base.errors import RecipeError
from understudy.check import check
from understudy.export import export_folder
from understudy.models.load import load_model
from understudy.recipe.load import recipe_from
from understudy.run import predict, train

METHODS: dict[str, dict[str, Any]] = {
    "automm": {
        "student": {"num_layers": 1}, "method": {"name": "automm"},
        "objective": {"hard": 1.0, "soft": 1.0, "hidden": 1.0, "relations": 1.0},
    },
    "minidisc": {"student": {"sparsity": 0.75}, "method": {"name": "minidisc"}},
    "peakd": {"student": {"num_layers": 1}, "method": {"name": "peakd"}},
    "kdnas": {"student": {}, "method": {"name": "kdnas", "episodes": 1, "candidates": 2, "init": "teacher", "space": {
        "layers": [1, 2], "heads": [2, 4], "hidden": [16, 32], "intermediate": [24, 48], "activations": None}}},
}  # fmt: skip
RARE = ["zebra", "quokka", "vixen", "jumble", "fjord"]


def checkpoint(folder: Path) -> Path:
    """A BERT whose WordPiece tokenizer knows the toy words, and others that no row holds."""
    from tokenizers import BertWordPieceTokenizer

    core = BertWordPieceTokenizer()
    draw = random.Random(0)
    texts = [text for text, _ in toys.sentences(300)] + [" ".join(draw.choices(RARE, k=6)) for _ in range(60)]
    core.train_from_iterator(texts, vocab_size=400, show_progress=False)
    folder.mkdir(parents=True)
    core.save_model(str(folder))
    tokenizer = transformers.BertTokenizer.from_pretrained(str(folder), model_max_length=64)
    net = tiny_models.tiny_net("bert", "backbone", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
                               max_position_embeddings=64, num_hidden_layers=4)  # fmt: skip
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_of(folder: Path, method: str, **student: Any) -> dict[str, Any]:
    data = toys.save_csv(folder / "data", rows=64)
    with open(data / "test.csv", "a", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerow(["the zebra is happy and warm", "glad"])
    recipe = json.loads(json.dumps(METHODS[method]))
    return recipe | {
        "student": recipe["student"] | student,
        "task": {"name": "custom", "kind": "classification", "columns": {"text": "body", "label": "mood"},
                 "files": {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")}},
        "teacher": {"model": str(checkpoint(folder / "model")), "finetune": {"epochs": 1}},
        "train": {"epochs": 1, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 0, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }  # fmt: skip


@pytest.mark.parametrize("method", [*list(METHODS)[:1], *(pytest.param(m, marks=pytest.mark.slow) for m in list(METHODS)[1:])])
def test_from_files_to_a_student_with_fewer_tokens(method: str, tmp_path: Path, understudy_home: Path):
    recipe = recipe_from(recipe_of(tmp_path, method, vocabulary="used"))
    said = [one.text for one in check(recipe)]
    train(recipe, tmp_path / "run")
    whole = load_model(str(tmp_path / "model"))
    student = load_model(str(tmp_path / "run" / "student"))
    known = student.tokenizer.get_vocab()
    assert len(known) == student.net.config.vocab_size < len(whole.tokenizer) - 2
    assert "zebra" not in known and {"happy", "the", "z"} <= set(known)
    if method != "kdnas":  # where the student's width is not known before
        fewer = 32 * (len(whole.tokenizer) - len(known))
        assert f"{len(known)} of {len(whole.tokenizer)} tokens are kept: about {fewer:,} parameters fewer." in said
    facts = json.loads((tmp_path / "run" / "steps" / "vocabulary" / "done.json").read_text())["value"]
    assert facts["tokens"] == {"teacher": len(whole.tokenizer), "student": len(known)}
    saved = facts["parts"]["teacher"]["embeddings"] - facts["parts"]["student"]["embeddings"]
    assert saved >= 16 * (len(whole.tokenizer) - len(known))
    assert 0 < facts["spelled"]["test"] < 0.05 and "accuracy" in facts["scores"]["test"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Where the parameters are" in page and "spelled in smaller pieces" in page
    rows = tmp_path / "rows.csv"
    rows.write_text("body\nthe zebra is happy\n")
    (answer,) = predict(tmp_path / "run", str(rows))
    assert answer["label"] in ("glad", "sad")
    train(recipe, tmp_path / "run")  # the finished run is found again: the same student is made


def test_a_number_of_tokens_further_texts_and_scripts(tmp_path: Path, understudy_home: Path):
    texts = tmp_path / "more.txt"
    texts.write_text("a zebra on a fjord\n")
    recipe = recipe_of(tmp_path, "automm", vocabulary={"texts": [str(texts)]})
    train(recipe_from(recipe), tmp_path / "run")
    known = load_model(str(tmp_path / "run" / "student")).tokenizer.get_vocab()
    assert {"zebra", "fjord"} <= set(known) and "quokka" not in known
    recipe["student"]["vocabulary"] = {"number": 100}
    with pytest.raises(RecipeError, match="token"):  # rows are spelled otherwise, and these terms go token by token
        train(recipe_from(recipe), tmp_path / "fewer")
    recipe["objective"] = {"hard": 1.0, "soft": 1.0}
    train(recipe_from(recipe), tmp_path / "fewest")
    assert len(load_model(str(tmp_path / "fewest" / "student")).tokenizer) == 100


def test_plain_text_is_refused_before_the_teacher_is_trained(tmp_path: Path, understudy_home: Path):
    recipe = recipe_of(tmp_path, "automm", vocabulary="used")
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in toys.sentences(60)))
    recipe["task"] = {"name": "custom", "kind": "text", "files": {"train": str(tmp_path / "texts.txt")}}
    del recipe["teacher"]["finetune"], recipe["objective"]
    assert any("Trim the teacher" in one.text for one in check(recipe_from(recipe)) if one.level == "error")


def test_embeddings_of_low_rank_are_trained_and_folded(tmp_path: Path, understudy_home: Path):
    recipe = recipe_from(recipe_of(tmp_path, "automm", vocabulary="used", embedding_rank=8))
    assert not [one for one in check(recipe) if one.level == "error"]
    train(recipe, tmp_path / "run")
    student = load_model(str(tmp_path / "run" / "student"))
    table = student.net.get_input_embeddings()
    assert (table.rows.weight.shape[1], table.widen.weight.shape) == (8, (32, 8))
    assert "word embeddings are of rank 8" in (tmp_path / "run" / "report.html").read_text()
    export_folder(tmp_path / "run", "hf", out=tmp_path / "stock")
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock").eval()
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path / "stock")("the phone is bright", return_tensors="pt")
    assert type(stock) is transformers.BertForSequenceClassification
    with torch.no_grad():
        torch.testing.assert_close(stock(**inputs).logits, student.net(**inputs).logits, rtol=1e-4, atol=1e-5)
