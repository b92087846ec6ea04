"""What the report of a run says of what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.methods.auto.plan import FILE, amount, bound


def notes(folder: Path, costs: Mapping[str, Any]) -> list[str]:
    """For the report of a run: why its student is what it is, and whether it keeps the limits; empty without `auto`.

    Args:
        costs: of the finished student, as in result.json.
    """
    if not (folder / FILE).exists():
        return []
    kept = disk.read_json(folder / FILE)
    latency, teacher = costs["latency_ms"]["median"], kept["options"][0]["latency_ms"]
    found = {"parameters": costs["num_parameters"], "flops": costs["flops"], "latency_ms": latency, "size_mb": costs["size_mb"]}
    if teacher is not None:
        found["time_share"] = latency / teacher
    differs = "; the finished student differs a little from what was looked at."
    checks = [
        f"auto: {amount(cost, found[cost])}, {bound(cost, limit)} asked for" + ("." if found[cost] <= limit else differs)
        for cost, limit in kept["limits"].items()
    ]
    return [kept["reason"], *checks]
