"""What the teacher was sure of: the four classes of pre-training with its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy import figures


def section(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """One bar for the training rows and one for the selection rows, cut into classes, from the step `ptp-classes`."""
    if "ptp-classes" not in kept:
        return None
    made = kept["ptp-classes"]
    right, wrong = made["thresholds"]
    note = f"sure above {right:.3g} where it is right, above {wrong:.3g} where it is wrong"
    bars = []
    for split, words in (("train", "training rows"), ("select", "selection rows")):
        counts = made["counts"][split]
        named = [(f"s{place}", *pair) for place, pair in enumerate(zip(made["names"], counts, strict=True))]
        bars.append(figures.parts(f"The {sum(counts):,} {words}", named, rows=words, note=note))
    lines = ["Before the task, the student learnt to tell these four classes apart."]
    return figures.section("ptp", "What the teacher is sure of", panels=bars, lines=lines)
