"""Run an experiment on real data, and keep its results: `python benchmarks/run.py quality --data FOLDER`.

What was stopped is continued, what is finished is not repeated: results/EXPERIMENT/ holds a record of each run, with its command,
versions and hardware, and `make results` turns them into docs/results.md and the README's tables. FOLDER holds glue_data/,
conll2003/, pawsx/, wikineural/ and text/ in their official formats. Changes to the recipes come after `--`, as in
`python benchmarks/run.py peakd --tasks rte -- train.lr=3e-4`.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from record import RESULTS, ROOT, do

EXPERIMENTS = ("quality", "compare", "peakd", "minidisc", "mkd", "small", "search_text", "search_task")
"""Each a file here, with what it runs (`runs`) and what it says (`section`)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=lambda text: Path(text).resolve(), default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=lambda text: Path(text).resolve(), help="where the runs are made; runs/EXPERIMENT")
    parser.add_argument("--tasks", nargs="+", help="some of the experiment's TASKS; default: all")
    parser.add_argument("--variants", nargs="+", help="some of its VARIANTS")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("settings", nargs="*", help="changes to the recipes, as in train.epochs=4")
    given = parser.parse_args()
    name, _, part = given.experiment.partition("_")
    made = import_module(name)
    for option in ("tasks", "variants"):
        known = getattr(made, option.upper(), {})
        if wrong := [one for one in getattr(given, option) or () if one not in known]:
            parser.error(f"--{option}: {', '.join(wrong)} is not one of {', '.join(known) or 'any: there are none here'}")
    given.out = given.out or ROOT / "runs" / name
    do(getattr(made, f"runs_{part}" if part else "runs")(given), RESULTS / name, given.out)


if __name__ == "__main__":
    main()
