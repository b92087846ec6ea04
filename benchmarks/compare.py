"""Every method against every other, on several tasks: `understudy compare`, kept.

    python benchmarks/compare.py [--data FOLDER] [--tasks mrpc conll2003-5k …] [key=value …]

Continues where it was stopped; started twice, the two share the work. Each comparison is kept in results/compare/, and
`make results` puts it into docs/results.md. FOLDER holds glue_data/, conll2003/ and pawsx/ in their official formats. Changes
to the recipe come after the options, as in `--tasks mrpc -- train.epochs=4`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from kept import ENCODER, ROOT, in_shell, made_by

KEPT = ROOT / "results" / "compare"
RECIPE = "recipes/compare/methods.yaml"
NER = ["teacher.finetune.lr=3.0e-4", "train.lr=4.0e-4"]
TASKS: dict[str, tuple[str, list[str]]] = {
    "mrpc": ("glue_data/MRPC", ["compare.seeds=3"]),
    "conll2003-5k": ("conll2003", ["task.name=conll2003", "task.max_train_examples=5000", "compare.seeds=1", *NER]),
    "rte": ("glue_data/RTE", ["task.name=glue/rte", "compare.seeds=1", "train.epochs=4"]),
    "cola": ("glue_data/CoLA", ["task.name=glue/cola", "compare.seeds=3", "train.epochs=3"]),
    "sst2-10k": ("glue_data/SST-2", ["task.name=glue/sst2", "task.max_train_examples=10000", "compare.seeds=1",
                                     "train.epochs=3"]),
    "stsb": ("glue_data/STS-B", ["task.name=glue/stsb", "compare.seeds=3", "train.epochs=4"]),
    # At the other tasks' learning rates the teacher does not learn word order, not in eight epochs.
    "pawsx-en": ("pawsx", ["task={name: pawsx, languages: [en]}", "compare.seeds=1", "teacher.finetune={epochs: 6, lr: 5.0e-5}",
                           "train.epochs=5", "train.lr=1.0e-4"]),
}  # fmt: skip
"""Task -> its folder below --data, and what it changes of the recipe."""


def run(task: str, data: Path, out: Path, changes: list[str]) -> str | None:
    """One comparison, or what is left of it; returns what went wrong, in words."""
    kept = KEPT / f"{task}.json"
    if kept.exists():
        return None
    folder, settings = TASKS[task]
    arguments = [RECIPE, *settings, f"teacher.model={ENCODER}", "evaluate.latency={length: 128, threads: 1}", *changes]
    command = [sys.executable, "-m", "understudy", "compare", *arguments, f"task.path={data / folder}", "--out", str(out / task)]
    code = made_by()  # before: the tree may change while it runs
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        return f"exit code {done.returncode}"
    made = json.loads((out / task / "comparison.json").read_text())
    kept.parent.mkdir(parents=True, exist_ok=True)
    record = {"command": in_shell(["understudy", "compare", *arguments, "task.path=…"]), **code, **made}
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=lambda text: Path(text).resolve(), default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=lambda text: Path(text).resolve(), default=ROOT / "runs" / "compare")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("settings", nargs="*", help="changes to the recipe, as in train.epochs=4")
    given = parser.parse_args()
    failed = [f"{task} ({wrong})" for task in given.tasks if (wrong := run(task, given.data, given.out, given.settings))]
    if failed:
        sys.exit("Not finished: " + "; ".join(failed))


if __name__ == "__main__":
    main()
