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
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import work as setting  # noqa: E402
from record import RESULTS, here, write  # noqa: E402
from systems import ours  # noqa: E402
from throughput import say  # noqa: E402
from work import BATCH, LEARNING_RATE, MAX_GRAD_NORM, TEMPERATURE, Work, load_work  # noqa: E402

from understudy.cache import autocast  # noqa: E402
from understudy.data.batches import training_batches  # noqa: E402
from understudy.data.encode import collate  # noqa: E402
from understudy.models.needs import Needs  # noqa: E402
from understudy.models.signals import forward  # noqa: E402

CPU = torch.device("cpu")
TRICKS = {
    "grouped": "rows of like length in a batch",
    "cached": "teacher's answers from disk",
    "packed": "no padding, last layer for first tokens only",
    "fused": "fused AdamW",
    "bf16": "bf16 arithmetic",
}
EXACT = frozenset({"cached", "packed", "fused"})
WHOLE = EXACT | {"bf16"}
VARIANTS: dict[str, frozenset[str]] = {
    "plain": frozenset(),
    **{f"plain + {name}": frozenset({name}) for name in TRICKS},
    "exact": EXACT,
    "whole": WHOLE,
    **{f"whole - {name}": WHOLE - {name} for name in TRICKS if name in WHOLE},
    "whole + grouped": WHOLE | {"grouped"},
}


class Loop:
    """One variant: its own student and optimiser, and a step that does what its tricks say."""

    def __init__(self, work: Work, tricks: frozenset[str], answers: torch.Tensor) -> None:
        self.work, self.tricks, self.answers, self.taken = work, tricks, answers, 0
        self.net = work.student().net.train()
        fused = "fused" in tricks
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=LEARNING_RATE, fused=fused, foreach=False)
        grouping = "length" if "grouped" in tricks else "none"
        lengths = work.train.lengths
        self.batches = [
            batch
            for epoch in range(2)
            for batch in training_batches(lengths, batch_size=BATCH, seed=0, epoch=epoch, grouping=grouping)
        ]

    def logits(self, net: Any, batch: Any) -> torch.Tensor:
        """(B, C), packed by the product's own forward pass, or by the stock one on padded rows."""
        if "packed" in self.tricks:
            found = forward(net, batch, Needs(logits=True), kind=self.work.task.kind).logits
            assert found is not None
            return found
        parts = (batch.input_ids, batch.token_type_ids, torch.ones_like(batch.input_ids))  # the padding token here is 0
        padded = [torch.nn.utils.rnn.pad_sequence(list(part.split(batch.sizes)), batch_first=True) for part in parts]
        return net(**dict(zip(("input_ids", "token_type_ids", "attention_mask"), padded, strict=True))).logits

    def step(self) -> tuple[int, float]:
        """One optimiser step; returns its rows and the floating-point operations its real tokens need."""
        rows = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        batch = collate(self.work.train, rows)
        with autocast(CPU, "bf16" if "bf16" in self.tricks else "fp32"):
            if "cached" in self.tricks:
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
        needed = 3 * flops(self.net, batch.sizes, first_only="packed" in self.tricks)
        if "cached" not in self.tricks:
            needed += flops(self.work.teacher.net, batch.sizes, first_only="packed" in self.tricks)
        return len(rows), needed


def flops(net: Any, sizes: list[int], *, first_only: bool) -> float:
    """Multiplications and additions of matrix products in one forward pass over the real tokens, attention included."""
    width, inner, layers = net.config.hidden_size, net.config.intermediate_size, net.config.num_hidden_layers
    tokens, squares, rows = sum(sizes), sum(size * size for size in sizes), len(sizes)
    one = 2 * tokens * (4 * width * width + 2 * width * inner) + 4 * squares * width
    short = 2 * tokens * 2 * width * width + 2 * rows * (2 * width * width + 2 * width * inner) + 4 * tokens * width
    return (layers - 1) * one + (short if first_only else one)


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

    profiler = profile(activities=[ProfilerActivity.CPU])
    state: dict[str, float] = {"step": 0}

    class Enough(BaseException):
        """Leaves the loop from inside a tracker: those may fail, but not end."""

    def tick() -> None:
        state["step"] += 1
        if state["step"] == warm_up:
            profiler.start()
            state["began"] = perf_counter()
        elif state["step"] == warm_up + steps:
            state["wall"] = perf_counter() - state["began"]
            profiler.stop()
            raise Enough

    with tempfile.TemporaryDirectory() as scratch, suppress(Enough):
        ours(work, work.student(), precision=precision, epochs=10, seed=0, tick=tick, folder=Path(scratch))
    torch.use_deterministic_algorithms(False)
    seconds = dict.fromkeys([*CATEGORIES, "other operations"], 0.0)
    for event in profiler.key_averages():
        name = event.key.lower()
        fits = (category for category, parts in CATEGORIES.items() if any(part in name for part in parts))
        seconds[next(fits, "other operations")] += event.self_cpu_time_total / 1e6
    seconds["python"] = max(0.0, state["wall"] - sum(seconds.values()))
    total = sum(seconds.values())
    return {"seconds_per_step": state["wall"] / steps, "shares": {name: part / total for name, part in seconds.items()}}


# -- the run -----------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> dict[str, Any]:
    from understudy.evaluate.predict import predict

    work = load_work(args.data, args.teacher, rows=args.rows)
    scores = predict(work.teacher, work.examples, work.train, precision="bf16").scores
    answers = torch.from_numpy(np.asarray(scores)).float()
    chosen = {name: tricks for name, tricks in VARIANTS.items() if args.variants is None or name in args.variants}
    loops = {name: Loop(work, tricks, answers) for name, tricks in chosen.items()}
    for loop in loops.values():
        for _ in range(args.warm_up):
            loop.step()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    config, tokens = work.teacher.net.config, int(np.mean(work.train.lengths) * BATCH)
    shapes = {"square": (2048, 2048, 2048), "feed-forward": (tokens, config.hidden_size, config.intermediate_size)}
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    peaks: dict[str, dict[str, list[float]]] = {dtype: {shape: [] for shape in shapes} for dtype in dtypes}
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
    profiled = {"warm_up": args.warm_up, "steps": args.profile_steps}
    return {
        "version": 1,
        "about": {**work.about(), "steps_per_round": args.steps, "rounds": args.rounds},
        "tricks": TRICKS,
        "peak_flops": best,
        "variants": {name: _summary(name, rounds, chosen[name], best) for name in loops},
        "profile": {precision: profile_loop(work, precision=precision, **profiled) for precision in dtypes},
        **here(),
    }


def _summary(name: str, rounds: dict[str, list[tuple[float, float]]], tricks: frozenset[str], best: Any) -> dict[str, Any]:
    """Examples per second, and against which variant it is to be read: paired, round by round."""
    rates = {one: np.array([rate for rate, _ in found]) for one, found in rounds.items()}
    against, quartiles = "whole" if name.startswith("whole ") else "plain", ("low", "median", "high")
    ratio = None
    if against in rounds and against != name:
        found = np.percentile(rates[name] / rates[against], [25, 50, 75])
        ratio = {"against": against, **dict(zip(quartiles, found, strict=True))}
    achieved = float(np.median([rate for _, rate in rounds[name]]))
    return {
        "examples_per_second": dict(zip(quartiles, np.percentile(rates[name], [25, 50, 75]), strict=True)),
        "ratio": ratio,
        "flops": achieved,
        "of_peak": achieved / best["bf16" if "bf16" in tricks else "fp32"]["square"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=setting.DATA, help="folder with MRPC's train.tsv and dev.tsv")
    parser.add_argument("--teacher", type=Path, default=setting.TEACHER, help="fine-tuned model; made once if left out")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), metavar="VARIANT", help="some of them; default: all")
    parser.add_argument("--rows", type=int, help="only so many training rows: for trying this out")
    for option, default in (("rounds", 12), ("steps", 4), ("warm-up", 2), ("profile-steps", 20)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=RESULTS / "parts.json")
    args = parser.parse_args()
    if args.teacher == setting.TEACHER:
        setting.make_teacher(args.data)
    write(args.out, run(args))
    say(f"{args.out} written.")


if __name__ == "__main__":
    main()
