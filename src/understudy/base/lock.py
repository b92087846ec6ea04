"""Only one process works in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.base import disk
from understudy.base.errors import ResourceError
from understudy.base.progress import say

DAY = 24 * 3600.0
"""How long to wait, in seconds, for another process that makes what is shared."""


class InUse(ResourceError):
    """Another process works in a folder."""


@contextmanager
def lock(folder: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Only one process works in a folder, whatever container or machine it runs in.

    The kernel holds the lock (flock on the file `.lock`) and drops it when its process ends, in whatever way. So no owner
    has to be recognised as dead: process numbers mean nothing in another container, and a clock nothing on another
    machine. NFS passes the lock on to its server. A lock that consists in a file's existence (filelock's `SoftFileLock`)
    would have to guess, and is not fallen back on. The file stays where it is; the name in it is for messages only.

    A folder that cannot be written, such as a store on a read-only disk, needs no lock: nobody works in it.

    Raises:
        InUse: another process holds it and did not let go within `wait_seconds`.
        ResourceError: the file system has no locks, or something that is no file stands in the place of the lock.
    """
    disk.make_dir(folder)
    if not os.access(folder, os.W_OK):
        yield
        return
    import socket

    from filelock import FileLock

    path = folder / ".lock"
    held = FileLock(path, fallback_to_soft=False)
    if not _take(held, path, 0.0):
        holder = _holder(path)
        if wait_seconds > 0:
            say(f"Waiting for {holder}, which is at work in {folder}.")
        if wait_seconds <= 0 or not _take(held, path, wait_seconds):
            raise InUse(f"{folder} is in use by {holder}. Wait for it to end, or use another folder.")
    try:
        disk.note(path, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with contextlib.suppress(ResourceError):  # the folder may be gone by now, or the disk full
            disk.note(path, "")
        held.release()


def _take(held: object, path: Path, seconds: float) -> bool:
    from filelock import BaseFileLock, Timeout

    assert isinstance(held, BaseFileLock)
    while True:
        disk.make_dir(path.parent)
        try:
            held.acquire(timeout=seconds, poll_interval=0.2)
            return True
        except Timeout:
            return False
        except FileNotFoundError:
            continue  # whoever held it was `clean`, which has just deleted the folder
        except OSError as error:
            raise disk.explain(error, path) from error


def _holder(path: Path) -> str:
    """Who a lock file says holds it. It may be garbage of any size: whoever can write to the folder can write to it."""
    try:
        with open(path, "rb") as handle:
            said = handle.read(300).decode("utf-8", errors="replace")
    except OSError:
        said = ""
    return said if said.startswith("process ") and said.isprintable() else "another process"
