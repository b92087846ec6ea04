"""How fast and in how much memory: this loop, transformers.Trainer and TextBrewer on the same distillation.

    python benchmarks/throughput.py measure            rounds of optimiser steps, the systems taking turns
    python benchmarks/throughput.py against COMMIT     this code against an older commit or another checkout, taking turns
    python benchmarks/throughput.py scores --seeds 3   whole trainings: is the score the same?
    python benchmarks/throughput.py page               docs/performance.md from what was measured

Every system lives in a process of its own that waits while the others work, so that memory can be told apart and a
machine that grows warm or busy does so for all. What is reported of the rounds is the median and the interquartile range.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import numpy as np
from record import RESULTS, ROOT, here
from systems import SYSTEMS, TEXTBREWER, install_textbrewer
from work import BUILD, DATA, TEACHER, load_work, make_teacher, score

from understudy.base import disk
from understudy.base.memory import keep_memory

EPOCHS = (3, 10)
LONGEST = max(EPOCHS)
RESULT = RESULTS / "throughput.json"
SCORES = RESULTS / "throughput-scores.jsonl"


# -- a worker: one system in one process ------------------------------------------------------------------------------


class Gate:
    """Lets a training loop run `steps` optimiser steps at a time, on command, and tells how long they took."""

    def __init__(self, batches: Callable[[int], list[np.ndarray]], *, steps: int, warm_up: int, reply: Callable) -> None:
        self.batches, self.steps, self.reply = batches, steps, reply
        self.taken, self.target, self.rows = 0, warm_up, 0
        self.sizes: list[int] = []
        self.started = perf_counter()

    def tick(self) -> None:
        """One optimiser step is done. At the end of a round: report, and wait for the next one."""
        if not self.sizes:
            self.sizes = [len(batch) for epoch in range(LONGEST) for batch in self.batches(epoch)]
        self.rows += self.sizes[self.taken]
        self.taken += 1
        if self.taken < self.target:
            return
        seconds = perf_counter() - self.started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.reply({"seconds": seconds, "rows": self.rows, "peak_bytes": peak})
        if sys.stdin.readline().strip() != "go":
            raise SystemExit(0)
        self.target, self.rows = self.taken + self.steps, 0
        self.started = perf_counter()


def worker(args: argparse.Namespace) -> None:
    """Answers on stdout are JSON lines; whatever the libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")
        answers.flush()

    system = SYSTEMS[args.system]
    if system.keeps_memory:
        keep_memory()
    work = load_work(args.data, args.teacher, rows=args.rows)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.seed is not None:
            model = work.student()
            start = perf_counter()
            system.train(work, model, epochs=args.epochs, seed=args.seed, tick=lambda: None, folder=folder)
            seconds = perf_counter() - start
            reply({"seconds": round(seconds, 1), **score(work, model), "about": work.about()})
            return
        once = system.setup(work, folder, passes=args.cache_passes) if system.setup else 0.0
        reply({"once_seconds": once, "about": work.about()})
        gate = Gate(lambda epoch: work.batches(seed=0, epoch=epoch), steps=args.steps, warm_up=args.warm_up, reply=reply)
        system.train(work, work.student(), epochs=LONGEST, seed=0, tick=gate.tick, folder=folder)


@dataclass
class Worker:
    """The other end of a worker."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, args: argparse.Namespace, *more: str, checkout: Path = ROOT) -> Worker:
        """Start a system, of this checkout or of another one: there its own benchmark runs it, on its own sources."""
        script = checkout / "benchmarks" / "throughput.py"
        command = [sys.executable, "-W", "ignore", str(script), "worker", "--system", name]
        command += ["--data", str(args.data), "--teacher", str(args.teacher), *more]
        command += ["--rows", str(args.rows)] if getattr(args, "rows", None) else []
        return cls(name, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def _pipe(self, which: str) -> TextIO:
        pipe = getattr(self.process, which)
        assert pipe is not None
        return pipe

    def answer(self) -> dict[str, Any]:
        line = self._pipe("stdout").readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}; its last words are above.")
        return json.loads(line)

    def round(self) -> dict[str, Any]:
        stdin = self._pipe("stdin")
        stdin.write("go\n")
        stdin.flush()
        return self.answer()

    def stop(self) -> None:
        self._pipe("stdin").close()  # the gate reads the end of its commands and leaves
        self.process.wait()


# -- rounds ------------------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> None:
    """Start the systems one after the other, let them take turns, write results/throughput.json after each round."""
    prepare(args)

    def keep(records: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
        disk.write_json(args.out, result(records, about, args))

    take_turns({name: (name, ROOT) for name in args.systems}, args, keep)


def against(args: argparse.Namespace) -> None:
    """Each system of this code and of the other one, in turns; prints the ratios, and writes them after each round."""
    prepare(args)
    other = checkout_of(args.other)
    both = {f"{name}, {age}": (name, root) for name in args.systems for age, root in (("old", other), ("new", ROOT))}
    found: dict[str, Any] = {}

    def keep(records: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
        for name in args.systems:
            old, new = (records[f"{name}, {age}"] for age in ("old", "new"))
            pairs = zip(old["rounds"], new["rounds"], strict=True)
            ratios = [then["seconds"] / now["seconds"] for then, now in pairs]  # both take the same rows in a round
            low, ratio, high = np.percentile(ratios, [25, 50, 75])
            peaks = [max(row["peak_bytes"] for row in one["rounds"]) / 1e6 for one in (old, new)]
            found[name] = {
                "ratio": ratio, "low": low, "high": high, "rounds": ratios, "peak_mb": {"old": peaks[0], "new": peaks[1]},
            }  # fmt: skip
        disk.write_json(args.out, {"other": args.other, "about": about, "new_by_old": found, "records": records})

    take_turns(both, args, keep)
    for name, one in found.items():
        say(
            f"{name}: new by old {one['ratio']:.3f} times the examples per second (quartiles {one['low']:.3f}–{one['high']:.3f}, "
            f"{len(one['rounds'])} rounds); peak memory {one['peak_mb']['new']:.0f} MB, was {one['peak_mb']['old']:.0f} MB"
        )


def checkout_of(other: str) -> Path:
    """A folder as it is; a commit as a copy of its sources and benchmarks below build/bench."""
    if (Path(other) / "src" / "understudy").is_dir():
        return Path(other).resolve()
    commit = subprocess.run(["git", "rev-parse", "--short", f"{other}^{{commit}}"], cwd=ROOT, capture_output=True, text=True)
    if commit.returncode:
        raise SystemExit(f"{other} is neither a checkout of understudy nor a commit of this repository.")
    folder = BUILD / "commits" / commit.stdout.strip()
    if not folder.is_dir():
        disk.make_dir(folder)
        packed = subprocess.run(["git", "archive", other, "src", "benchmarks"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


def take_turns(
    systems: dict[str, tuple[str, Path]],
    args: argparse.Namespace,
    keep: Callable[[dict[str, dict[str, Any]], dict[str, Any]], None],
) -> None:
    """Rounds of optimiser steps by turns; `keep(records, about)` after each. `systems`: label -> (system, its checkout)."""
    workers, records, about = [], {}, {}
    try:
        for label, (name, checkout) in systems.items():
            turns = {"--steps": args.steps, "--warm-up": args.warm_up, "--cache-passes": args.cache_passes}
            more = [str(word) for pair in turns.items() for word in pair]
            workers.append(Worker.start(name, args, *more, checkout=checkout))
            first, _warm_up = workers[-1].answer(), workers[-1].answer()
            steps = LONGEST * -(-first["about"]["rows"] // first["about"]["batch_size"])
            if args.warm_up + args.rounds * args.steps >= steps:
                raise SystemExit(f"Warm-up and rounds must end before ten epochs ({steps} steps) do; lower --rounds.")
            records[label] = {"once_seconds": first["once_seconds"], "rounds": []}
            about = first["about"]
            say(f"{label}: ready" + (f", {first['once_seconds']:.1f} s once" if SYSTEMS[name].setup else ""))
        labels = list(records)
        for turn in range(args.rounds):
            first = turn % len(workers)
            for place in [*range(first, len(workers)), *range(first)]:  # nobody always works after the same neighbour
                records[labels[place]]["rounds"].append(workers[place].round())
            shown = {label: record["rounds"][-1] for label, record in records.items()}
            rates = ", ".join(f"{label} {row['rows'] / row['seconds']:.1f}" for label, row in shown.items())
            say(f"round {turn + 1}/{args.rounds}, examples/s: {rates}")
            keep(records, about)
    finally:
        for worker in workers:
            worker.stop()


def result(records: dict[str, dict[str, Any]], about: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Medians, spreads, and what they mean for a whole training."""
    made = here()
    made["versions"]["textbrewer"] = TEXTBREWER
    systems: dict[str, dict[str, Any]] = {}
    for name, record in records.items():
        rates = np.array([row["rows"] / row["seconds"] for row in record["rounds"]])
        low, median, high = np.percentile(rates, [25, 50, 75])
        systems[name] = {
            "title": SYSTEMS[name].title,
            "examples_per_second": {"median": median, "low": low, "high": high, "rounds": [round(r, 2) for r in rates]},
            "peak_mb": max(row["peak_bytes"] for row in record["rounds"]) / 1e6,
            "once_seconds": record["once_seconds"],
            "seconds": {str(e): record["once_seconds"] + e * about["rows"] / median for e in EPOCHS},
        }
    return {
        "version": 1,
        "about": {**about, "steps_per_round": args.steps, "rounds": len(next(iter(records.values()))["rounds"])},
        "systems": systems,
        **made,
    }


# -- scores ------------------------------------------------------------------------------------------------------------


def scores(args: argparse.Namespace) -> None:
    """Train each system to the end with each seed. Finished ones are kept, so the command may be repeated."""
    prepare(args)
    done = read_scores()
    for seed in range(args.seeds):
        for name in args.systems:
            if (name, seed, args.epochs) in done:
                continue
            worker = Worker.start(name, args, "--seed", str(seed), "--epochs", str(args.epochs))
            answer = worker.answer()
            worker.stop()
            row = {"system": name, "seed": seed, "epochs": args.epochs, **answer}
            disk.append_line(SCORES, json.dumps(row))
            say(f"{SYSTEMS[name].title}, seed {seed}: F1 {row['f1']:.4f}, accuracy {row['accuracy']:.4f}, {row['seconds']:.0f} s")


def read_scores() -> dict[tuple[str, int, int], dict[str, Any]]:
    """What `scores` has finished so far, by system, seed and epochs."""
    lines = SCORES.read_text(encoding="utf-8").splitlines() if SCORES.exists() else []
    return {(row["system"], row["seed"], row["epochs"]): row for row in map(json.loads, lines)}


# -- command line ------------------------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace) -> None:
    """Everything that is downloaded or trained before the clock runs."""
    disk.make_dir(RESULTS)
    if any(name.startswith("textbrewer") for name in args.systems):
        install_textbrewer()
    if args.teacher == TEACHER:
        make_teacher(args.data)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def page(args: argparse.Namespace) -> None:
    from page import write_page

    say(f"{write_page()} written.")


def _systems(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SYSTEMS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(SYSTEMS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help) if help else commands.add_parser(name)
        sub.set_defaults(run=run)
        if name != "page":
            sub.add_argument("--data", type=Path, default=DATA, help="folder with MRPC's train.tsv and dev.tsv")
            sub.add_argument("--teacher", type=Path, default=TEACHER, help="fine-tuned model; made once if left out")
        if name in ("measure", "against", "scores"):
            chosen, said = (["ours"], "ours") if name == "against" else (list(SYSTEMS), "all")
            sub.add_argument("--systems", type=_systems, default=chosen, help=f"comma-separated; default: {said}")
        if name in ("measure", "against", "worker"):
            sub.add_argument("--steps", type=int, default=10, help="optimiser steps of a system's turn")
            sub.add_argument("--rows", type=int, default=None, help="only so many training rows: for trying this out")
            passes = 1 if name == "against" else 3
            sub.add_argument("--cache-passes", type=int, default=passes, help="how often the one-time cost is measured")
            sub.add_argument("--warm-up", type=int, default=5, help="steps of each system that are not counted")
        return sub

    rounds = command("measure", measure, "speed and memory")
    rounds.add_argument("--rounds", type=int, default=20, help="turns of each system")
    rounds.add_argument("--out", type=Path, default=RESULT)
    older = command("against", against, "this code against an older commit or another checkout")
    older.add_argument("other", help="a commit, or the folder of a checkout")
    older.add_argument("--rounds", type=int, default=20, help="turns of each")
    older.add_argument("--out", type=Path, default=BUILD / "against.json")
    trainings = command("scores", scores, "whole trainings, with dev scores")
    trainings.add_argument("--seeds", type=int, default=3)
    trainings.add_argument("--epochs", type=int, default=3)
    command("page", page, "write docs/performance.md")
    inner = command("worker", worker)
    inner.add_argument("--system", choices=list(SYSTEMS), required=True)
    inner.add_argument("--seed", type=int, default=None)
    inner.add_argument("--epochs", type=int, default=LONGEST)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
