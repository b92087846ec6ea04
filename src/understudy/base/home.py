"""Where what runs share is kept: fine-tuned teachers (`steps`), what teachers say (`signals`)."""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

from understudy.base.errors import ResourceError, SafetyError
from understudy.base.progress import say


def home() -> Path:
    """The store: $UNDERSTUDY_HOME, else ~/.cache/understudy.

    Raises:
        SafetyError: everybody on this machine may write to it, and so decide what later runs learn from.
        ResourceError: there is no home folder.
    """
    given = os.environ.get("UNDERSTUDY_HOME")
    try:
        store = Path(given) if given else Path.home() / ".cache" / "understudy"
    except RuntimeError:
        raise ResourceError("There is no home folder to keep shared steps in; set UNDERSTUDY_HOME to a folder.") from None
    _examine(store)
    return store


@cache
def _examine(store: Path) -> None:
    """Refuse a store that everybody may write to; say once that a group may, or that it belongs to somebody else."""
    for folder in (store, store / "steps", store / "signals"):
        try:
            found = folder.stat()
        except OSError:
            continue  # not there yet; or whoever wants to use it will be told
        if found.st_mode & stat.S_IWOTH:
            raise SafetyError(
                f"Everybody on this machine may write to {folder}, and so decide what your runs learn from. "
                f"`chmod -R go-w {store}` keeps it to you; or set UNDERSTUDY_HOME to another folder."
            )
        if found.st_uid not in (0, os.getuid()):
            say(f"{folder} belongs to user {found.st_uid}, who decides what is taken from it.")
        elif found.st_mode & stat.S_IWGRP:
            say(f"The whole group {found.st_gid} may write to {folder} and decides what is taken from it (`chmod g-w`).")
