"""What the report of a run says of what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.methods.auto.plan import FILE, amount


def notes(folder: Path, costs: Mapping[str, Any]) -> list[str]:
    """For the report of a run: why its student is what it is, and whether it keeps the limits; empty without `auto`.

    Args:
        costs: of the finished student, as in result.json.
    """
    if not (folder / FILE).exists():
        return []
    kept = disk.read_json(folder / FILE)
    found = {"parameters": costs["num_parameters"], "flops": costs["flops"], "latency_ms": costs["latency_ms"]["median"]}
    checks = [
        f"auto: {amount(cost, found[cost])} of at most {amount(cost, limit)}"
        + ("." if found[cost] <= limit else ", which is more: the finished student differs a little from what was looked at.")
        for cost, limit in kept["limits"].items()
    ]
    return [kept["reason"], *checks]
