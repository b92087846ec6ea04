"""What names a step: the digest of everything that went into it, and the folder that follows from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import VerifyError
from understudy.base.home import home


def key_of(about: dict[str, Any]) -> str:
    """32 hex digits for a JSON description of a step."""
    return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()


def safe(name: str) -> str:
    """A step or test name as a folder name that cannot leave its parent."""
    cleaned = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    return cleaned or "step"


def step_folder(run: Path, name: str) -> Path:
    """Where the content of a run's step is: in the run, or in the shared store."""
    own = run / "steps" / safe(name)
    mark = read_mark(own / "step.json")
    return home() / "steps" / mark["key"] if mark["shared"] else own


def read_mark(path: Path) -> dict[str, Any]:
    """The step.json of a run's step: name, key, shared, about.

    Raises:
        VerifyError: it is not what was written; the key is the digest of the rest.
    """
    mark = disk.read_json(path)
    try:
        intact = key_of(mark["about"]) == mark["key"] and isinstance(mark["shared"], bool)
    except (KeyError, TypeError):
        intact = False
    if not intact:
        raise VerifyError(f"{path} is damaged: it is not what was written. Delete it and repeat the command.")
    return mark


def difference(before: Any, now: Any, path: str = "") -> str:
    """The first few places where two settings differ, in words.

    >>> difference({"a": {"lr": 1}, "b": 2}, {"a": {"lr": 3}, "b": 2})
    'a.lr was 1, is 3'
    """
    found: list[str] = []

    def short(value: Any) -> str:
        text = json.dumps(value)
        return text if len(text) <= 60 else text[:57] + "…"

    def walk(old: Any, new: Any, where: str) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in sorted({*old, *new}):
                walk(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
        elif old != new:
            found.append(f"{where} was {short(old)}, is {short(new)}")

    walk(before, now, path)
    more = f", and {len(found) - 4} more" if len(found) > 4 else ""
    return ", ".join(found[:4]) + more
