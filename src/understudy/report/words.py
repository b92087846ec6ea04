"""Costs in the units people say them in."""

from __future__ import annotations


def short(count: float) -> str:
    """22713216 -> '22.7 M'."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def megabytes(size: float) -> str:
    return f"{size / 1000:.2f} GB" if size >= 1000 else f"{size:.1f} MB"


def milliseconds(time: float) -> str:
    return f"{time:.0f} ms" if time >= 100 else f"{time:.1f} ms" if time >= 10 else f"{time:.2f} ms"


def duration(seconds: float) -> str:
    """75.2 -> '1 min 15 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
