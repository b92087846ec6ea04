"""How long a run will take here: a few steps of networks of the right shape are timed, and the rest is arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.recipe.method import FROZEN, Facts
from understudy.recipe.settings import Recipe

if TYPE_CHECKING:
    from understudy.data.types import TaskData

_OPERATIONS = 5e10
"""Of one probed step: a second or so on one core."""
_LARGEST = 1_000_000_000  # parameters; a larger network is not built for a guess about time


def estimate(
    recipe: Recipe,
    data: TaskData,
    nets: dict[str, Callable[[], Any]],
    facts: Facts,
    lengths: Sequence[int],
    sizes: dict[str, int],
) -> dict[str, float] | None:
    """Seconds of each part of a run: teacher, signals, student, baseline; None where a network is too large to be tried.

    Args:
        nets: makes the networks, "teacher" and "student" (where the recipe has them), with memory for their weights.
        lengths: tokens of some of the rows, as far as they are read.
        sizes: parameters of these networks.
    """
    if not nets or max(sizes.values()) > _LARGEST:
        return None
    from understudy.lab.lab import RATES, TRIAL_STEPS  # heavy

    mean, rows = float(np.mean(lengths)), len(data.train)
    per_epoch = math.ceil(rows / recipe.train.batch_size)
    step: dict[str, float] = {}
    row: dict[str, float] = {}
    for name, make in nets.items():
        settings = recipe.train if name == "student" or recipe.teacher is None else recipe.teacher.finetune or recipe.train
        learn, look, update = _timed(make(), lengths, settings.precision)
        step[name] = learn * mean * recipe.train.batch_size + update
        row[name] = look * mean
    student = "student" if "student" in nets else "teacher"  # one that is found costs about its share
    scale = 1.0 if "student" in nets else facts.found
    judged = len(data.select) * row[student] * scale

    def fitted(epochs: float, seconds: float, looks: float) -> float:
        whole = epochs * (per_epoch * seconds + looks * recipe.train.evaluations_per_epoch)
        return min(whole, recipe.train.time_limit or math.inf)

    found: dict[str, float] = {}
    tests = sum(map(len, data.tests.values()))
    finetune = recipe.teacher.finetune if recipe.teacher else None
    if finetune is not None and "teacher" in nets:
        per_epoch_teacher = math.ceil(rows / finetune.batch_size)
        one = step["teacher"] * per_epoch_teacher + len(data.select) * row["teacher"]
        trials = len(RATES[0]) * min(finetune.epochs, math.ceil(TRIAL_STEPS / per_epoch_teacher)) if finetune.lr == "auto" else 0
        found["teacher"] = one * (finetune.epochs + trials) * FROZEN[finetune.trains(recipe.how)] + tests * row["teacher"]
    if recipe.how.needs_teacher and "teacher" in nets:
        found["its outputs"] = rows * row["teacher"]
    own = facts.share or 1.0
    found["student"] = tests * row[student] * scale
    for stage in recipe.how.stages(recipe.method, recipe, facts):
        seconds = step[student] * scale * stage.share / (own if "student" in nets else facts.found)
        found["student"] += stage.fits * fitted(stage.wanted * stage.passes, seconds, judged)
    if recipe.evaluate.baseline and recipe.how.needs_teacher and data.task.kind.labelled:
        found["baseline"] = fitted(recipe.train.epochs, step[student] * scale, judged) + tests * row[student] * scale
    return found


def said(found: dict[str, float]) -> str:
    """The same in words."""
    parts = ", ".join(f"{name} {_long(seconds)}" for name, seconds in found.items() if seconds >= 1)
    return f"about {_long(sum(found.values()))} on this machine ({parts}): an estimate from a few measured steps."


def _long(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _timed(net: Any, lengths: Sequence[int], precision: str) -> tuple[float, float, float]:
    """(seconds of learning from a token, of looking at one, of an update) of a network without a head."""
    import torch

    from understudy.cache import autocast
    from understudy.data.encode import Batch
    from understudy.evaluate.measure import num_parameters_nonembedding
    from understudy.models.anatomy import anatomy
    from understudy.models.needs import Needs
    from understudy.models.signals import forward
    from understudy.train.devices import accelerator, resolve_precision

    device = accelerator().device
    net.to(device)
    room = max(1, int(_OPERATIONS / (6 * num_parameters_nonembedding(net))))
    longest = anatomy(net).max_tokens(net)
    ordered = [min(length, longest) for length in sorted(lengths)]
    rows = max(1, min(64, len(ordered), room // max(1, int(np.mean(ordered)))))
    sizes = [ordered[i] for i in np.linspace(0, len(ordered) - 1, rows).astype(int)]
    ids = torch.arange(sum(sizes), device=device) % net.config.vocab_size
    batch = Batch(ids, None, torch.tensor(sizes, device=device), sizes, None, np.arange(len(sizes)))
    last = (anatomy(net).num_layers(net),)
    arithmetic = resolve_precision(precision, device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, fused=True)

    def clock(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(3):
            start = perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(perf_counter() - start)
            if times[-1] > 2:
                break
        return min(times)

    def look() -> Any:
        with torch.no_grad():
            return run()

    def run() -> Any:
        with autocast(device, arithmetic):
            return forward(net, batch, Needs(hidden=last), kind="classification").hidden[last[0]]

    def learn() -> None:
        optimizer.zero_grad()
        run().float().square().mean().backward()

    net.eval()
    looked = clock(look)
    net.train()
    learnt = clock(learn)
    return learnt / sum(sizes), looked / sum(sizes), clock(optimizer.step)
