"""Search, measured: a table of real short distillations, the engines on that table, what the shared cache saves, and whether
students that a search found are better than students made by hand that are as fast.

    python benchmarks/search.py table --data DIR     every point of a small space distilled for real; may be interrupted
                                                     and repeated, by several processes at once (results/search/table.json)
    python benchmarks/search.py engines              the four engines on the table, 30 seeds each (results/search/engines.json)
    python benchmarks/search.py cache --data DIR     a short search with the teacher's outputs stored, and without
                                                     (results/search/cache.json)

    python benchmarks/run.py search_text             a search on plain text within a third of the teacher's operations; full KD of
                                                     its winner and of the layers of the teacher that are as fast; both
                                                     fine-tuned on MRPC, RTE, SST-2
    python benchmarks/run.py search_task             a search for SST-2 alone, no slower than a third of the teacher's time,
                                                     against layers of the teacher that are as fast

DIR holds plain text, one passage per line, in `train.txt`. The teacher is MiniLM-L6 (extra `demo`). 144 architectures,
1,000 passages of at most 32 tokens, one epoch, students cut out of the teacher (from random weights as little training
hardly tells them apart): 5 to 30 seconds for a candidate on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from record import ENCODER, RESULTS, ROOT, Run, add_samples, extend, here, made_by, write

from understudy.base.memory import keep_memory

KEPT = RESULTS / "search"
TABLE, ENGINES_FILE, CACHE_FILE = (KEPT / f"{name}.json" for name in ("table", "engines", "cache"))
BUILD = ROOT / "build" / "search"
SPACE = {
    "layers": [2, 3, 4, 6], "heads": [6, 12], "hidden": [192, 288, 384], "intermediate": [384, 768, 1536],
    "activations": ["gelu", "relu"],
}  # fmt: skip
THIRD = 956_000_000
"""A third of the teacher's operations, for 128 tokens."""
BASE_THIRD = 7_450_000_000
"""The same of BERT-base."""
PASSAGES, TEST_PASSAGES, LENGTH = 1200, 100, 32  # a sixth of the first is held out for the reward


def texts(data: Path, passages: int = PASSAGES, words: int = 40) -> dict[str, str]:
    """Passages of at most so many words and at least three tenths of them, from all over the file, in files of our own."""
    BUILD.mkdir(parents=True, exist_ok=True)
    lines = [line.strip() for line in (data / "train.txt").read_text(encoding="utf-8").split("\n")]
    long = [" ".join(line.split()[:words]) for line in lines if len(line.split()) >= 0.3 * words]
    wanted = passages + TEST_PASSAGES
    step = len(long) // wanted
    if not step:
        raise SystemExit(f"{data / 'train.txt'} has {len(long)} passages of {0.3 * words:.0f} words or more; needed: {wanted}.")
    chosen = long[: wanted * step : step]
    files = {"train": chosen[TEST_PASSAGES:], "test": chosen[:TEST_PASSAGES]}
    for name, part in files.items():
        (BUILD / f"{name}-{passages}-{words}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    return {name: str(BUILD / f"{name}-{passages}-{words}.txt") for name in files}


def recipe(data: Path, **changes: Any) -> Any:
    from understudy.recipe.load import recipe_from

    method = {
        "name": "kdnas", "engine": "random", "episodes": 18, "candidates": 8, "space": SPACE, "reinit": True,
        "init": "teacher", "mini_kd": {"proxy": 1.0, "epochs": 1, "lr": 1e-3, "batch_size": 16},
    }  # fmt: skip
    files = {"kind": "text", "files": texts(data), "max_length": LENGTH, "selection": 1 / 6, "mask_variants": 1}
    return recipe_from({
        "task": {"name": "custom", **files},
        "teacher": changes.pop("teacher", {"model": ENCODER}),
        "method": {**method, **changes.pop("method", {})},
        "train": {"epochs": 1, "precision": "auto", "grouping": "length", **changes.pop("train", {})},
        "evaluate": {"latency": {"repeats": 15, "length": 128, "threads": 1}},
        **changes,
    })  # fmt: skip


def candidates_of(settings: Any, folder: Path) -> Any:
    from understudy.lab import Lab
    from understudy.methods.kdnas.candidates import Candidates
    from understudy.train.devices import set_determinism
    from understudy.train.guard import StopSignals

    set_determinism(settings.determinism)
    return Candidates(settings.method, Lab(settings, folder, StopSignals()))


def table(arguments: argparse.Namespace) -> None:
    """Distil every point. The study is the record: killed, it continues; further processes may join."""
    from understudy.methods.kdnas.engines import make_engine
    from understudy.methods.kdnas.study import Study

    settings, code = recipe(arguments.data), made_by()
    run = BUILD / "table"
    candidates = candidates_of(settings, run)
    study = Study(run / "study", make_engine("random", candidates.space, seed=0), trials=len(candidates.space))

    def after() -> None:
        rows = study.rows()
        candidates.tidy(rows)
        used = settings.model_dump(mode="json", include={"method", "train", "evaluate", "seed"})
        about = {"space": SPACE, "teacher": "all-MiniLM-L6-v2", "passages": PASSAGES, "length": LENGTH, "recipe": used}
        write(TABLE, {**about, "rows": rows, "complete": len(rows) == len(candidates.space), **here(), **code})
        say(f"{len(rows)} of {len(candidates.space)}")

    study.work(candidates.evaluate, after=after)
    after()
    study.close()


def load_table() -> tuple[Any, list[float], list[float]]:
    """The space, and for each of its points the reward and the cost in seconds."""
    from understudy.methods.kdnas.space import DIMENSIONS, Architecture, Space

    kept = json.loads(TABLE.read_text())
    if not kept["complete"]:
        raise SystemExit(f"{TABLE} holds {len(kept['rows'])} points only; finish `table` first.")
    space = Space({name: kept["space"]["activations" if name == "activation" else name] for name in DIMENSIONS})
    rows = {space.number(Architecture(**{name: row[name] for name in DIMENSIONS})): row for row in kept["rows"]}
    values = [rows[point]["value"] if rows[point]["state"] == "complete" else 0.0 for point in range(len(space))]
    return space, values, [rows[point].get("train_seconds", 0.0) for point in range(len(space))]


def engines(arguments: argparse.Namespace) -> None:
    """Best reward so far over trials and over cost, for each engine and seed."""
    space, values, seconds = load_table()
    trials = arguments.trials
    found: dict[str, Any] = {}
    for name in arguments.engines.split(","):
        runs = [one_search(name, space, values, seed=seed, trials=trials) for seed in range(arguments.seeds)]
        best = np.array([list(accumulate((values[point] for point in points), max)) for points in runs])
        at = np.array([list(accumulate(seconds[point] for point in points)) for points in runs])
        low, middle, high = np.quantile(best, [0.25, 0.5, 0.75], axis=0).tolist()
        luck = sum(max(values) in (values[point] for point in points) for points in runs)
        found[name] = {"low": low, "median": middle, "high": high, "seconds": np.median(at, axis=0).tolist(), "points": runs,
                       "found_the_best": luck}  # fmt: skip
        half, end = middle[trials // 2 - 1], middle[-1]
        say(f"{name:<10} after {trials // 2}: {half:.4f}, after {trials}: {end:.4f}, the best of all found by {luck}")
    write(ENGINES_FILE, {
        "trials": trials, "seeds": arguments.seeds, "best_of_all": max(values), "points": len(space), "engines": found,
        "against_random": {name: against(found[name], found["random"], values) for name in found if name != "random"}
        if "random" in found else {},
        **made_by(),
    })  # fmt: skip


def one_search(name: str, space: Any, values: Sequence[float], *, seed: int, trials: int) -> list[int]:
    """The points an engine tries when the table answers."""
    import optuna

    from understudy.methods.kdnas.engines import make_engine, suggested

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    engine = make_engine(name, space, seed=seed, episodes=max(1, trials // 8), candidates=8)
    study = optuna.create_study(sampler=engine, direction="maximize")
    points = []
    for _ in range(trials):
        trial = study.ask()
        point = suggested(trial, space)
        study.tell(trial, values[point])
        points.append(point)
    return points


def against(one: dict[str, Any], other: dict[str, Any], values: Sequence[float]) -> dict[str, float]:
    """Mean difference of the areas under best-so-far to another engine, seed by seed, with a 95 % bootstrap interval."""

    def areas(runs: list[list[int]]) -> np.ndarray:
        return np.array([np.mean(list(accumulate((values[point] for point in points), max))) for points in runs])

    gain = areas(one["points"]) - areas(other["points"])
    draw = np.random.default_rng(0).integers(len(gain), size=(10_000, len(gain)))
    low, high = np.quantile(gain[draw].mean(axis=1), [0.025, 0.975])
    return {"gain": float(gain.mean()), "low": float(low), "high": float(high)}


def cache(arguments: argparse.Namespace) -> None:
    """The same few candidates with the teacher's outputs stored and with the teacher run every time, in turns:
    within a third or a sixth of the teacher, as a search on a budget has them, and of the published space below a teacher of
    BERT-base's sizes (with random weights: they decide nothing here). Each case begins with an empty store, so that reading
    the teacher's outputs is part of what it costs."""
    within_time = {"max_latency_ms": encoder_ms(length=128) / 3}
    long, few = {"passages": PASSAGES, "words": 100}, {"passages": 200, "words": 100}
    third = {**SPACE, "max_flops": THIRD}
    no_dropout = "a third of the teacher's operations, 128 tokens, no dropout"
    cases: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
        "a third of the teacher's operations, 128 tokens": (third, long),
        "a third of the teacher's time, 128 tokens": ({**SPACE, **within_time}, long),
        "a sixth of the teacher's operations, 128 tokens": ({**SPACE, "max_flops": THIRD // 2}, long),
        PUBLISHED: ({"preset": "kdnas-paper"}, few),
        f"{PUBLISHED}, a third of its operations": ({"preset": "kdnas-paper", "max_flops": BASE_THIRD}, few),
        no_dropout: (third, long),
    }  # fmt: skip
    found = json.loads(CACHE_FILE.read_text())["spaces"] if CACHE_FILE.exists() else {}  # what is there is not repeated
    for name, (space, amount) in cases.items():
        if name in found or arguments.cases not in name:
            continue
        run = BUILD / "cache"
        shutil.rmtree(run, ignore_errors=True)
        os.environ["UNDERSTUDY_HOME"] = str(run / "home")
        teacher = bert_base() if amount is few else ENCODER
        mini = {"proxy": 1.0 if amount is few else 0.5, "epochs": 5, "lr": 1e-3, "batch_size": 32}
        files = texts(arguments.data, **amount)
        task = {"name": "custom", "kind": "text", "files": files, "max_length": 128, "selection": 1 / 6, "mask_variants": 1}
        modes = {}
        for mode in ("auto", "live"):
            settings = recipe(
                arguments.data, cache={"mode": mode}, seed=1, teacher={"model": teacher},
                method={"mini_kd": mini, "space": space}, task=task, train={"dropout": 0.0 if name == no_dropout else None},
            )  # fmt: skip
            modes[mode] = candidates_of(settings, run / mode)
        took = in_turns(modes, arguments.candidates)
        low, high = factor_interval(took["live"], took["auto"])
        found[name] = {
            "seconds": took, "teacher_examples": {mode: each.lab.teacher_examples for mode, each in modes.items()},
            "times_cheaper": sum(took["live"]) / sum(took["auto"]), "low": low, "high": high, **made_by(),
        }  # fmt: skip
        say(f"{name}: {found[name]['times_cheaper']:.2f} times as cheap [{low:.2f}, {high:.2f}]")
        write(CACHE_FILE, {"spaces": found, **here()})


def factor_interval(live: Sequence[float], stored: Sequence[float]) -> tuple[float, float]:
    """A 95 % bootstrap interval of the quotient of both sums, over the candidates."""
    pairs = np.array([live, stored])
    draw = np.random.default_rng(0).integers(pairs.shape[1], size=(10_000, pairs.shape[1]))
    sums = pairs[:, draw].sum(axis=-1)
    low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
    return float(low), float(high)


PUBLISHED = "the published space, a teacher of BERT-base's size, 128 tokens"


def bert_base() -> str:
    """The folder of a model of BERT-base's sizes with random weights and the encoder's tokenizer."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from understudy.models.load import load_model

    folder = BUILD / "bert-base"
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        BertForMaskedLM(BertConfig()).save_pretrained(folder)
        load_model(ENCODER).tokenizer.save_pretrained(folder)
    return str(folder)


def in_turns(modes: Mapping[str, Any], number: int) -> dict[str, list[float]]:
    """Seconds of so many different candidates that are within the budget, each tried in all modes."""
    seconds: dict[str, list[float]] = {mode: [] for mode in modes}
    draw, tried = 0, set()
    while len(next(iter(seconds.values()))) < number:
        point, draw = next(iter(modes.values())).space.draw(0, "cache", draw), draw + 1
        if point in tried:
            continue
        tried.add(point)
        took = {}
        for mode, candidates in modes.items():
            began = time.perf_counter()
            if candidates.evaluate(point).facts.get("over_budget"):
                break  # not trained
            took[mode] = time.perf_counter() - began
        if len(took) == len(modes):
            for mode in modes:
                seconds[mode].append(took[mode])
    return seconds


def say(text: str) -> None:
    print(text, flush=True)


# --- found by a search, or made by hand ----------------------------------------------------------------------------

SIZES = ("layers", "heads", "hidden", "intermediate", "activation")
WHOLE = {"heads": 12, "hidden": 384, "intermediate": 1536, "activation": "gelu"}
"""A layer of the teacher."""
DEPTH = 6
GLUE = {"mrpc": ("mrpc", "MRPC"), "rte": ("rte", "RTE"), "sst2-10k": ("sst2", "SST-2")}
"""Task -> its recipe, and its folder."""
TEXTS, EPOCHS, EPISODES = 6000, 3, 4
"""Passages and epochs of full KD on text; rounds of eight candidates in the search for one task."""


def runs_text(given: argparse.Namespace) -> Iterator[Run]:
    """A student for any text: found, and by hand through the same method and settings, in a space that holds nothing else."""
    files = json.dumps(texts(given.data / "text" / "books_en", TEXTS))
    base = [
        "recipes/text/books-kdnas.yaml", f"task.files={files}", "task.max_length=32", "task.selection=0.1",
        "task.mask_variants=1", f"teacher.model={ENCODER}", "method.top_k=1",
        "method.mini_kd={proxy: 0.2, epochs: 1, lr: 1.0e-3, batch_size: 16}", f"train.epochs={EPOCHS}",
        "evaluate.latency={repeats: 15, length: 128, threads: 1}",
    ]  # fmt: skip
    engine, space = best_engine(), ", ".join(f"{name}: {values}" for name, values in SPACE.items())
    budget = f"method.space={{{space}, max_flops: {THIRD}}}"
    search = [*base, f"method.engine={engine}", "method.episodes=5", "method.candidates=8", budget]
    yield Run("text-found", search, {"engine": engine}, after=_keep_rows)
    row = winner(given.out / "text-found")
    sizes = by_hand(row["latency_ms"], row["teacher_latency_ms"])
    alone = [*base, "method.engine=random", "method.episodes=1", "method.candidates=1", one_point(sizes)]
    yield Run("text-by-hand", alone, {"sizes": sizes}, after=_keep_rows)
    for task, (name, folder) in GLUE.items():
        for variant in ("found", "by-hand"):
            for seed in given.seeds or (0, 1, 2):
                arguments = [
                    f"recipes/glue/{name}-automm.yaml", "method=finetune",
                    f"student={{model: {given.out / f'text-{variant}' / 'student'}}}",
                    f"task.path={given.data / 'glue_data' / folder}", f"teacher.model={ENCODER}", f"seed={seed}",
                    "task.split_seed=0", "teacher.seed=0",
                ]  # fmt: skip
                about = {"recipe_name": task, "variant": variant}
                yield Run(f"glue-{task}-{variant}-s{seed}", arguments, about, after=add_samples)


def runs_task(given: argparse.Namespace) -> Iterator[Run]:
    """A student for SST-2 alone, found and by hand."""
    place = given.out / "teacher-latency.json"
    if not place.exists():  # measured once: the limit is part of the search
        write(place, {"ms": encoder_ms(length=64)})
    teacher_ms = json.loads(place.read_text())["ms"]
    limit, engine = round(teacher_ms / 3, 2), best_engine()
    base = ["recipes/text/sst2-kdnas.yaml", f"task.path={given.data / 'glue_data' / 'SST-2'}", f"teacher.model={ENCODER}"]
    search = [*base, f"method.space.max_latency_ms={limit}", f"method.engine={engine}", f"method.episodes={EPISODES}"]
    yield Run("task-found", search, {"limit_ms": limit, "engine": engine}, after=_after_task)
    sizes = by_hand(winner(given.out / "task-found")["latency_ms"], teacher_ms)
    alone = [*base, "method.engine=random", "method.episodes=1", "method.candidates=1", "method.halving=null", one_point(sizes)]
    yield Run("task-by-hand", alone, {"sizes": sizes}, after=_after_task)


def best_engine() -> str:
    """The one with the best reward in the middle of its course, on the table of `engines`; TPE without a table."""
    if not ENGINES_FILE.exists():
        return "tpe"
    found = json.loads(ENGINES_FILE.read_text())["engines"]
    return max(found, key=lambda name: (sum(found[name]["median"]), name))


def one_point(sizes: dict[str, Any]) -> str:
    """`method.space` with a single student in it."""
    names = {"activation": "activations"}
    return "method.space={" + ", ".join(f"{names.get(name, name)}: [{sizes[name]}]" for name in SIZES) + "}"


def by_hand(latency: float, teacher: float) -> dict[str, Any]:
    """As many layers of the teacher as are nearest to a latency; all layers cost the same."""
    return {"layers": min(range(1, DEPTH + 1), key=lambda number: abs(teacher * number / DEPTH - latency)), **WHOLE}


def winner(folder: Path) -> dict[str, Any]:
    """The row of the search that became the student."""
    if not (folder / "result.json").exists():
        sys.exit(f"The search in {folder} did not finish.")
    full = _decided(folder, "full-kd")
    point = full["rows"][full["chosen"]]["point"]
    return next(row for row in _decided(folder, "search")["rows"] if row["point"] == point and row["state"] == "complete")


def _decided(folder: Path, step: str) -> dict[str, Any]:
    return json.loads((folder / "steps" / step / "done.json").read_text())["value"]


def _keep_rows(file: Path, folder: Path) -> None:
    """All candidates of a search, and what full KD made of the best, beside the result."""
    if folder.exists():
        kept = {"search": lambda: _decided(folder, "search"), "full_kd": lambda: _decided(folder, "full-kd")}
        extend(file, **kept, winner=lambda: winner(folder))


def _after_task(file: Path, folder: Path) -> None:
    _keep_rows(file, folder)
    add_samples(file, folder)


def encoder_ms(length: int) -> float:
    """The encoder's median milliseconds for one row of so many tokens, on one thread."""
    from understudy.evaluate import measure
    from understudy.models.load import load_model

    call = measure.forward_pass(load_model(ENCODER).net, batch_size=1, length=length)
    times = measure.latency({"teacher": call}, batch_size=1, length=length, repeats=50, threads=1, device="cpu")
    return times["teacher"]["median"]


def main() -> None:
    keep_memory()  # as the `understudy` command does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("table", table), ("engines", engines), ("cache", cache)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name != "engines":
            command.add_argument("--data", type=Path, required=True, help="folder with train.txt, one passage per line")
        if name == "cache":
            command.add_argument("--candidates", type=int, default=10)
            command.add_argument("--cases", default="", help="only those whose name has this in it, as in 'a sixth'")
        if name == "engines":
            command.add_argument("--seeds", type=int, default=30)
            command.add_argument("--trials", type=int, default=56)
            command.add_argument("--engines", default="random,tpe,evolution,lstm")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
