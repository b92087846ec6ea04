"""What error messages show: nearest names, and values cut where they are long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

_SHOWN = 80


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option most similar to `name`, or None when nothing is close.

    >>> nearest("temprature", ["temperature", "epochs"])
    'temperature'
    """
    by_folded = {option.lower(): option for option in options}
    matches = get_close_matches(name.lower(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A sentence with the nearest option, starting with a space, or the empty string."""
    found = nearest(name, options)
    return f" Did you mean '{found}'?" if found else ""


def shown(value: Any) -> str:
    """A value as messages show it: on one line, cut where it is long."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def few(names: Sequence[str], most: int = 12) -> str:
    """The first names of a list, each cut where it is long, and how many more there are."""
    listed = ", ".join(shown(name) for name in names[:most])
    return listed + (f" and {len(names) - most:,} more" if len(names) > most else "")
