"""What the teacher was sure of: the four classes of pre-training with its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.evaluate.verdict import percent
from understudy.report import charts


def ptp_classes(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """One bar for the training rows and one for the selection rows, cut into classes, from the step `ptp-classes`."""
    if "ptp-classes" not in kept:
        return None
    made = kept["ptp-classes"]
    bars = []
    for split, words in (("train", "training rows"), ("select", "selection rows")):
        counts = made["counts"][split]
        total = sum(counts) or 1
        parts = [
            {"class": f"s{place}", "count": count, "words": name, "share": percent(count / total)}
            for place, (name, count) in enumerate(zip(made["names"], counts, strict=True))
        ]
        parts = [{**part, "tip": f"{part['words']}: {part['count']} {words} ({part['share']})"} for part in parts]
        label = "; ".join(part["tip"] for part in parts)
        bars.append({"title": f"The {sum(counts):,} {words}", "parts": parts, "chart": charts.parts(parts, label=label)})
    right, wrong = made["thresholds"]
    note = f"sure above {right:.3g} where it is right, above {wrong:.3g} where it is wrong"
    return {"bars": bars, "note": note}
