"""Nearest names, for error messages that help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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
