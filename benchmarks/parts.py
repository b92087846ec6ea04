"""Where the speed comes from: every trick alone against a plain loop, every trick taken out of the whole, and the rest.

    python benchmarks/parts.py

The plain loop is what `Trainer` does with dynamic padding, without its overhead: teacher run live, stock models on padded
batches, fp32, AdamW one tensor after the other. All variants live in this process and take turns of some optimiser
steps on the same rows; so do two matrix products that tell what the processor can do at best. Then the product's own
loop runs under the profiler. Everything goes to results/parts.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import work as setting  # noqa: E402
from systems import ours  # noqa: E402
from throughput import say  # noqa: E402
from work import BATCH, LEARNING_RATE, MAX_GRAD_NORM, TEMPERATURE, Work, load_work  # noqa: E402

from understudy.base import disk  # noqa: E402
from understudy.cache import autocast  # noqa: E402
from understudy.data.batches import training_batches  # noqa: E402
from understudy.data.encode import collate  # noqa: E402
from understudy.models.anatomy import anatomy  # noqa: E402
from understudy.models.attention import pad, pad_index  # noqa: E402
from understudy.models.needs import Needs  # noqa: E402
from understudy.models.signals import forward  # noqa: E402

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Tricks:
    """Which of them are on."""

    grouped: bool = False
    cached: bool = False
    packed: bool = False
    first_only: bool = False
    fused: bool = False
    bf16: bool = False


NAMES = {
    "grouped": "rows of like length in a batch",
    "cached": "teacher's answers from disk",
    "packed": "no padding",
    "first_only": "last layer for first tokens only",
    "fused": "fused AdamW",
    "bf16": "bf16 arithmetic",
}
PLAIN = Tricks()
EXACT = Tricks(cached=True, packed=True, first_only=True, fused=True)
WHOLE = replace(EXACT, bf16=True)
VARIANTS: dict[str, Tricks] = {
    "plain": PLAIN,
    **{f"plain + {name}": replace(PLAIN, **{name: True}) for name in NAMES},
    "exact": EXACT,
    "whole": WHOLE,
    **{f"whole - {name}": replace(WHOLE, **{name: False}) for name in NAMES if getattr(WHOLE, name)},
    "whole + grouped": replace(WHOLE, grouped=True),
}


class Loop:
    """One variant: its own student and optimiser, and a step that does what its tricks say."""

    def __init__(self, work: Work, tricks: Tricks, answers: torch.Tensor) -> None:
        self.work, self.tricks, self.answers = work, tricks, answers
        self.net = work.student().net.train()
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=LEARNING_RATE, fused=tricks.fused, foreach=False
        )
        grouping = "length" if tricks.grouped else "none"
        self.batches = [
            batch
            for epoch in range(2)
            for batch in training_batches(work.train.lengths, batch_size=BATCH, seed=0, epoch=epoch, grouping=grouping)
        ]
        self.taken = 0

    def logits(self, net: Any, batch: Any) -> torch.Tensor:
        """(B, C), by the way the tricks choose."""
        last = net.config.num_hidden_layers
        if self.tricks.packed:
            needs = Needs(logits=True) if self.tricks.first_only else Needs(logits=True, hidden=(last,))
            logits = forward(net, batch, needs, kind="classification").logits
            assert logits is not None
            return logits
        inputs = padded(batch)
        return padded_first_only(net, inputs) if self.tricks.first_only else net(**inputs).logits

    def step(self) -> tuple[int, float]:
        """One optimiser step; returns its rows and the floating-point operations its real tokens need."""
        rows = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        batch = collate(self.work.train, rows)
        with autocast(CPU, "bf16" if self.tricks.bf16 else "fp32"):
            if self.tricks.cached:
                said = self.answers[torch.from_numpy(rows)]
            else:
                with torch.no_grad():
                    said = self.logits(self.work.teacher.net, batch).float()
            own = self.logits(self.net, batch).float()
        target = F.softmax(said / TEMPERATURE, dim=-1)
        loss = -(target * F.log_softmax(own / TEMPERATURE, dim=-1)).sum(dim=-1).mean() * TEMPERATURE**2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        needed = 3 * flops(self.net, batch.sizes, first_only=self.tricks.first_only)
        if not self.tricks.cached:
            needed += flops(self.work.teacher.net, batch.sizes, first_only=self.tricks.first_only)
        return len(rows), needed


def padded(batch: Any) -> dict[str, torch.Tensor]:
    """The same batch as stock models take it: (B, longest)."""
    rows, num, longest = pad_index(batch.sizes, CPU), len(batch.sizes), max(batch.sizes)
    mask = pad(torch.ones_like(batch.input_ids), rows, num, longest)
    ids = pad(batch.input_ids, rows, num, longest)  # the padding token of this vocabulary is 0
    return {"input_ids": ids, "token_type_ids": pad(batch.token_type_ids, rows, num, longest), "attention_mask": mask}


def padded_first_only(net: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The stock layers on padded rows, the last one for first tokens alone."""
    row = anatomy(net)
    mask = inputs["attention_mask"]
    positions = torch.arange(mask.shape[1])[None]
    state = net.bert.embeddings(
        input_ids=inputs["input_ids"], position_ids=positions, token_type_ids=inputs["token_type_ids"]
    )
    layers, head_dim = row.layers(net), row.head_dim(net)
    for index, layer in enumerate(layers, start=1):
        queries = state[:, :1] if index == len(layers) else state
        q, k, v = (
            project(rows).unflatten(-1, (-1, head_dim)).transpose(1, 2)
            for project, rows in zip(row.qkv(layer), (queries, state, state), strict=True)
        )
        context = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask.bool()[:, None, None], dropout_p=row.dropout(layer)
        )
        assert row.finish is not None
        state = row.finish(layer, context.transpose(1, 2).flatten(2), queries)
    return row.final_linear(net)(row.pool(net, state))


def flops(net: Any, sizes: list[int], *, first_only: bool) -> float:
    """Multiplications and additions of matrix products in one forward pass over the real tokens, attention included."""
    width, inner, layers = net.config.hidden_size, net.config.intermediate_size, net.config.num_hidden_layers
    tokens, squares, rows = sum(sizes), sum(size * size for size in sizes), len(sizes)
    one = 2 * tokens * (4 * width * width + 2 * width * inner) + 4 * squares * width
    short = 2 * tokens * 2 * width * width + 2 * rows * (2 * width * width + 2 * width * inner) + 4 * tokens * width
    return (layers - 1) * one + (short if first_only else one)


# -- what the processor can do -----------------------------------------------------------------------------------------


def product_rate(dtype: torch.dtype, shape: tuple[int, int, int], repeats: int = 3) -> float:
    """Floating-point operations per second of one matrix product, best of a few."""
    rows, inner, columns = shape
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    best = float("inf")
    for _ in range(repeats + 1):
        start = perf_counter()
        F.linear(left, right)
        best = min(best, perf_counter() - start)
    return 2 * rows * inner * columns / best


# -- where the rest goes -----------------------------------------------------------------------------------------------

CATEGORIES: dict[str, tuple[str, ...]] = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::linear", "mkldnn"),
    "attention": ("aten::bmm", "aten::baddbmm", "softmax", "scaled_dot_product", "flash"),
    "random numbers of dropout": ("bernoulli", "native_dropout", "aten::random", "aten::rand"),
    "optimiser": ("adamw", "_foreach", "linalg_vector_norm", "zero_grad", "clip"),
    "casts and copies": ("copy", "aten::to", "aten::cat", "aten::contiguous", "aten::clone"),
    "norms and activations": ("layer_norm", "gelu", "tanh", "aten::add", "aten::mul", "aten::div", "aten::sum"),
    "embeddings and gathering": ("embedding", "index", "aten::fill_", "aten::zero_", "scatter"),
}
"""Operations by a part of their name, the first category that fits. What is left is bookkeeping of the library."""


def profile_loop(work: Work, *, precision: str, warm_up: int, steps: int) -> dict[str, Any]:
    """Shares of the wall time of the product's own loop. `python` is the time in which no operation of torch ran."""
    from torch.profiler import ProfilerActivity, profile

    seen: dict[str, Any] = {}
    profiler = profile(activities=[ProfilerActivity.CPU])
    state = {"step": 0, "began": 0.0}

    class Enough(BaseException):
        """Leaves the loop from inside a tracker: those may fail, but not end."""

    def tick() -> None:
        state["step"] += 1
        if state["step"] == warm_up:
            profiler.start()
            state["began"] = perf_counter()
        elif state["step"] == warm_up + steps:
            seen["wall"] = perf_counter() - state["began"]
            profiler.stop()
            raise Enough

    with tempfile.TemporaryDirectory() as scratch, suppress(Enough):
        ours(work, work.student(), precision=precision, epochs=10, seed=0, tick=tick, folder=Path(scratch))
    torch.use_deterministic_algorithms(False)
    seconds = dict.fromkeys([*CATEGORIES, "other operations"], 0.0)
    for event in profiler.key_averages():
        seconds[_category(event.key)] += event.self_cpu_time_total / 1e6
    seconds["python"] = max(0.0, seen["wall"] - sum(seconds.values()))
    total = sum(seconds.values())
    return {"seconds_per_step": seen["wall"] / steps, "shares": {name: part / total for name, part in seconds.items()}}


def _category(name: str) -> str:
    lowered = name.lower()
    for category, parts in CATEGORIES.items():
        if any(part in lowered for part in parts):
            return category
    return "other operations"


# -- the run -----------------------------------------------------------------------------------------------------------


def teacher_answers(work: Work) -> torch.Tensor:
    """(N, C) logits of the teacher on all rows: what the cache holds."""
    from understudy.evaluate.predict import predict

    return torch.from_numpy(np.asarray(predict(work.teacher, work.examples, work.train, precision="bf16").scores))


def run(args: argparse.Namespace) -> dict[str, Any]:
    from understudy.evaluate import measure

    work = load_work(args.data, args.teacher, rows=args.rows)
    answers = teacher_answers(work).float()
    chosen = {name: tricks for name, tricks in VARIANTS.items() if args.variants is None or name in args.variants}
    loops = {name: Loop(work, tricks, answers) for name, tricks in chosen.items()}
    for loop in loops.values():
        for _ in range(args.warm_up):
            loop.step()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    tokens = int(np.mean(work.train.lengths) * BATCH)
    width, inner = work.teacher.net.config.hidden_size, work.teacher.net.config.intermediate_size
    shapes = {"square": (2048, 2048, 2048), "feed-forward": (tokens, width, inner)}
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    peaks: dict[str, dict[str, list[float]]] = {d: {s: [] for s in shapes} for d in dtypes}
    for turn in range(args.rounds):
        for dtype, of in peaks.items():
            for shape, rates in of.items():
                rates.append(product_rate(dtypes[dtype], shapes[shape]))
        names = list(loops)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = perf_counter()
            done = [loops[name].step() for _ in range(args.steps)]
            seconds = perf_counter() - start
            rounds[name].append((sum(rows for rows, _ in done) / seconds, sum(ops for _, ops in done) / seconds))
        say(f"round {turn + 1}/{args.rounds}: " + ", ".join(f"{name} {rows[-1][0]:.0f}" for name, rows in rounds.items()))
    best = {dtype: {shape: float(np.median(rates)) for shape, rates in of.items()} for dtype, of in peaks.items()}
    return {
        "version": 1,
        "about": {**work.about(), "steps_per_round": args.steps, "rounds": args.rounds},
        "tricks": NAMES,
        "peak_flops": best,
        "variants": {name: _summary(name, rounds, VARIANTS[name], best) for name in loops},
        "profile": {
            precision: profile_loop(work, precision=precision, warm_up=args.warm_up, steps=args.profile_steps)
            for precision in ("fp32", "bf16")
        },
        "versions": measure.versions(),
        "machine": measure.machine(),
    }


def _summary(name: str, rounds: dict[str, list[tuple[float, float]]], tricks: Tricks, best: Any) -> dict[str, Any]:
    """Examples per second, and against which variant it is to be read: paired, round by round."""
    rates = np.array([rate for rate, _ in rounds[name]])
    against = "whole" if name.startswith("whole ") else "plain"
    ratio = None
    if against in rounds and against != name:
        ratios = rates / np.array([rate for rate, _ in rounds[against]])
        low, median, high = np.percentile(ratios, [25, 50, 75])
        ratio = {"against": against, "median": median, "low": low, "high": high}
    low, median, high = np.percentile(rates, [25, 50, 75])
    achieved = float(np.median([rate for _, rate in rounds[name]]))
    return {
        "examples_per_second": {"median": median, "low": low, "high": high},
        "ratio": ratio,
        "flops": achieved,
        "of_peak": achieved / best["bf16" if tricks.bf16 else "fp32"]["square"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=setting.DATA, help="folder with MRPC's train.tsv and dev.tsv")
    parser.add_argument("--teacher", type=Path, default=setting.TEACHER, help="fine-tuned model; made once if left out")
    parser.add_argument("--variants", type=_names, default=None, help="comma-separated; default: all")
    parser.add_argument("--rows", type=int, default=None, help="only so many training rows: for trying this out")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps of a variant's turn")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--profile-steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=setting.RESULTS / "parts.json")
    args = parser.parse_args()
    if args.teacher == setting.TEACHER:
        setting.make_teacher(args.data)
    disk.make_dir(args.out.parent)
    disk.write_json(args.out, run(args))
    say(f"{args.out} written.")


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(VARIANTS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(VARIANTS)}")
    return names


if __name__ == "__main__":
    main()
