"""Free the disk of what teachers said. It is computed again where it is needed, so nothing is lost but time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from understudy.base import disk
from understudy.base.home import home
from understudy.base.lock import DAY, InUse, lock


@dataclass(frozen=True)
class Cleaned:
    """Stores of teachers' outputs and their sizes in bytes: what went, what stayed, what another process is filling."""

    deleted: int = 0
    freed: int = 0
    kept: int = 0
    left: int = 0
    in_use: int = 0


def clean(*, unused_for: float = 0.0, dry_run: bool = False) -> Cleaned:
    """Delete the stored outputs of teachers.

    Args:
        unused_for: keep what a run asked for in the last so many days.
        dry_run: only say what would go.
    """
    root = home() / "signals"
    if not root.is_dir():
        return Cleaned()
    if not dry_run:
        disk.sweep(root)
    before = time.time() - unused_for * DAY
    deleted = freed = kept = left = in_use = 0
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        size = disk.size(folder)
        gone = _last_used(folder) <= before
        if gone and not dry_run:
            gone = _delete(folder)
            in_use += not gone
        if gone:
            deleted, freed = deleted + 1, freed + size
        else:
            kept, left = kept + 1, left + size
    return Cleaned(deleted, freed, kept, left, in_use)


def _last_used(folder: Path) -> float:
    """When a run last asked for this store: every one touches its description."""
    described = folder / "about.json"
    return (described if described.exists() else folder).stat().st_mtime


def _delete(folder: Path) -> bool:
    """False where another process is filling it; one that only reads goes on with the files it has open."""
    from understudy.cache.store import Store

    try:
        with lock(folder):
            if Store(folder).claims():
                return False
            disk.remove(folder)
    except InUse:
        return False
    return True


def words(found: Cleaned, *, dry_run: bool) -> str:
    """For people."""
    if not found.deleted and not found.kept:
        return f"There are no stored teacher outputs in {home()}."
    verb = "Would free" if dry_run else "Freed"
    lines = [f"{verb} {_size(found.freed)}: the outputs of teachers in {found.deleted} {_stores(found.deleted)}."]
    if found.kept:
        busy = f", {found.in_use} of them in use" if found.in_use else ""
        lines.append(f"Kept {_size(found.left)} in {found.kept} {_stores(found.kept)}{busy}.")
    lines.append("A run that needs what is gone computes it again. Fine-tuned teachers and runs are never touched.")
    return "\n".join(lines)


def _stores(number: int) -> str:
    return "store" if number == 1 else "stores"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
