"""The work every system is given: the same teacher, student, rows, order of rows, objective and course of training.

Logit distillation of a six-layer encoder, fine-tuned on MRPC, into its own layers 0, 2 and 4: cross-entropy with the
teacher's softened answers times T squared, AdamW, linear schedule with a warm-up, gradients clipped to norm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from record import ENCODER, ROOT

from understudy.base import seeds
from understudy.data.batches import training_batches
from understudy.data.encode import Encoded, encode
from understudy.data.tasks import load_task
from understudy.data.types import Example, Task
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.recipe.settings import TaskSettings, TrainSettings
from understudy.students.keep_layers import keep_layers

BUILD = ROOT / "build" / "bench"
"""What the benchmarks install and train on the way; ignored by git, may be deleted."""
DATA = ROOT.parent / "shared" / "data" / "glue_data" / "MRPC"
TEACHER = BUILD / "teacher"

LAYERS = (0, 2, 4)
BATCH = 32
MAX_LENGTH = 128
TEMPERATURE = 5.0
LEARNING_RATE = 1e-4
WARM_UP = 0.1
WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0


def course(epochs: int, precision: str, grouping: Literal["none", "length"] = "none") -> TrainSettings:
    """The course of training in our own words. Checkpoints are off in all systems: the disk is not what is compared."""
    return TrainSettings(
        epochs=epochs,
        batch_size=BATCH,
        lr=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup=WARM_UP,
        max_grad_norm=MAX_GRAD_NORM,
        precision=precision,
        grouping=grouping,
        checkpoint_seconds=1e9,
    )


@dataclass
class Work:
    """Rows and teacher, in memory."""

    task: Task
    teacher: Model
    examples: list[Example]
    dev: list[Example]

    @cached_property
    def train(self) -> Encoded:
        return encode(self.examples, self.teacher.tokenizer, self.task, max_length=MAX_LENGTH)

    def student(self) -> Model:
        """A fresh student: always the same weights."""
        return keep_layers(self.teacher, list(LAYERS))

    def batches(self, *, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of each optimiser step of an epoch: what our loop takes, and what the others are given too."""
        return training_batches(self.train.lengths, batch_size=BATCH, seed=seed, epoch=epoch)

    def rows(self) -> list[dict[str, list[int]]]:
        """The encoded rows as everybody's collators want them."""
        data, rows = self.train, []
        assert data.token_type_ids is not None
        for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
            ids, types = data.input_ids[start:end].tolist(), data.token_type_ids[start:end].tolist()
            rows.append({"input_ids": ids, "token_type_ids": types, "attention_mask": [1] * len(ids)})
        return rows

    def about(self) -> dict[str, object]:
        """What was worked on, for the record."""
        return {
            "task": "MRPC",
            "rows": len(self.train),
            "dev_rows": len(self.dev),
            "tokens_per_row": round(float(np.mean(self.train.lengths)), 2),
            "longest_row": int(self.train.lengths.max()),
            "teacher": digest(self.teacher.net),
            "student_layers": list(LAYERS),
            "batch_size": BATCH,
            "padded_length": MAX_LENGTH,
            "temperature": TEMPERATURE,
            "learning_rate": LEARNING_RATE,
        }


def load_rows(data: Path) -> tuple[Task, list[Example], list[Example]]:
    """(task, all training rows, dev rows) of an official MRPC folder. Nothing is selected here, so nothing is held out."""
    found = load_task(TaskSettings(name="glue/mrpc", path=str(data)), seed=0)
    return found.task, [*found.train, *found.select], found.tests["dev"]


def load_work(data: Path, teacher: Path, *, rows: int | None = None) -> Work:
    """The work with a fine-tuned teacher from a folder; `rows` limits the training rows."""
    task, examples, dev = load_rows(data)
    model = load_model(str(teacher), task=task)
    if model.fresh_head:
        raise SystemExit(f"{teacher} was not fine-tuned for MRPC; leave --teacher out, and one is made.")
    model.net.eval().requires_grad_(False)
    return Work(task, model, examples[:rows], dev)


def make_teacher(data: Path, folder: Path = TEACHER) -> Path:
    """Fine-tune the pretrained encoder on MRPC with our own loop, once."""
    if (folder / "config.json").exists():
        return folder
    from understudy.lab.fits import labels_only
    from understudy.models.save import save_model
    from understudy.train.guard import StopSignals
    from understudy.train.loop import Fit, fit

    task, examples, _ = load_rows(data)
    model = load_model(ENCODER, task=task, seed=seeds.derive(0, "head"))
    encoded = encode(examples, model.tokenizer, task, max_length=MAX_LENGTH)
    settings = course(4, "auto")
    with StopSignals() as stop:
        fit(Fit(folder.with_name("teacher-fit"), "teacher", model, [encoded], labels_only(task), settings, 0), stop)
    save_model(model, folder, card="")
    return folder


def score(work: Work, model: Model) -> dict[str, float]:
    """F1 and accuracy on dev, in fp32, whoever trained the model."""
    from understudy.evaluate.metrics import compute
    from understudy.evaluate.predict import predict

    encoded = encode(work.dev, model.tokenizer, work.task, max_length=MAX_LENGTH)
    return compute(work.task, predict(model, work.dev, encoded))
