"""Students that a search found, against students made by hand that are as fast.

    python benchmarks/search_live.py text --data FOLDER    a search on plain text within a third of the teacher's operations;
                                                           full KD of its winner and of the layers of the teacher that are as
                                                           fast; both fine-tuned on MRPC, RTE, SST-2
    python benchmarks/search_live.py task --data FOLDER    a search for SST-2 alone, no slower than a third of the teacher's
                                                           time, against layers of the teacher that are as fast

FOLDER holds glue_data/ and text/books_en/. Both may be interrupted and repeated; what they find is kept in
results/search/. The student made by hand goes through the same method and settings, in a space that holds nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kept import ENCODER, ROOT, add_samples, encoder_ms, train
from search import ENGINES_FILE, SPACE, THIRD, texts

KEPT = ROOT / "results" / "search"
SIZES = ("layers", "heads", "hidden", "intermediate", "activation")
WHOLE = {"heads": 12, "hidden": 384, "intermediate": 1536, "activation": "gelu"}
"""A layer of the teacher."""
DEPTH = 6
GLUE = {"mrpc": ("mrpc", "MRPC"), "rte": ("rte", "RTE"), "sst2-10k": ("sst2", "SST-2")}
"""Task -> its recipe, and its folder."""


def best_engine() -> str:
    """The one with the best reward in the middle of its course, on the table of `search.py engines`; TPE without a table."""
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
    layers = min(range(1, DEPTH + 1), key=lambda number: abs(teacher * number / DEPTH - latency))
    return {"layers": layers, **WHOLE}


def winner(run: Path) -> dict[str, Any]:
    """The row of the search that became the student."""
    rows = json.loads((run / "steps" / "search" / "done.json").read_text())["value"]["rows"]
    full = json.loads((run / "steps" / "full-kd" / "done.json").read_text())["value"]
    point = full["rows"][full["chosen"]]["point"]
    return next(row for row in rows if row["point"] == point and row["state"] == "complete")


def must(wrong: str | None, what: str) -> None:
    if wrong:
        sys.exit(f"{what} did not finish ({wrong}).")


def plain_text(given: argparse.Namespace) -> None:
    space = ", ".join(f"{name}: {values}" for name, values in SPACE.items())
    base = [
        "recipes/text/books-kdnas.yaml", f"task.files={json.dumps(texts(given.data / 'text' / 'books_en', given.passages))}",
        "task.max_length=32", "task.selection=0.1", "task.mask_variants=1", f"teacher.model={ENCODER}", "method.top_k=1",
        "method.mini_kd={proxy: 0.2, epochs: 1, lr: 1.0e-3, batch_size: 16}", f"train.epochs={given.epochs}",
        "evaluate.latency={repeats: 15, length: 128, threads: 1}",
    ]  # fmt: skip
    engine = best_engine()
    found = given.out / "text-found"
    budget = f"method.space={{{space}, max_flops: {THIRD}}}"
    search = [*base, f"method.engine={engine}", "method.episodes=5", "method.candidates=8", budget]
    must(train(search, found, KEPT / "text-found.json", {"engine": engine}), "The search")
    row = winner(found)
    sizes = by_hand(row["latency_ms"], row["teacher_latency_ms"])
    made = given.out / "text-by-hand"
    alone = [*base, "method.engine=random", "method.episodes=1", "method.candidates=1", one_point(sizes)]
    must(train(alone, made, KEPT / "text-by-hand.json", {"sizes": sizes}), "The student made by hand")
    for task, (recipe, folder) in GLUE.items():
        for name, run in (("found", found), ("by-hand", made)):
            for seed in given.seeds:
                arguments = [
                    f"recipes/glue/{recipe}-automm.yaml", "method=finetune", f"student={{model: {run / 'student'}}}",
                    f"task.path={given.data / 'glue_data' / folder}", f"teacher.model={ENCODER}", f"seed={seed}",
                    "task.split_seed=0", "teacher.seed=0",
                ]  # fmt: skip
                kept = KEPT / f"glue-{task}-{name}-s{seed}.json"
                about = {"recipe_name": task, "variant": name}
                must(train(arguments, given.out / kept.stem, kept, about), kept.stem)
                add_samples(kept, given.out / kept.stem)
    _keep_rows(found, KEPT / "text-found.json")
    _keep_rows(made, KEPT / "text-by-hand.json")


def one_task(given: argparse.Namespace) -> None:
    base = ["recipes/text/sst2-kdnas.yaml", f"task.path={given.data / 'glue_data' / 'SST-2'}", f"teacher.model={ENCODER}"]
    teacher_ms = _teacher_latency(given.out / "teacher-latency.json")
    limit = round(teacher_ms / 3, 2)
    found = given.out / "task-found"
    engine = best_engine()
    search = [*base, f"method.space.max_latency_ms={limit}", f"method.engine={engine}", f"method.episodes={given.episodes}"]
    must(train(search, found, KEPT / "task-found.json", {"limit_ms": limit, "engine": engine}), "The search")
    sizes = by_hand(winner(found)["latency_ms"], teacher_ms)
    alone = [*base, "method.engine=random", "method.episodes=1", "method.candidates=1", "method.halving=null", one_point(sizes)]
    must(train(alone, given.out / "task-by-hand", KEPT / "task-by-hand.json", {"sizes": sizes}), "The student made by hand")
    for name in ("task-found", "task-by-hand"):
        _keep_rows(given.out / name, KEPT / f"{name}.json")
        add_samples(KEPT / f"{name}.json", given.out / name)


def _teacher_latency(place: Path) -> float:
    """The encoder's for 64 tokens, measured once: the limit is part of the search."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(encoder_ms(length=64)))
    return json.loads(place.read_text())


def _keep_rows(run: Path, kept: Path) -> None:
    """All candidates of a search, and what full KD made of the best, beside the result."""
    record = json.loads(kept.read_text())
    if "search" not in record:
        record["search"] = json.loads((run / "steps" / "search" / "done.json").read_text())["value"]
        record["full_kd"] = json.loads((run / "steps" / "full-kd" / "done.json").read_text())["value"]
        record["winner"] = winner(run)
        kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("text", plain_text), ("task", one_task)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--data", type=lambda text: Path(text).resolve(), default=ROOT.parent / "shared" / "data")
        command.add_argument("--out", type=lambda text: Path(text).resolve(), default=ROOT / "runs" / "search")
        if name == "text":
            command.add_argument("--passages", type=int, default=6000, help="for full KD; a fifth of them for each candidate")
            command.add_argument("--epochs", type=int, default=3)
            command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
        else:
            command.add_argument("--episodes", type=int, default=4, help="of eight candidates each")
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
