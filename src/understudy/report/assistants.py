"""How the assistant was found: T(s) over sparsities, or every trial in one table, and what all stages cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.evaluate.metrics import DISPLAY
from understudy.figures import charts, panel, section, table
from understudy.figures.words import duration, score

COST = (
    "Cost: forward passes of the whole teacher for each example of a pass over the rows; a network of share a costs a forward "
    "and 2a backward, and the teacher of each stage is counted as if its outputs were not stored."
)


def assistants(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section, from what the run decided: step name -> value of `choice-…`, `trials` and `cost`."""
    choices = [kept[name] for name in sorted(kept) if name.startswith("choice-")]
    trials = kept.get("trials")
    if not choices and trials is None:
        return None
    panels = [one for made in choices for one in _choice(made)]
    tables = [_trials(trials)] if trials else []
    lines = [_cost(kept["cost"])] if "cost" in kept else []
    return section("assistants", "The assistant", panels=panels, tables=tables, lines=[*lines, COST])


def _choice(made: Mapping[str, Any]) -> list[Any]:
    """One iteration: a curve of the scores and one of T, and the same in a table."""
    metric = str(DISPLAY.get(made["metric"], made["metric"]))
    points = [(100 * row["sparsity"], row) for row in made["rows"]]
    series = {metric: [(x, row["score"]) for x, row in points], "T": [(x, row["T"]) for x, row in points]}
    chosen = f"{100 * made['chosen']:g} %"
    label = f"T(s) of the candidates; {chosen} was chosen"
    colours = {metric: "baseline", "T": "student"}
    chart = charts.line(series, label=label, classes=colours, x_name="sparsity in %", dots=True)
    legend = [{"class": colour, "words": name, "note": ""} for name, colour in colours.items()]
    rows = [
        [f"{x:g} %", score(row["score"]), f"{row['T']:.4f}", row["step"], "chosen" if row["sparsity"] == made["chosen"] else ""]
        for x, row in points
    ]
    head = ["sparsity", metric, "T", "best step", ""]
    return [
        panel(f"T(s) = {metric} + {made['lam']:g} · s", chart, f"{chosen} was chosen on held-out rows", legend=legend),
        panel("The candidates", note="scores on held-out rows", table=table(head, rows)),
    ]


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
    return table(["way", "seed", f"{metric}, held-out", "cost", "time", ""], [*rows, total])


def _cost(made: Mapping[str, Any]) -> str:
    stages = "; ".join(f"{one['stage']}: {one['units']:.2f}, {duration(one['seconds'])}" for one in made["stages"])
    total, direct = made["total"], made["direct"]
    return (
        f"{stages}; together {total['units']:.2f}, {duration(total['seconds'])}: {total['units'] / direct:.1f} times direct "
        f"distillation to the same student ({direct:.2f}). Judge the assistant against direct distillation with that many times "
        "the epochs."
    )
