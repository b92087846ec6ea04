"""Quality and latency in one number, as the search maximises it; and which candidates have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.errors import RecipeError

FLOOR = 0.01
"""The least that quality counts. Without it a loss above 1 makes the reward negative and rewards *slower* students."""


def reward(
    quality: float,
    student_latency: float,
    teacher_latency: float,
    *,
    alpha: float = -0.06,
    beta: float = 0.6,
    floor: float = FLOOR,
) -> float:
    """max(0.01, quality) · (lat_S / (β lat_T))^α, for the original's quality 1 - L.

    β multiplies every reward by β^-α: it cannot change which student is best. A latency that must be met is a budget
    (`method.space.max_latency_ms`), not a β. With α = -0.06 a student that is eight times as fast gains 13 %.

    Args:
        quality: 1 - held-out loss, or the metric of a labelled task; more is better.
        student_latency, teacher_latency: in one unit, by one protocol.
        alpha: below 0 rewards speed; 0 ignores it.
        floor: the least that quality counts; minus infinity as in the released code's branch main.

    >>> round(reward(1 - 0.2, 0.03, 0.01, alpha=-0.06, beta=0.6**6), 12)
    0.623156546549
    """
    if student_latency <= 0 or teacher_latency <= 0 or beta <= 0:
        raise RecipeError("Latencies and method.beta must be above 0.")
    return max(floor, quality) * (student_latency / (beta * teacher_latency)) ** alpha


def over_budget(latency: float, limit: float) -> float:
    """What a student that is too slow counts for: below 0, hence below every trained one, and the less the slower."""
    return 1.0 - latency / limit


def trained(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Of the rows of a study those that were trained to the end: neither failed, nor stopped, nor too slow to be tried."""
    return [row for row in rows if row["state"] == "complete" and not row.get("over_budget")]


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Of the rows of a study those that were trained to the end, the best first."""
    return sorted(trained(rows), key=lambda row: (-row["value"], row["trial"]))
