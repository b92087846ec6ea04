"""What docs/results.md says about mKD, made from results/mkd/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kept import circumstances
from mkd import STEPS, WAYS

from understudy.evaluate.compare import over_seeds


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*-s*.json"))]
    if not records:
        return []
    lines = [
        "# mKD: which ways of moving an adapter help?",
        "",
        "Measured by `python benchmarks/mkd.py run`; kept in `results/mkd/`, each run with its command. Scores in points; means",
        "over seeds with 95 % intervals over seeds where there are several.",
        "",
        *circumstances(records[0]),
    ]
    groups = sorted({(r["task_name"], r["regime"], r["adapter"]) for r in records})
    for task, regime, adapter in groups:
        runs = [r for r in records if (r["task_name"], r["regime"], r["adapter"]) == (task, regime, adapter)]
        lines += ["", f"## {task}, {'matching' if regime == 'match' else 'other'} student, {adapter}", ""]
        head = ["adapter", "seeds", *(f"{step} steps" for step in STEPS), "end (test)", "against scratch"]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for way in ("scratch", *WAYS):
            one_each = {r["seed"]: r for r in runs}.values()  # all ways of a seed have the same baseline
            chosen = list(one_each) if way == "scratch" else [r for r in runs if r["way"] == way]
            if chosen:
                lines.append(_row(way, chosen))
    return lines


def _row(way: str, runs: list[dict[str, Any]]) -> str:
    model = "baseline" if way == "scratch" else "student"
    cells = [way, str(len(runs))]
    for step in STEPS:
        values = [100 * value for r in runs if (value := _at(r, model, step)) is not None]
        cells.append(_shown(values))
    cells.append(_shown([100 * _end(r, model) for r in runs]))
    gains = [100 * (_end(r, "student") - _end(r, "baseline")) for r in runs]
    cells.append("–" if way == "scratch" else _shown(gains, signed=True))
    return f"| {' | '.join(cells)} |"


def _at(record: dict[str, Any], model: str, step: int) -> float | None:
    """The selection score after so many steps; None where the training was shorter."""
    metric = _metric(record)
    return next((scores[metric] for at, scores in record.get("curves", {}).get(model, []) if at == step), None)


def _end(record: dict[str, Any], model: str) -> float:
    test = next(iter(record[model]["metrics"]))
    return record[model]["metrics"][test][_metric(record)]["value"]


def _metric(record: dict[str, Any]) -> str:
    return "f1" if record["task_name"] in ("conll2003", "wikineural-en") else "accuracy"


def _shown(values: list[float], *, signed: bool = False) -> str:
    if not values:
        return "–"
    found = over_seeds(values)
    mark = "+" if signed else ""
    mean = f"{found['mean']:{mark}.1f}"
    return mean if found["low"] is None else f"{mean} [{found['low']:{mark}.1f}, {found['high']:{mark}.1f}]"
