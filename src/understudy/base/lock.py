"""Only one process works in a folder: a lock file that says whose it is, so that the lock of a dead process is no lock."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import ResourceError
from understudy.base.processes import boot_id, running, started

DAY = 24 * 3600.0
"""How long to wait, in seconds, for another process that makes what is shared."""


@contextmanager
def lock(folder: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Only one process works in a folder. The lock of a dead process on this machine is taken over.

    Raises:
        ResourceError: another process holds it and did not let go within `wait_seconds`.
    """
    import socket

    path = folder / ".lock"
    me = {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id(), "started": started(os.getpid())}
    mine = json.dumps(me).encode()
    deadline = time.monotonic() + wait_seconds
    while not disk.create(disk.make_dir(folder) / path.name, mine):  # `clean` may just have deleted it
        try:
            found = path.read_bytes()
            written = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        owner = _owner(found)
        if owner is None and written < 2.0:
            time.sleep(0.05)  # its owner is just writing it
        elif owner is None or (owner["host"] == me["host"] and not _is_alive(owner)):
            disk.take_away(path, found)
        elif time.monotonic() >= deadline:
            raise ResourceError(
                f"{folder} is in use by process {owner['pid']} on {owner['host']}. "
                f"Wait for it to end, or use another folder; if it is gone for sure, delete {path}."
            )
        else:
            time.sleep(0.2)
    try:
        yield
    finally:
        disk.take_away(path, mine)


def take_from_elsewhere(folder: Path) -> None:
    """Take away the lock of a process on another machine, which from here is never known to be dead; the caller knows."""
    import socket

    path = folder / ".lock"
    with contextlib.suppress(FileNotFoundError):
        content = path.read_bytes()
        owner = _owner(content)
        if owner is not None and owner["host"] != socket.gethostname():
            disk.take_away(path, content)


def _owner(content: bytes) -> dict[str, Any] | None:
    """Who a lock says it belongs to; None where it does not say."""
    try:
        owner = json.loads(content)
        return {"pid": int(owner["pid"]), **{name: str(owner[name]) for name in ("host", "boot", "started")}}
    except (ValueError, KeyError, TypeError):
        return None


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that wrote a lock on this machine still runs: same boot, same pid, started when it says."""
    return owner["boot"] == boot_id() and running(owner["pid"]) and started(owner["pid"]) == owner["started"]
