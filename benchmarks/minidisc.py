"""What an assistant is worth, on real data: direct distillation, MaxiDisc and MiniDisc to the same pruned student.

    python benchmarks/minidisc.py run --data FOLDER [--tasks rte mrpc conll2003] [--variants direct maxidisc] [--seeds 0 1 2]

`run` continues where it was stopped: a run that is finished is not repeated, one that is not goes on. Results are kept in
results/minidisc/, one JSON for each task, variant and seed, with what was chosen and what it cost; `make
results` puts them into docs/results.md.

All variants share rows, teacher, importance, loss and learning rate; every stage has the same number of epochs, but for
`direct-long`, which spends as much as MiniDisc at its dearest. Seeds differ in the order of rows and dropout.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from kept import ENCODER, ROOT, add_samples, train

from understudy.lab.stages import units
from understudy.recipe.load import load_recipe

KEPT = ROOT / "results" / "minidisc"


@dataclass(frozen=True)
class Task:
    """Where a task's data lies, which recipe runs it, and over which assistants."""

    title: str
    recipe: str
    folder: str
    assistants: tuple[float, ...]
    seeds: tuple[int, ...]


TASKS = {
    "rte": Task("RTE", "recipes/glue/rte-minidisc.yaml", "glue_data/RTE", (0.5, 0.6, 0.7, 0.8), (0, 1, 2)),
    "mrpc": Task("MRPC", "recipes/glue/mrpc-minidisc.yaml", "glue_data/MRPC", (0.5, 0.6, 0.7, 0.8), (0,)),
    "conll2003": Task("CoNLL-2003", "recipes/ner/conll2003-minidisc.yaml", "conll2003", (0.4, 0.5, 0.6), (0,)),
}
VARIANTS = {
    "direct": "direct, one stage",
    "direct-long": "direct, the budget of MiniDisc",
    "maxidisc": "MaxiDisc",
    "minidisc": "MiniDisc, all candidates in every step",
    "minidisc-sampled": "MiniDisc, three candidates in every step",
}


def settings(task: Task, variant: str) -> list[str]:
    """What a variant changes in the recipe."""
    recipe = load_recipe(ROOT / task.recipe)
    target, epochs = recipe.student.sparsity, recipe.train.epochs
    assert target is not None
    if variant == "direct":
        return ["method={name: maxidisc, path: []}"]
    if variant == "direct-long":
        scales = [1 - s for s in task.assistants]
        dearest = units(1.0, scales) + units(max(scales), [1 - target])
        times = dearest / units(1.0, [1 - target])
        return ["method={name: maxidisc, path: []}", f"train.epochs={math.ceil(times * epochs)}",
                f"teacher.finetune.epochs={recipe.teacher.finetune.epochs}"]  # type: ignore[union-attr]  # fmt: skip
    if variant == "maxidisc":
        stages = ", ".join(f"{100 * s:g}S" for s in task.assistants)
        return [f"method={{name: maxidisc, assistants: [{stages}], direct: false}}"]
    sandwich = "sampled" if variant == "minidisc-sampled" else "all"
    return [f"method.candidates={list(task.assistants)}", f"method.sandwich={sandwich}"]


def run(tasks: list[str], variants: list[str], seeds: list[int] | None, data: Path, out: Path, extra: list[str]) -> None:
    """Run what is missing, one after the other; a failing run is named and the others go on."""
    failed = []
    for name in tasks:
        task = TASKS[name]
        for seed in seeds or task.seeds:
            for variant in variants:
                if variant == "minidisc-sampled" and len(task.assistants) <= 3:
                    continue  # three of three are all
                run_name = f"{name}-{variant}-s{seed}"
                arguments = [
                    task.recipe, *settings(task, variant), f"task.path={data / task.folder}", f"seed={seed}",
                    f"teacher.model={ENCODER}", "teacher.seed=0", "task.split_seed=0", "evaluate.baseline=false", *extra,
                ]  # fmt: skip
                kept = KEPT / f"{run_name}.json"
                about = {"recipe_name": name, "variant": variant, "stage_epochs": load_recipe(ROOT / task.recipe).train.epochs}
                wrong = train(arguments, out / run_name, kept, about)
                if wrong:
                    failed.append(f"{run_name} ({wrong})")
                else:
                    add_decisions(kept, out / run_name)
                    add_samples(kept, out / run_name)
    if failed:
        sys.exit("Not finished: " + "; ".join(failed))


def add_decisions(kept: Path, folder: Path) -> None:
    """Put what the method chose and what it cost into the record, from the steps of the run."""
    record = json.loads(kept.read_text())
    if "decided" in record or not folder.is_dir():
        return
    marks = [mark for name in ("choice-*", "trials", "cost") for mark in sorted(folder.glob(f"steps/{name}/done.json"))]
    record["decided"] = {mark.parent.name: json.loads(mark.read_text())["value"] for mark in marks}
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    runner = commands.add_parser("run", help="run what is missing")
    runner.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    runner.add_argument("--out", type=Path, default=ROOT / "runs" / "minidisc")
    runner.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    runner.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    runner.add_argument("--seeds", nargs="+", type=int, default=None, help="by default three for RTE, one for the others")
    runner.add_argument("settings", nargs="*", help="changes to the recipes, as in train.lr=3e-4")
    given = parser.parse_args()
    run(given.tasks, given.variants, given.seeds, given.data.resolve(), given.out.resolve(), given.settings)


if __name__ == "__main__":
    main()
