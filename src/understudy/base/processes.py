"""Which process is which: a pid is used again sooner or later, a pid with its start time and the boot it belongs to is not."""

from __future__ import annotations

import os
from pathlib import Path


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid)[:1] != ["Z"]  # killed, and its parent has not asked for it yet


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process, as in proc(5) from field 3 on; empty where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def started(pid: int) -> str:
    """The start time of a process: with the pid it names one process, even after the pid is used again."""
    return next(iter(_stat(pid)[19:20]), "")
