"""Numbers in the words and units that people use for them."""

from __future__ import annotations


def percent(share: float) -> str:
    """0.98 -> '98 %'; one decimal where rounding would claim a whole that is not there.

    >>> percent(0.98), percent(0.998), percent(1.0)
    ('98 %', '99.8 %', '100 %')
    """
    rounded = f"{share * 100:.0f}"
    if rounded in ("0", "100") and abs(share * 100 - float(rounded)) >= 0.05:
        rounded = f"{share * 100:.1f}"
    return f"{rounded} %".replace("-0 ", "0 ").replace("-", "−")


def score(value: float) -> str:
    """A score for reading: '0.902'; large ones as '12.3'. The minus sign is a real one."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("-", "−")


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
