"""Tiny students of every family and kind, and processes in which packages are hidden."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_net, tiny_tokenizer

from understudy.models.model import Model
from understudy.models.restructure import cut, num_units

LABELS = {
    "classification": ("glad", "sad", "torn"),
    "multilabel": ("a", "b", "c"),
    "tokens": ("O", "B-X", "I-X"),
    "regression": (),
    "text": (),
}
SOURCE = Path(__file__).parents[1] / "src"
_HIDE = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"{{name}} is hidden", name=name)
sys.meta_path.insert(0, Hide())
"""


def no_traces(monkeypatch: Any) -> None:
    """torch traces every step of an export for whoever listens, and pytest's capture does: that doubles the time."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [])


def student(family: str = "bert", kind: str = "classification", *, types: bool = False, **changes: Any) -> Model:
    head = {"tokens": "tokens", "text": "text", "hidden": "backbone"}.get(kind, "classification")
    net = tiny_net(family, head, num_labels=1 if kind == "regression" else 3, **changes)
    kind = "text" if kind == "hidden" else kind
    tokenizer = tiny_tokenizer()
    if types:
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return Model(net, tokenizer, LABELS[kind], kind, "tiny", None)


def pruned(model: Model, *, seed: int = 0) -> Model:
    """Random units in random order; the first layer loses all heads, the last but one all neurons."""
    heads, neurons = num_units(model.net)
    draw = random.Random(seed)
    kept_heads = [draw.sample(range(n), draw.randint(1, n - 1)) for n in heads]
    kept_neurons = [draw.sample(range(n), draw.randint(1, n - 1)) for n in neurons]
    if len(heads) > 1:
        kept_heads[0], kept_neurons[-2] = [], []
    cut(model.net, heads=kept_heads, neurons=kept_neurons)
    return model


def inputs(*, types: bool = False) -> dict[str, torch.Tensor]:
    """Two rows of seven tokens, the second with two of padding."""
    ids = torch.tensor([[2, 6, 7, 8, 9, 10, 3], [2, 11, 12, 13, 3, 0, 0]])
    given = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    return given | ({"token_type_ids": (ids > 9).long()} if types else {})


def run_hidden(code: str, folder: Path, *, hidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process in `folder`, where the packages `hidden` cannot be imported."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    code = _HIDE.format(names=set(hidden)) + code
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
