"""What the recipes reach on real data: run them over seeds and keep every result.

    python benchmarks/quality.py run --data FOLDER [--only mrpc rte] [--seeds 0 1 2]

`run` continues where it was stopped: a run that is finished is not repeated, one that is not goes on. Results are kept
in results/quality/, one JSON for each recipe and seed, with versions and hardware; `make results` puts them into
docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kept import ENCODER, ROOT, train

KEPT = ROOT / "results" / "quality"

# name -> (recipe, folder of the data below --data, or None)
RECIPES = {
    "mrpc": ("recipes/glue/mrpc-automm.yaml", "glue_data/MRPC"),
    "rte": ("recipes/glue/rte-automm.yaml", "glue_data/RTE"),
    "cola": ("recipes/glue/cola-automm.yaml", "glue_data/CoLA"),
    "sst2-10k": ("recipes/glue/sst2-automm.yaml", "glue_data/SST-2"),
    "stsb": ("recipes/glue/stsb-automm.yaml", "glue_data/STS-B"),
    "conll2003": ("recipes/ner/conll2003-automm.yaml", "conll2003"),
    "pawsx-en-de": ("recipes/pawsx/en-de-automm.yaml", "pawsx"),
    "tickets": ("recipes/own/tickets.yaml", None),
}
COMPARED = ("mrpc", "rte", "cola", "sst2-10k")
"""The tasks over which distillation is judged: three seeds each."""


def command(name: str, seed: int, data: Path, extra: list[str]) -> list[str]:
    """What one run is given. All seeds share rows and teacher; order, dropout and projections differ."""
    recipe, folder = RECIPES[name]
    settings = [f"seed={seed}", f"teacher.model={ENCODER}", "teacher.seed=0", "task.split_seed=0"]
    if folder:
        settings.append(f"task.path={data / folder}")
    return [recipe, *settings, *extra]


def run(names: list[str], seeds: list[int], data: Path, out: Path, variant: str, extra: list[str]) -> None:
    """Run what is missing, one after the other; a failing run is named and the others go on."""
    failed = []
    for seed in seeds:
        for name in names:
            run_name = f"{name}{variant}-s{seed}"
            about = {"recipe_name": name, "variant": variant}
            if wrong := train(command(name, seed, data, extra), out / run_name, KEPT / f"{run_name}.json", about):
                failed.append(f"{name} seed {seed} ({wrong})")
    if failed:
        sys.exit("Not finished: " + "; ".join(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    runner = commands.add_parser("run", help="run what is missing")
    runner.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    runner.add_argument("--out", type=Path, default=ROOT / "runs" / "quality")
    runner.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    runner.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    runner.add_argument("--variant", default="", help="a name for other settings, as in --variant -soft")
    runner.add_argument("settings", nargs="*", help="changes to the recipes, as in method.hidden_weight=0")
    given = parser.parse_args()
    run(given.only, given.seeds, given.data.resolve(), given.out.resolve(), given.variant, given.settings)


if __name__ == "__main__":
    main()
