"""The systems that are compared. Each is used as its own documentation shows; none is slowed down or helped.

A system is a function `(work, model, epochs=, seed=, tick=, folder=)` that trains the student `model` in place; `tick()`
is called once per optimiser step, at a fixed place of its loop.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from work import (
    BATCH,
    BUILD,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    MAX_LENGTH,
    TEMPERATURE,
    WARM_UP,
    WEIGHT_DECAY,
    Work,
    course,
)  # fmt: skip

from understudy.models.model import Model

TEXTBREWER = "0.2.1.post1"
Tick = Callable[[], None]


@dataclass(frozen=True)
class System:
    """A name for people, and how it trains."""

    title: str
    train: Callable[..., None]
    setup: Callable[..., float] | None = None
    """The cost that comes once, whatever the number of epochs: seconds."""
    keeps_memory: bool = False
    """Its process keeps memory, as the `understudy` command does (base/memory.py)."""


# -- ours --------------------------------------------------------------------------------------------------------------


class _EveryStep:
    """A tracker, in the sense of our loop: told about every optimiser step."""

    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.tick()


def _cached_teacher(work: Work, folder: Path, precision: str) -> Any:
    """The product's own way from a teacher to its answers on disk."""
    import torch

    from understudy.cache import CachedTeacher, SignalCache
    from understudy.models.model import digest
    from understudy.models.needs import Needs
    from understudy.train.devices import resolve_precision

    needs = Needs(logits=True)
    cache = SignalCache(
        folder,
        model=work.teacher,
        digest=digest(work.teacher.net),
        encoded=work.train,
        precision=resolve_precision(precision, torch.device("cpu")),
    )
    cache.fill(needs, lambda _: None)
    return CachedTeacher(cache, needs)


def cache_seconds(work: Work, folder: Path, *, precision: str, passes: int) -> float:
    """The median of several passes over all training rows, each into an empty store."""
    seconds = []
    for turn in range(passes):
        start = perf_counter()
        _cached_teacher(work, folder / f"once-{turn}", precision)
        seconds.append(perf_counter() - start)
    return statistics.median(seconds)


def ours(
    work: Work,
    model: Model,
    *,
    precision: str,
    epochs: int,
    seed: int,
    tick: Tick,
    folder: Path,
    grouping: Literal["none", "length"] = "none",
) -> None:
    """understudy with the defaults of a recipe, exact determinism included."""
    from understudy.objective import Objective
    from understudy.objective.terms import soft_labels
    from understudy.train.devices import set_determinism
    from understudy.train.guard import StopSignals
    from understudy.train.loop import Fit, fit

    set_determinism("exact")
    task = Fit(
        folder=folder / "fit",
        name="student",
        model=model,
        data=[work.train],
        objective=Objective(soft=soft_labels("classification", temperature=TEMPERATURE)),
        settings=course(epochs, precision, grouping),
        seed=seed,
        teachers=[_cached_teacher(work, folder / "signals", precision)],
        trackers=[_EveryStep(tick)],
    )
    with StopSignals() as stop:
        fit(task, stop)


# -- transformers.Trainer ----------------------------------------------------------------------------------------------


def _order(work: Work, seed: int) -> Any:
    """A batch sampler with the order of our loop, so that all systems see the same rows in each step."""
    import torch

    class Order(torch.utils.data.Sampler):
        epoch = -1

        def __len__(self) -> int:
            return -(-len(work.train) // BATCH)

        def __iter__(self) -> Iterator[list[int]]:
            self.epoch += 1
            return iter([batch.tolist() for batch in work.batches(seed=seed, epoch=self.epoch)])

    return Order()


def _collator(work: Work, padding: str) -> Any:
    from transformers import DataCollatorWithPadding

    fixed = MAX_LENGTH if padding == "max_length" else None
    return DataCollatorWithPadding(work.teacher.tokenizer, padding=padding, max_length=fixed)


def trainer(
    work: Work, model: Model, *, padding: str, bf16: bool = False, epochs: int, seed: int, tick: Tick, folder: Path
) -> None:
    """What one writes first: a Trainer whose compute_loss asks the teacher."""
    import torch
    import torch.nn.functional as F
    from transformers import Trainer, TrainerCallback, TrainingArguments

    teacher = work.teacher.net

    class Distiller(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            outputs = model(**inputs)
            with torch.no_grad():
                wanted = F.softmax(teacher(**inputs).logits / TEMPERATURE, dim=-1)
            said = F.log_softmax(outputs.logits / TEMPERATURE, dim=-1)
            loss = -(wanted * said).sum(dim=-1).mean() * TEMPERATURE**2
            return (loss, outputs) if return_outputs else loss

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            order = _order(work, seed)

            class Rows(torch.utils.data.Sampler):
                def __len__(self) -> int:
                    return len(work.train)

                def __iter__(self) -> Iterator[int]:
                    return (row for batch in order for row in batch)

            return Rows()

    class EveryStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            tick()

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=epochs,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARM_UP,  # below 1: a share of all steps
        max_grad_norm=MAX_GRAD_NORM,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=True,
        bf16=bf16,
        seed=seed,
    )
    Distiller(
        model=model.net,
        args=arguments,
        train_dataset=work.rows(),
        data_collator=_collator(work, padding),
        callbacks=[EveryStep()],
    ).train()


# -- TextBrewer --------------------------------------------------------------------------------------------------------


def install_textbrewer() -> Path:
    """TextBrewer beside this environment rather than in it: it is nobody's dependency here."""
    target = BUILD / "textbrewer"
    if not (target / "textbrewer").is_dir():
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
        subprocess.run([*command, "--target", str(target), f"textbrewer=={TEXTBREWER}"], check=True)
    return target


def textbrewer(work: Work, model: Model, *, padding: str, epochs: int, seed: int, tick: Tick, folder: Path) -> None:
    """GeneralDistiller, the class its documentation recommends, with its text-classification example's set-up."""
    sys.path.insert(0, str(install_textbrewer()))
    import torch
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
    from transformers import get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    collate = _collator(work, padding)
    loader = torch.utils.data.DataLoader(
        work.rows(),  # type: ignore[arg-type]
        batch_sampler=_order(work, seed),
        collate_fn=lambda rows: dict(collate(rows)),
    )
    total = len(loader) * epochs
    begun = False

    def before_each_step(batch: dict[str, Any]) -> dict[str, Any]:
        nonlocal begun
        if begun:
            tick()
        begun = True
        return batch

    def adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
        return {"logits": outputs.logits}

    decayed = [p for p in model.net.parameters() if p.ndim > 1]
    others = [p for p in model.net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    GeneralDistiller(
        TrainingConfig(device="cpu", output_dir=str(folder / "textbrewer"), ckpt_epoch_frequency=epochs),
        # Its cross-entropy has no factor T squared; as a weight it gives the same objective.
        DistillationConfig(temperature=TEMPERATURE, kd_loss_weight=TEMPERATURE**2, hard_label_weight=0),
        work.teacher.net,
        model.net,
        adaptor,
        adaptor,
    ).train(
        torch.optim.AdamW(groups, lr=LEARNING_RATE),
        loader,
        num_epochs=epochs,
        scheduler_class=get_linear_schedule_with_warmup,
        scheduler_args={"num_warmup_steps": int(WARM_UP * total), "num_training_steps": total},
        max_grad_norm=MAX_GRAD_NORM,
        batch_postprocessor=before_each_step,
    )


SYSTEMS: dict[str, System] = {
    "ours": System("understudy", partial(ours, precision="auto"), partial(cache_seconds, precision="auto"), True),
    "ours_giving_back": System(
        "understudy, from python: memory given back", partial(ours, precision="auto"), partial(cache_seconds, precision="auto")
    ),
    "ours_grouped": System(
        "understudy, rows of like length",
        partial(ours, precision="auto", grouping="length"),
        partial(cache_seconds, precision="auto"),
        True,
    ),
    "ours_fp32": System("understudy, fp32", partial(ours, precision="fp32"), partial(cache_seconds, precision="fp32"), True),
    "trainer_128": System("Trainer, padded to 128", partial(trainer, padding="max_length")),
    "trainer_dynamic": System("Trainer, dynamic padding", partial(trainer, padding="longest")),
    "trainer_dynamic_bf16": System("Trainer, dynamic padding, bf16", partial(trainer, padding="longest", bf16=True)),
    "textbrewer_128": System("TextBrewer, padded to 128", partial(textbrewer, padding="max_length")),
    "textbrewer_dynamic": System("TextBrewer, dynamic padding", partial(textbrewer, padding="longest")),
}
