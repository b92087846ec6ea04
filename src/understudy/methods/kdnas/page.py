"""What a search shows of itself: in result.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.methods.kdnas.space import DIMENSIONS


def search_result(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A finished search as result.json has it, from what the run kept: the front of quality, latency and size."""
    found, full = kept["search"], kept["full-kd"]
    rows = {row["point"]: row for row in found["rows"]}

    def one(point: int) -> dict[str, Any]:
        row = rows[point]
        return {name: row[name] for name in (*DIMENSIONS, "quality", "latency_ms", "parameters")} | {"reward": row["value"]}

    return {
        "engine": found["engine"],
        "architectures": found["space"]["points"],
        "tried": len(found["rows"]),
        "chosen": one(full["rows"][full["chosen"]]["point"]),
        "front": [one(point) for point in found["front"]],
    }
