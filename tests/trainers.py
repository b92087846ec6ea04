"""The toy task as users of a Trainer have it: rows of token ids, padded batches, training arguments."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import fits
import tiny_models
import torch
import toys
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    TrainerCallback,
    TrainingArguments,
)

from understudy.data.encode import Encoded
from understudy.interop import DistilTrainer
from understudy.objective import Objective, projection
from understudy.objective import terms as learn

KINDS = ("classification", "regression", "multilabel", "tokens", "text")
WIDE = 48


def rows_of(encoded: Encoded) -> list[dict[str, Any]]:
    """One row of ids, mask and labels for each encoded example."""
    rows = []
    for i in range(len(encoded)):
        part = slice(encoded.offsets[i], encoded.offsets[i + 1])
        labels = encoded.labels[part].tolist() if encoded.per_token else encoded.labels[i].tolist()
        ids = encoded.input_ids[part].tolist()
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return rows


def collator(kind: str) -> Any:
    padding = DataCollatorForTokenClassification if kind in ("tokens", "text") else DataCollatorWithPadding
    return padding(toys.tokenizer())


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    base = {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "num_train_epochs": 1, "learning_rate": 5e-3,
        "save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True, "logging_steps": 2,
    }  # fmt: skip
    return TrainingArguments(**(base | changes))


def teacher(kind: str = "classification", **sizes: Any) -> Any:
    """A wider and deeper network of the same kind, without dropout."""
    sizes = {"hidden_size": WIDE, "num_hidden_layers": 3, "num_attention_heads": 6, **sizes}
    head = fits.HEADS.get(kind, "BertForSequenceClassification")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        import transformers

        return getattr(transformers, head)(toys.config(labels=len(fits.task(kind).labels) or 1, **_sized(sizes))).eval()


def of_family(family: str, kind: str, *, seed: int, **sizes: Any) -> Any:
    """A random network of a family in the toy world's vocabulary, two layers deep and without dropout."""
    sizes = {"num_hidden_layers": 2, "vocab_size": len(toys.WORDS), "num_labels": len(fits.task(kind).labels) or 1, **sizes}
    with torch.random.fork_rng(devices=[]):
        net = tiny_models.tiny_net(family, kind if kind in ("tokens", "text") else "classification", seed=seed, **sizes)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


def _sized(sizes: dict[str, Any]) -> dict[str, Any]:
    return {"layers": sizes.pop("num_hidden_layers"), **sizes}


def objective(kind: str = "classification", *, pairwise: bool = False) -> Objective:
    """Labels, softened outputs and hidden states of another width, by way of trained projections."""
    terms = {
        "hard": 0.5 * learn.hard_labels(kind),
        "soft": learn.soft_labels(kind),
        "hidden": 2.0 * learn.hidden_states(((1, 1), (2, 3)), student_width=32, teacher_width=WIDE, seed=0),
    }
    if kind in ("classification", "regression", "multilabel"):
        adaptor = projection("adaptor", "auto", student_width=32, teacher_width=WIDE, seed=0)
        terms["feature"] = learn.output_feature(kind, adaptor=adaptor)
        terms |= {"rkd": learn.rkd_distance()} if pairwise else {}
    return Objective(**terms)


class Gradients(TrainerCallback):
    """The gradients of each step, by name, as they are when the optimiser is called."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.learner: Any = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        named = self.learner.named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def trainer(folder: Path, kind: str = "classification", *, args: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A trainer of the toy task; `args` change its arguments, everything else what it is given."""
    given = {
        "model": fits.model(kind, dropout=0.0).net, "args": arguments(folder, **(args or {})), "kind": kind,
        "train_dataset": rows_of(fits.encoded(16, kind=kind)), "data_collator": collator(kind),
        "objective": objective(kind), "teacher": teacher(kind), "processing_class": toys.tokenizer(),
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return DistilTrainer(**(given | changes))
