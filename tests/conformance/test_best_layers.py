"""`student.keep: best` against a slow version that says it literally: every cut, run by the stock model, row by row."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
import transformers

from understudy.models.load import load_model
from understudy.recipe.load import recipe_from
from understudy.run import train
from understudy.students.keep_layers import search_cuts


def checkpoint(folder: Path) -> Path:
    """Four layers that differ more than those of an untrained model do."""
    net = toys.bert(layers=4, head="BertModel")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    net.save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    return folder


def recipe_of(folder: Path, **student: Any) -> dict[str, Any]:
    data = toys.save_csv(folder / "data", rows=48)
    return {
        "task": {"name": "custom", "kind": "classification", "columns": {"text": "body", "label": "mood"},
                 "files": {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")}},
        "teacher": {"model": str(checkpoint(folder / "model")), "finetune": {"epochs": 1}},
        "student": student,
        "method": {"name": "automm"},
        "train": {"epochs": 1, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 0, "baseline": False, "latency": {"repeats": 3, "length": 8}},
    }  # fmt: skip


def literal(net: Any, tokenizer: Any, texts: list[str], layers: tuple[int, ...], *, outputs: bool) -> np.ndarray:
    """(N, C) logits without each row's mean, or (tokens, D) states, of the network with those layers alone."""
    stack = net.base_model.encoder.layer
    net.base_model.encoder.layer = torch.nn.ModuleList([stack[i] for i in layers])
    rows = []
    with torch.no_grad():
        for text in texts:
            inputs = tokenizer(text, return_tensors="pt")
            if outputs:
                logits = net(**inputs).logits[0].double().numpy()
                rows.append(logits - logits.mean())
            else:
                rows.extend(net.base_model(**inputs).last_hidden_state[0].double().numpy())
    net.base_model.encoder.layer = stack
    return np.array(rows)


@pytest.mark.parametrize("init", ["teacher", "pretrained"])
def test_every_cut_is_compared_with_the_whole(init: str, tmp_path: Path, understudy_home: Path):
    train(recipe_from(recipe_of(tmp_path, num_layers=2, keep="best", init=init)), tmp_path / "run")
    (step,) = (tmp_path / "run" / "steps").glob("layers-2-of-4-*")
    kept = json.loads((step / "done.json").read_text())["value"]
    folder = tmp_path / "model"
    if init == "teacher":
        (folder,) = tmp_path.glob("understudy-home/**/model/config.json")
        folder = folder.parent
    net = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [line.rpartition(",")[0] for line in (tmp_path / "data" / "train.csv").read_text().splitlines()[1:]]
    whole = literal(net, tokenizer, texts, (0, 1, 2, 3), outputs=init == "teacher")
    expected = {}
    for layers in combinations(range(4), 2):
        cut = literal(net, tokenizer, texts, layers, outputs=init == "teacher")
        one, other = cut - cut.mean(0), whole - whole.mean(0)
        expected[layers] = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
    assert {tuple(layers): value for layers, value in kept["cuts"]} == pytest.approx(expected, abs=1e-4)
    best = max(expected, key=expected.__getitem__)
    assert tuple(kept["cuts"][0][0]) == best
    student = load_model(str(tmp_path / "run" / "student"))
    assert student.net.config.num_hidden_layers == 2
    notes = json.loads((tmp_path / "run" / "details.json").read_text())["notes"]
    assert any(f"made of layers {best[0]}, {best[1]} of" in note for note in notes)
    assert "Which layers" in (tmp_path / "run" / "report.html").read_text()


def test_a_beam_where_cuts_are_many():
    """Worth of layers adds up, so that taking the least away each time is right, and few cuts are looked at."""
    worth = np.random.default_rng(0).random(12)
    asked: list[tuple[int, ...]] = []

    def score(layers: tuple[int, ...]) -> float:
        asked.append(layers)
        return float(worth[list(layers)].sum())

    found = search_cuts(score, 5, 12, most=150)
    assert max(found, key=found.__getitem__) == tuple(sorted(np.argsort(-worth)[:5].tolist()))
    assert len(asked) <= 150 and all(len(layers) == 5 for layers in found)
