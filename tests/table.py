"""The table that conformance and digests share: every method on every family and kind of task, as toy recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import tiny_models

SMALL = {"layers": [1, 2], "heads": [2], "hidden": [16], "intermediate": [24], "activations": ["gelu"]}
METHODS: dict[str, dict[str, Any]] = {
    "automm": {},
    "finetune": {},
    "peakd": {},
    "minidisc": {"student": {"sparsity": 0.75}},
    "maxidisc": {"student": {"sparsity": 0.75}, "method": {"assistants": ["50S"]}},
    "mkd": {"method": {"soft_label_weight": 0.5}, "train": {"only": "adapter", "adapter": "pfeiffer[reduction_factor=8]"}},
    "kdnas": {
        "student": None,
        "method": {"engine": "random", "episodes": 1, "candidates": 2, "space": SMALL, "mini_kd": {"epochs": 1, "proxy": 0.7}},
    },
}
"""What a method's recipe has beside, or in place of, the one they all share; a student of None is the method's to find."""
FAST = [
    ("automm", "bert", "text"),
    ("automm", "roberta", "regression"),
    ("automm", "distilbert", "multilabel"),
    ("automm", "electra", "pair"),
    ("automm", "albert", "classification"),
    ("automm", "deberta-v2", "tokens"),
    ("automm", "modernbert", "classification"),
    ("finetune", "bert", "tokens"),
    ("peakd", "bert", "classification"),
    ("minidisc", "roberta", "classification"),
    ("maxidisc", "electra", "pair"),
    ("mkd", "distilbert", "classification"),
    ("kdnas", "bert", "regression"),
]


def refused(method: str, family: str, kind: str) -> str | None:
    """What cannot be combined, and words of the reason that is given; None for everything else."""
    if method == "mkd" and family == "albert":
        return "one adapter, several times"
    if method == "peakd" and kind in ("regression", "tokens", "text"):
        return r"method\.ptp: off"
    if method == "minidisc" and kind == "text":
        return "tradeoff adds the selecting metric"
    return None


def listed(method: str, family: str, kind: str) -> bool:
    """AutoMM and plain fine-tuning on everything; of the other methods each family once and each kind of task once."""
    return method in ("automm", "finetune") or family == "bert" or kind == "classification"


ALL = [(method, family, kind) for method in METHODS for family in tiny_models.FAMILIES for kind in checkpoints.KINDS]


def recipe_of(folder: Path, method: str, family: str, kind: str) -> dict[str, Any]:
    head = "text" if kind == "text" else "backbone"
    model = checkpoints.save_checkpoint(folder / "model", family, head=head, num_hidden_layers=2)
    if family == "albert":  # shared layers cannot be taken apart
        student: dict[str, Any] = {"config": {"num_hidden_layers": 1}}
    elif family == "distilbert":
        student = {"keep": "first", "num_layers": 1}
    else:
        student = {"keep": [1]}
    own = METHODS[method]
    recipe = {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {"model": str(model), "finetune": {"epochs": 1}},
        "student": own.get("student", student),
        "method": {"name": method, **own.get("method", {})},
        "train": {"epochs": 2, "batch_size": 16, "lr": 3e-3, "precision": "fp32", **own.get("train", {})},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 8}},
    }
    return {key: value for key, value in recipe.items() if value is not None}
