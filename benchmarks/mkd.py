"""Which ways of moving an adapter help, on real data, and how much training they save.

    python benchmarks/mkd.py narrow --data FOLDER                 the narrower student, made once (about half as wide)
    python benchmarks/mkd.py run --data FOLDER [--tasks conll2003] [--ways scratch lsa] [--regimes match] [--seeds 0 1 2]
    python benchmarks/mkd.py page

`run` continues where it was stopped: a run that is finished is not repeated, one that is not goes on. Results are kept in
results/mkd/, one JSON for each task, regime, way and seed; `page` writes docs/results-mkd.md from them.

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
from typing import Any

from kept import ENCODER, ROOT, train

from understudy.evaluate.compare import over_seeds

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
    from understudy.lab.keys import step_folder

    record = json.loads(kept.read_text())
    if "curves" in record or not folder.exists():
        return
    record["curves"] = {}
    for model in ("student", "baseline"):
        rows = [json.loads(line) for line in (step_folder(folder, model) / "metrics.jsonl").read_text().splitlines()]
        record["curves"][model] = [[row["step"], row["select"]] for row in rows if "select" in row]
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def write(page: Path) -> None:
    """docs/results-mkd.md, from results/mkd and nothing else."""
    records = [json.loads(path.read_text()) for path in sorted(KEPT.glob("*-s*.json"))]
    if not records:
        raise SystemExit(f"{KEPT} is empty: run the benchmark first (python benchmarks/mkd.py run).")
    lines = [
        "# Results of mKD",
        "",
        "Made by `python benchmarks/mkd.py page` from `results/mkd/`, where every number is kept with its command, versions and",
        "hardware. Scores in points; means over seeds with 95 % intervals over seeds where there are several.",
    ]
    groups = sorted({(r["task_name"], r["regime"], r["adapter"]) for r in records})
    for task, regime, adapter in groups:
        runs = [r for r in records if (r["task_name"], r["regime"], r["adapter"]) == (task, regime, adapter)]
        lines += ["", f"## {task}, {'matching' if regime == 'match' else 'other'} student, {adapter}", ""]
        head = ["adapter", "seeds", *(f"{step} steps" for step in STEPS), "end (test)", "against scratch"]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for way in ("scratch", *WAYS):
            one_each = {r["seed"]: r for r in runs}.values()  # all ways of a seed have the same baseline
            chosen = list(one_each) if way == "scratch" else [r for r in runs if r["way"] == way]
            if chosen:
                lines.append(_row(way, chosen))
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{page} from {len(records)} runs")


def _row(way: str, runs: list[dict[str, Any]]) -> str:
    model = "baseline" if way == "scratch" else "student"
    cells = [way, str(len(runs))]
    for step in STEPS:
        values = [100 * value for r in runs if (value := _at(r, model, step)) is not None]
        cells.append(_shown(values))
    cells.append(_shown([100 * _end(r, model) for r in runs]))
    gains = [100 * (_end(r, "student") - _end(r, "baseline")) for r in runs]
    cells.append("–" if way == "scratch" else _shown(gains, signed=True))
    return f"| {' | '.join(cells)} |"


def _at(record: dict[str, Any], model: str, step: int) -> float | None:
    """The selection score after so many steps; None where the training was shorter."""
    metric = _metric(record)
    return next((scores[metric] for at, scores in record.get("curves", {}).get(model, []) if at == step), None)


def _end(record: dict[str, Any], model: str) -> float:
    test = next(iter(record[model]["metrics"]))
    return record[model]["metrics"][test][_metric(record)]["value"]


def _metric(record: dict[str, Any]) -> str:
    return "f1" if record["task_name"] in ("conll2003", "wikineural-en") else "accuracy"


def _shown(values: list[float], *, signed: bool = False) -> str:
    if not values:
        return "–"
    found = over_seeds(values)
    mark = "+" if signed else ""
    mean = f"{found['mean']:{mark}.1f}"
    return mean if found["low"] is None else f"{mean} [{found['low']:{mark}.1f}, {found['high']:{mark}.1f}]"


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
    commands.add_parser("page", help="write docs/results-mkd.md from results/mkd")
    given = parser.parse_args()
    if given.what == "narrow":
        narrow(given.data, given.out)
    elif given.what == "run":
        run(given)
    else:
        write(ROOT / "docs" / "results-mkd.md")


if __name__ == "__main__":
    main()
