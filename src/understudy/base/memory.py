"""Memory that was used once is kept for the next tensors.

The tensors of a training step come and go. By default glibc returns large blocks to the kernel each time they are freed,
and the kernel clears the pages of the next ones: on a CPU about 8 % of a training step (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h


def keep_memory() -> bool:
    """Tell glibc to keep freed memory for later tensors; True if it agreed.

    Blocks of up to 32 MB (the most glibc allows) come from its heap, and up to 1 GB of unused heap is kept. Nothing is
    changed with another C library, or where `GLIBC_TUNABLES` is set: whoever started the process has decided already.
    """
    if "GLIBC_TUNABLES" in os.environ:
        return False
    with contextlib.suppress(AttributeError, OSError, TypeError, ValueError):
        if os.confstr("CS_GNU_LIBC_VERSION") is not None:
            mallopt = ctypes.CDLL(None).mallopt
            return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20) and mallopt(_M_TRIM_THRESHOLD, 1 << 30))
    return False
