"""What a model costs: parameters, size on disk, floating-point operations, latency.

Latency by protocol (the one in every report): the models of one run take turns, round by round, so that a machine that
grows warm or busy does so for all of them; rounds before the first counted one warm up; the device is synchronised
before each look at the clock; the thread count is fixed for the measurement and put back afterwards; the median and the
interquartile range are kept, because a mean latency is dominated by interruptions from other processes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.base.distribution import NAME
from understudy.base.errors import DataError, RecipeError

if TYPE_CHECKING:
    import torch

    from understudy.recipe.settings import LatencySettings

WARM_UP = 3

PACKAGES = (
    "understudy", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "datasets", "numpy", "scipy",
    "seqeval", "peft",
)  # fmt: skip


def num_parameters(net: torch.nn.Module) -> int:
    """All parameters, each counted once however many layers share it."""
    return sum(parameter.numel() for parameter in net.parameters())


def num_parameters_nonembedding(net: torch.nn.Module) -> int:
    """Parameters outside look-up tables (words, positions, segments): those that cost time, not only space."""
    import torch

    tables = {
        id(parameter): parameter.numel()
        for module in net.modules()
        if isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    return num_parameters(net) - sum(tables.values())


def size_mb(source: Path | torch.nn.Module) -> float:
    """Megabytes (10^6 bytes) of weights: the safetensors files of a saved folder, or a model's tensors in memory.

    The two agree to within the files' headers. Tokenizers are left out; teacher and student share them more often
    than not, and a folder from the hub may hold the same weights in four other formats.
    """
    if isinstance(source, (str, Path)):
        files = sorted(Path(source).rglob("*.safetensors"))
        if not files:
            raise DataError(
                f"'{source}' holds no .safetensors file, so there is no size to measure; save the model first."
            )
        return sum(file.stat().st_size for file in files) / 1e6
    from itertools import chain

    persistent = set(source.state_dict())
    tensors = chain(source.named_parameters(), source.named_buffers())
    return sum(tensor.numel() * tensor.element_size() for name, tensor in tensors if name in persistent) / 1e6


def inputs_for(net: torch.nn.Module, *, batch_size: int, length: int) -> dict[str, torch.Tensor]:
    """A full batch of (batch_size, length) tokens without padding, on the model's device.

    Raises:
        RecipeError: the model has fewer positions than `length`.
    """
    import torch

    config: Any = net.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and 0 < positions < length:
        raise RecipeError(
            f"evaluate.latency.length is {length}, but the model has only {positions} positions; set it to at most "
            f"{positions}."
        )
    last = net.get_input_embeddings().num_embeddings - 1  # type: ignore[operator]
    ids = torch.arange(batch_size * length).reshape(batch_size, length) % last
    # Any ids will do except padding: RoBERTa derives positions from it, and a model may skip it.
    if (padding := getattr(config, "pad_token_id", None)) is not None:
        ids[ids == padding] = last if padding != last else 0
    device = next(net.parameters()).device
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}


def forward_pass(net: torch.nn.Module, *, batch_size: int, length: int) -> Callable[[], Any]:
    """A call that runs `net` once on `inputs_for` it, without gradients and without dropout. For `latency`."""
    import torch

    inputs = inputs_for(net, batch_size=batch_size, length=length)
    net.eval()

    def run() -> Any:
        with torch.inference_mode():
            return net(**inputs)

    return run


def flops(net: torch.nn.Module, *, batch_size: int = 1, length: int = 128) -> int:
    """Floating-point operations of one forward pass, two per multiply-add, in matrix products (attention included)."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    inputs = inputs_for(net, batch_size=batch_size, length=length)
    net.eval()
    # Detached, because the counter hooks into the gradients of parameters that are passed around (DeBERTa's positions).
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    # The fused CPU attention is one opaque operation to the counter; spelled out as products it is counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(net, weights, kwargs=inputs)
    return int(counter.get_total_flops())


def flops_without_weights(net: torch.nn.Module, *, length: int) -> int:
    """`flops` for one row, of a network on the meta device. It has no values that a mask could be read off, so it goes
    without one."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.ones(1, length, dtype=torch.int64, device=next(net.parameters()).device)
    net.eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(input_ids=ids)
    return int(counter.get_total_flops())


def latency(
    calls: Mapping[str, Callable[[], Any]],
    *,
    batch_size: int,
    length: int,
    repeats: int = 20,
    threads: int | None = None,
    device: str = "cpu",
    clock: Callable[[], float] = perf_counter,
) -> dict[str, dict[str, Any]]:
    """Time the calls by the protocol at the top of this file.

    Args:
        calls: name -> a call without arguments that runs one batch (see `forward_pass`).
        batch_size, length: what the calls run, recorded with the numbers.
        threads: CPU threads during the measurement; None leaves them as they are.
        device: "cpu", "cuda", "mps", ...: what to synchronise.

    Returns:
        name -> {"median", "iqr" (both milliseconds), "threads", "device", "batch_size", "length", "repeats", "warm_up"}
    """
    import torch

    threads_before = torch.get_num_threads()
    threads = threads or threads_before
    wait = _synchroniser(device)
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    try:
        torch.set_num_threads(threads)
        for turn in range(WARM_UP + repeats):
            # The order rotates, so that no model always runs after the same neighbour.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                wait()
                start = clock()
                calls[name]()
                wait()
                if turn >= WARM_UP:
                    seconds[name].append(clock() - start)
    finally:
        torch.set_num_threads(threads_before)
    protocol = {"threads": threads, "device": device, "batch_size": batch_size, "length": length}
    return {
        name: {"median": float(median), "iqr": float(high - low), **protocol, "repeats": repeats, "warm_up": WARM_UP}
        for name, times in seconds.items()
        for low, median, high in [np.percentile(np.asarray(times) * 1e3, [25, 50, 75])]
    }


def latency_of(nets: Mapping[str, torch.nn.Module], run: LatencySettings, device: torch.device) -> dict[str, dict[str, Any]]:
    """`latency` of networks, all of which are on `device`, as a recipe's `evaluate.latency` wants it."""
    calls = {name: forward_pass(net, batch_size=run.batch_size, length=run.length) for name, net in nets.items()}
    return latency(
        calls, batch_size=run.batch_size, length=run.length, repeats=run.repeats, threads=run.threads, device=str(device)
    )


def costs(
    nets: Mapping[str, torch.nn.Module],
    *,
    names: Mapping[str, str],
    batch_size: int = 1,
    length: int = 128,
    repeats: int = 20,
    threads: int | None = None,
) -> dict[str, dict[str, Any]]:
    """What each model of a run costs, as result.json wants it. All models must be on one device.

    Args:
        nets: "teacher", "baseline", "student" -> the model.
        names: the same keys -> what to call the model in the report.
    """
    calls = {key: forward_pass(net, batch_size=batch_size, length=length) for key, net in nets.items()}
    device = str(next(next(iter(nets.values())).parameters()).device)
    times = latency(calls, batch_size=batch_size, length=length, repeats=repeats, threads=threads, device=device)
    return {
        key: {
            "name": names[key],
            "num_parameters": num_parameters(net),
            "num_parameters_nonembedding": num_parameters_nonembedding(net),
            "size_mb": size_mb(net),
            "flops": flops(net, batch_size=batch_size, length=length),
            "latency_ms": times[key],
        }
        for key, net in nets.items()
    }


def _synchroniser(device: str) -> Callable[[], None]:
    """Wait until the device has finished: its work is queued, and the clock would stop too early."""
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return lambda: None
    return getattr(torch, kind).synchronize


def machine() -> dict[str, Any]:
    """The hardware in words, for the report. No host name, no user, no path."""
    import torch

    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "accelerator": None,
    }
    if torch.cuda.is_available():
        found["accelerator"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    elif torch.backends.mps.is_available():
        found["accelerator"] = "Apple GPU (mps)"
    return found


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def versions() -> dict[str, str]:
    """Python and the packages that decide numbers, each with its version; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(NAME if name == "understudy" else name)
        except metadata.PackageNotFoundError:
            continue
    return found
