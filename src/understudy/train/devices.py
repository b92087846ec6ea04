"""Devices, ranks and precision, through accelerate: one process on a laptop and `torchrun` look the same to the loop."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import torch

from understudy.base.errors import RecipeError
from understudy.base.progress import say

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator() -> Accelerator:
    """The process's one Accelerator. It places models and knows the ranks; precision is the loop's own business."""
    if not hasattr(_accelerator().state, "device"):  # transformers' TrainingArguments resets what all Accelerators share
        _accelerator.cache_clear()
    return _accelerator()


@cache
def _accelerator() -> Accelerator:
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    # A student may own parameters no term reaches (a pooler under hidden-state matching), so unused ones are allowed.
    # The others wait while the first computes what only one may write, such as a large teacher's outputs: not 30 minutes.
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # explicit, or several processes on CPUs would not join
        mixed_precision="no",
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=timedelta(days=1)),
        ],
    )


def leave_group() -> None:
    """End the group of processes, if there is one: its threads may abort an interpreter that exits before them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def over_processes(mine: int) -> int:
    """The sum over all processes. All of them must ask."""
    acc = accelerator()
    if acc.num_processes == 1:
        return mine
    return int(torch.as_tensor(acc.reduce(torch.tensor(mine, device=acc.device), reduction="sum")))


def any_process(mine: bool) -> bool:
    """True in all processes as soon as it is true in one. All of them must ask."""
    return over_processes(int(mine)) > 0


def resolve_precision(precision: str, device: torch.device) -> str:
    """What `auto` stands for: bf16 where the hardware multiplies it, fp32 elsewhere.

    Raises:
        RecipeError: fp16 on a CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise RecipeError("train.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16"
    return "fp32"


def set_determinism(mode: str) -> None:
    """exact: the same command gives the same bits on the same machine. fast: allow kernels that may not."""
    exact = mode == "exact"
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(exact)
    # A debugging aid of exact mode that costs a pass over every new tensor; torch gives it no type.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cuda.matmul.allow_tf32 = not exact


def start_trackers(names: tuple[str, ...], project: str, folder: str) -> list:
    """Trackers of the recipe, through accelerate. One that cannot start is named and left out; the run goes on."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    trackers = []
    for name in names:
        try:
            kind = LOGGER_TYPE_TO_CLASS[name]
            tracker = kind(project, logging_dir=folder) if getattr(kind, "requires_logging_directory", False) else kind(project)
            if hasattr(tracker, "start"):
                tracker.start()
            trackers.append(tracker)
        except Exception as error:  # a tracker is other people's code may raise anything
            say(f"The tracker {name} could not start ({error}); the run goes on, metrics.jsonl has everything.")
    return trackers
