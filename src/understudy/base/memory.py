"""Memory that was used is used again.

Tensors of a training step come and go. The C library gives large ones back to the system each time, which then clears the
pages of the next ones: on a CPU that is a twelfth of a step, or more of long texts (docs/performance.md). How it behaves can
only be said before a process starts.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
KEEP = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824"
"""Large pages; up to 32 MB (the most that is possible) from memory that is kept; up to 1 GB of it kept while unused."""


def keep_memory() -> None:
    """Start the running program again, with the same arguments and the same process number, keeping memory.

    Does nothing where the C library is not glibc, or was told something already: an empty `GLIBC_TUNABLES` leaves all as it is.
    Child processes inherit it.
    """
    if VARIABLE in os.environ or not sys.executable or not _has_glibc():
        return
    os.environ[VARIABLE] = KEEP
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # then without
        del os.environ[VARIABLE]


def _has_glibc() -> bool:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") is not None
    except (AttributeError, OSError, ValueError):  # not Linux, or another C library
        return False
