"""Who counts among what a search tried, and who is beaten by nobody: the Pareto front of quality against what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def trained(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Of the rows of a study those that were trained to the end: neither failed, nor stopped, nor too slow to be tried."""
    return [row for row in rows if row["state"] == "complete" and not row.get("over_budget")]


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Of the rows of a study those that were trained to the end, the best first."""
    return sorted(trained(rows), key=lambda row: (-row["value"], row["trial"]))


def front(quality: Sequence[float], *costs: Sequence[float]) -> list[int]:
    """The numbers of the points that no other point dominates, best quality first.

    A point dominates another when it is at least as good in everything (more quality, less of each cost) and better in
    something. Equal points do not dominate each other.

    >>> front([0.9, 0.8, 0.7, 0.85], [10.0, 5.0, 6.0, 10.0])
    [0, 1]
    """
    rows = [(-q, *c) for q, *c in zip(quality, *costs, strict=True)]

    def dominated(one: tuple[float, ...]) -> bool:
        return any(all(a <= b for a, b in zip(other, one, strict=True)) and other != one for other in rows)

    kept = [number for number, row in enumerate(rows) if not dominated(row)]
    return sorted(kept, key=lambda number: rows[number])
