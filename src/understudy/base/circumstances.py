"""What changes the last bits of a result although no setting of ours does: versions and threads."""

from __future__ import annotations

from typing import Any


def circumstances() -> dict[str, Any]:
    """Of this process, as JSON."""
    import torch

    return {"torch": torch.__version__.partition("+")[0], "threads": torch.get_num_threads()}


def other_circumstances(before: dict[str, Any] | None) -> str:
    """How those of what was made before differ from ours, in words; empty if they do not, or are not known.

    >>> other_circumstances(circumstances() | {"threads": 64}).startswith("threads 64, here ")
    True
    """
    now = circumstances()
    differ = [name for name in now if before and before.get(name, now[name]) != now[name]]
    return "; ".join(f"{name} {before[name]}, here {now[name]}" for name in differ) if before else ""
