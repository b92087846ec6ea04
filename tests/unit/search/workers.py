"""A worker of a made-up search, for tests that kill it: `python workers.py FOLDER TRIALS [URL]`.

Each evaluation is written down at its end, one line per point, so that a test can count what was done to the end.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from understudy.methods.kdnas.engines import make_engine
from understudy.methods.kdnas.space import Space
from understudy.methods.kdnas.study import Outcome, Report, Study

CHOICES = {
    "layers": (1, 2, 3, 4), "heads": (2, 4), "hidden": (32, 64), "intermediate": (64, 128, 256),
    "activation": ("gelu", "relu", "silu"),
}  # fmt: skip
SECONDS = 0.02


def value(point: int) -> float:
    return 1.0 / (1 + (point * 37) % 101)


def study(folder: Path, trials: int, *, engine: str = "random", storage: str | None = None, **more) -> Study:
    proposer = make_engine(engine, Space(CHOICES), seed=0, candidates=8)
    return Study(folder, proposer, trials=trials, storage=storage, heartbeat=1, **more)


def evaluate(folder: Path):
    def run(point: int, report: Report) -> Outcome:
        started = folder / f"started-{os.getpid()}.txt"
        with open(started, "a") as file:
            file.write(f"{point}\n")
        time.sleep(SECONDS)
        return Outcome(value(point), {"by": os.getpid()})

    return run


if __name__ == "__main__":
    place, number = Path(sys.argv[1]), int(sys.argv[2])
    search = study(place / "search", number, storage=sys.argv[3] if len(sys.argv) > 3 else None)
    search.work(evaluate(place))
    search.close()
