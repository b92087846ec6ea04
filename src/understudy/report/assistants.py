"""How the assistant was found: T(s) over sparsities, or every trial in one table, and what all stages cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.verdict import score
from understudy.report import charts
from understudy.report.words import duration


def assistants(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the section shows, from what the run decided: step name -> value of `choice-…`, `trials` and `cost`."""
    choices = [_choice(kept[name]) for name in sorted(kept) if name.startswith("choice-")]
    trials = _trials(kept["trials"]) if "trials" in kept else None
    if not choices and trials is None:
        return None
    return {"choices": choices, "trials": trials, "cost": _cost(kept["cost"]) if "cost" in kept else None}


def _choice(made: Mapping[str, Any]) -> dict[str, Any]:
    """One iteration: a curve of the scores and one of T, and the same in a table."""
    metric = str(DISPLAY.get(made["metric"], made["metric"]))
    points = [(100 * row["sparsity"], row) for row in made["rows"]]
    series = {metric: [(x, row["score"]) for x, row in points], "T": [(x, row["T"]) for x, row in points]}
    chosen = f"{100 * made['chosen']:g}"
    return {
        "chart": charts.curves(
            series,
            label=f"T(s) of the candidates; {chosen} % was chosen",
            classes={metric: "baseline", "T": "student"},
            x_name="sparsity in %",
            marks_on=True,
        ),
        "metric": metric,
        "formula": f"T(s) = {metric} + {made['lam']:g} · s",
        "chosen": chosen,
        "rows": [
            {
                "sparsity": f"{x:g}",
                "score": score(row["score"]),
                "T": f"{row['T']:.4f}",
                "step": row["step"],
                "mark": row["sparsity"] == made["chosen"],
            }
            for x, row in points
        ],
    }


def _trials(made: Mapping[str, Any]) -> dict[str, Any]:
    """Every trial of MaxiDisc; the table of the terminal, for the eye."""
    chosen = made["chosen"]
    return {
        "metric": DISPLAY.get(made["metric"], made["metric"]),
        "rows": [
            {
                "way": row["way"].replace("-", " → "),
                "seed": row["seed"],
                "score": score(row["score"]),
                "units": f"{row['units']:.2f}",
                "time": duration(row["seconds"]),
                "mark": (row["way"], row["seed"]) == (chosen["way"], chosen["seed"]),
            }
            for row in made["rows"]
        ],
        "total": f"{made['total']['units']:.2f}",
        "time": duration(made["total"]["seconds"]),
    }


def _cost(made: Mapping[str, Any]) -> dict[str, Any]:
    stages: Sequence[Mapping[str, Any]] = made["stages"]
    return {
        "stages": [
            {"stage": one["stage"], "units": f"{one['units']:.2f}", "time": duration(one["seconds"])} for one in stages
        ],
        "total": f"{made['total']['units']:.2f}",
        "time": duration(made["total"]["seconds"]),
        "direct": f"{made['direct']:.2f}",
        "times": f"{made['total']['units'] / made['direct']:.1f}",
    }
