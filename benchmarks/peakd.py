"""What each part of Pea-KD adds, on real data: run the variants over tasks and seeds, keep every result, make a table.

    python benchmarks/peakd.py run --data FOLDER [--tasks rte mrpc] [--variants kd sps-ptp] [--seeds 0 1 2]

`run` continues where it was stopped: a run that is finished is not repeated, one that is not goes on. Results are kept in
results/peakd/, one JSON for each task, variant and seed; `make results` puts them into docs/results.md.

All variants share rows, teacher, learning rate and epochs; PTP adds two epochs on other labels. Seeds differ in the order
of rows, dropout and new weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kept import ENCODER, ROOT, train

KEPT = ROOT / "results" / "peakd"
TASKS = {"rte": "RTE", "mrpc": "MRPC", "cola": "CoLA", "sst2-10k": "SST-2"}
"""Task -> folder of the data below --data/glue_data; the recipe is recipes/glue/TASK-peakd.yaml."""

_PLAIN, _OFF = "student.share=none", "method.ptp=off"
VARIANTS: dict[str, list[str]] = {
    "ft": ["method.train_type=ft", _PLAIN, _OFF],
    "kd": ["method.train_type=kd", _PLAIN, _OFF],
    "pkd": [_PLAIN, _OFF],
    "sps": [_OFF],
    "sps-ptp": [],
    "sps-noswap": ["student.share=sps_no_shuffle", _OFF],
    "ptp": [_PLAIN],
    "sps-norms": [_OFF, "student.own_norms=true"],
    "ft6": ["method.train_type=ft", _PLAIN, _OFF, "student.num_layers=6"],
    "pkd6": [_PLAIN, _OFF, "student.num_layers=6"],
}
"""Name -> changes to the recipe. Three layers of the pre-trained teacher, but for the last two, which are as slow as SPS."""


def run(tasks: list[str], variants: list[str], seeds: list[int], data: Path, out: Path, extra: list[str], suffix: str) -> None:
    """Run what is missing, one after the other; a failing run is named and the others go on."""
    failed = []
    for seed in seeds:
        for task in tasks:
            for variant in variants:
                name = f"{task}-{variant}{suffix}-s{seed}"
                arguments = [
                    f"recipes/glue/{task.removesuffix('-10k')}-peakd.yaml",
                    f"task.path={data / 'glue_data' / TASKS[task]}",
                    f"seed={seed}", f"teacher.model={ENCODER}", "teacher.seed=0", "task.split_seed=0",
                    "evaluate.baseline=false", *VARIANTS[variant], *extra,
                ]  # fmt: skip
                about = {"recipe_name": task, "variant": variant + suffix}
                if wrong := train(arguments, out / name, KEPT / f"{name}.json", about):
                    failed.append(f"{name} ({wrong})")
    if failed:
        sys.exit("Not finished: " + "; ".join(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    runner = commands.add_parser("run", help="run what is missing")
    runner.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    runner.add_argument("--out", type=Path, default=ROOT / "runs" / "peakd")
    runner.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    runner.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    runner.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    runner.add_argument("--suffix", default="", help="a name for other settings, as in --suffix=-lr3e-4")
    runner.add_argument("settings", nargs="*", help="changes to the recipes, as in train.lr=3e-4")
    given = parser.parse_args()
    data, out = given.data.resolve(), given.out.resolve()
    run(given.tasks, given.variants, given.seeds, data, out, given.settings, given.suffix)


if __name__ == "__main__":
    main()
