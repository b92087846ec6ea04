"""Which ways to the student were tried, and what all stages cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy import figures
from understudy.evaluate.metrics import DISPLAY
from understudy.figures.words import duration, score
from understudy.lab.stages import cost_lines


def section(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """From what the run decided: step name -> value of `trials` and `cost`."""
    if "trials" not in kept:
        return None
    return figures.section("assistants", "The assistant", tables=[_trials(kept["trials"])], lines=cost_lines(kept))


def _trials(made: Mapping[str, Any]) -> dict[str, Any]:
    """Every trial of MaxiDisc; the table of the terminal, for the eye."""
    chosen = made["chosen"]
    rows = [
        [
            row["way"].replace("-", " → "), row["seed"], score(row["score"]), f"{row['units']:.2f}", duration(row["seconds"]),
            "chosen" if (row["way"], row["seed"]) == (chosen["way"], chosen["seed"]) else "",
        ]
        for row in made["rows"]
    ]  # fmt: skip
    total = ["all together", "", "", f"{made['total']['units']:.2f}", duration(made["total"]["seconds"]), ""]
    metric = DISPLAY.get(made["metric"], made["metric"])
    return figures.table(["way", "seed", f"{metric}, held-out", "cost", "time", ""], [*rows, total])
