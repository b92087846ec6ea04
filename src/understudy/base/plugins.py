"""Parts that other installed packages bring, named in an entry-point group of their distribution."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from understudy.base.errors import RecipeError


def plugins(group: str, ours: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """Our own parts by name, then those of other packages.

    Args:
        group: the entry-point group, such as `understudy.terms`.
        what: a part in one word, for messages.

    Raises:
        RecipeError: a package brings a part that cannot be imported, or a name that is taken.
    """
    found = dict(ours)
    for point in metadata.entry_points(group=group):
        try:
            part = point.load()
        except Exception as error:  # somebody else's code: anything can happen
            raise RecipeError(f"{what} '{point.name}' of {point.value} cannot be imported: {error}") from error
        if found.setdefault(point.name, part) is not part:
            raise RecipeError(f"{what} '{point.name}' of {point.value}: there is a {what} of that name already.")
    return found
