"""How the assistant was found: T(s) over sparsities, and what all stages cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy import figures
from understudy.evaluate.metrics import DISPLAY
from understudy.figures import charts, panel, table
from understudy.figures.words import score
from understudy.lab.stages import cost_lines


def section(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """From what the run decided: step name -> value of `choice-…` and `cost`."""
    choices = [kept[name] for name in sorted(kept) if name.startswith("choice-")]
    panels = [one for made in choices for one in _choice(made)]
    return figures.section("assistants", "The assistant", panels=panels, lines=cost_lines(kept)) if choices else None


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
