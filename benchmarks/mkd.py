"""Which ways of moving an adapter help, on real data, and how much training they save.

    python benchmarks/mkd.py narrow --data FOLDER                 the narrower student, made once (about half as wide)
    python benchmarks/mkd.py run --data FOLDER [--tasks conll2003] [--ways scratch lsa] [--regimes match] [--seeds 0 1 2]

`run` continues where it was stopped: a run that is finished is not repeated, one that is not goes on. Results are kept in
results/mkd/, one JSON for each task, regime, way and seed; `make results` puts them into docs/results.md.

Teacher: all-MiniLM-L6-v2 with a trained adapter. Regimes: `match`, its own layers 0, 2 and 4; `other`, a student of its own
kind but half the width, made from it on plain text. Ways: a fresh adapter, SKIP, the corrected average, a random choice of
dimensions, correlation, and correlation with the teacher's outputs in the loss. Scores after 0, 100 and 500 steps are those
of the selection rows, the last those of the test rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kept import ENCODER, ROOT, train

KEPT = ROOT / "results" / "mkd"
NARROW = "recipes/text/minilm-192.yaml"
TASKS: dict[str, list[str]] = {
    "conll2003": ["task={name: conll2003}", "conll2003"],
    "wikineural-en": ["task={name: wikineural, languages: [en]}", "wikineural"],
    "mnli-3k": ["task={name: glue/mnli}", "glue_data/MNLI"],
    "pawsx-en": ["task={name: pawsx, languages: [en]}", "pawsx"],
}
"""Task -> its section, and its folder below --data."""
WAYS: dict[str, list[str]] = {
    "skip": ["method.layer_map=skip", "method.align=none"],
    "avg": ["method.layer_map=avg", "method.align=none"],
    "random": ["method.layer_map=skip", "method.align=random"],
    "lsa": ["method.layer_map=skip", "method.align=lsa"],
    "lsa-avg": ["method.layer_map=avg", "method.align=lsa"],
    "lsa-soft": ["method.layer_map=skip", "method.align=lsa", "method.soft_label_weight=1.0"],
}
"""`scratch`, a fresh adapter on the same rows and steps, is the baseline of every run."""
REGIMES = {"match": list(WAYS), "other": ["random", "lsa", "lsa-avg", "lsa-soft"]}
STEPS = (0, 100, 500)


def narrow(data: Path, out: Path) -> None:
    """Make the narrower student, or go on making it."""
    books = data / "text" / "books_en"
    files = f"task.files={{train: {books / 'train.txt'}, dev: {books / 'valid.txt'}, test: {books / 'test.txt'}}}"
    if wrong := train([NARROW, files, f"teacher.model={ENCODER}"], out / "narrow", KEPT / "narrow.json", {}):
        sys.exit(f"The narrower student is not finished ({wrong}).")


def run(given: argparse.Namespace) -> None:
    """Run what is missing, one after the other; a failing run is named and the others go on."""
    failed = []
    small = given.out / "narrow" / "student"
    for seed in given.seeds:
        for task in given.tasks:
            section, folder = TASKS[task]
            for regime in given.regimes:
                student = "student={keep: [0, 2, 4]}" if regime == "match" else f"student={{model: {small}}}"
                for way in (way for way in REGIMES[regime] if way in given.ways):
                    name = f"{task}-{regime}-{given.adapter.partition('[')[0]}-{way}-s{seed}"
                    arguments = [
                        "recipes/ner/conll2003-mkd.yaml", section, f"task.path={given.data / folder}", "task.split_seed=0",
                        student, f"teacher.model={ENCODER}", "teacher.seed=0", f"seed={seed}",
                        f"train.adapter={given.adapter}", f"train.evaluate_at={list(STEPS)}", *WAYS[way], *given.settings,
                    ]  # fmt: skip
                    about = {"task_name": task, "regime": regime, "way": way, "adapter": given.adapter}
                    if wrong := train(arguments, given.out / name, KEPT / f"{name}.json", about):
                        failed.append(f"{name} ({wrong})")
                    else:
                        _keep_curves(given.out / name, KEPT / f"{name}.json")
    if failed:
        sys.exit("Not finished: " + "; ".join(failed))


def _keep_curves(folder: Path, kept: Path) -> None:
    """Add the selection scores by step of student and baseline to the record."""
    from understudy.steps import step_folder

    record = json.loads(kept.read_text())
    if "curves" in record or not folder.exists():
        return
    record["curves"] = {}
    for model in ("student", "baseline"):
        rows = [json.loads(line) for line in (step_folder(folder, model) / "metrics.jsonl").read_text().splitlines()]
        record["curves"][model] = [[row["step"], row["select"]] for row in rows if "select" in row]
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    maker = commands.add_parser("narrow", help="make the narrower student")
    runner = commands.add_parser("run", help="run what is missing")
    for one in (maker, runner):
        one.add_argument("--data", type=lambda text: Path(text).resolve(), default=ROOT.parent / "shared" / "data")
        one.add_argument("--out", type=lambda text: Path(text).resolve(), default=ROOT / "runs" / "mkd")
    runner.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    runner.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    runner.add_argument("--regimes", nargs="+", choices=list(REGIMES), default=list(REGIMES))
    runner.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    runner.add_argument("--adapter", default="pfeiffer[reduction_factor=8]")
    runner.add_argument("settings", nargs="*", help="changes to the recipe, as in train.epochs=5")
    given = parser.parse_args()
    if given.what == "narrow":
        narrow(given.data, given.out)
    else:
        run(given)


if __name__ == "__main__":
    main()
