"""`understudy clean`: what teachers said goes, whoever reads it goes on, and what somebody is filling stays."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fits
import numpy as np
import pytest
import torch

from understudy.base import disk
from understudy.base.errors import ResourceError
from understudy.base.home import home
from understudy.base.lock import DAY, lock
from understudy.cache import CachedTeacher, SignalCache
from understudy.clean import Cleaned, clean, words
from understudy.models.model import digest
from understudy.models.needs import Needs

NEEDS = Needs(logits=True, hidden=(1,))


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    (home() / "steps" / "teacher").mkdir(parents=True)
    return home()


def store(seed: int = 0) -> SignalCache:
    model = fits.model(seed=seed)
    cache = SignalCache(home() / "signals", model=model, digest=digest(model.net), encoded=fits.encoded(), precision="fp32")
    cache.fill(NEEDS, lambda n: None)
    return cache


def size(cache: SignalCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def test_nothing_is_there():
    assert clean() == Cleaned()
    assert "no stored teacher outputs" in words(clean(), dry_run=False)


def test_all_goes_but_what_was_trained_and_is_computed_again():
    one, other = store(), store(1)
    total = size(one) + size(other)
    assert clean(dry_run=True) == Cleaned(deleted=2, freed=total) and one.folder.is_dir()
    found = clean()
    assert found == Cleaned(deleted=2, freed=total)
    assert "outputs of teachers in 2 stores" in words(found, dry_run=False)
    assert list((home() / "signals").iterdir()) == [] and (home() / "steps" / "teacher").is_dir()
    asked: list[int] = []
    one.fill(NEEDS, asked.append)
    assert sum(asked) == len(one.encoded)


def test_who_reads_goes_on():
    cache = store()
    kept = CachedTeacher(cache, NEEDS)
    before = kept.signals(np.arange(5)).logits
    clean()
    assert torch.equal(kept.signals(np.arange(5)).logits, before)


def test_what_was_used_lately_stays():
    old, used = store(), store(1)
    for cache in (old, used):
        os.utime(cache.folder / "about.json", (time.time() - 9 * DAY,) * 2)
    used.fill(NEEDS, lambda n: pytest.fail("it is there"))  # asking is using
    assert clean(unused_for=10) == Cleaned(kept=2, left=size(old) + size(used))
    found = clean(unused_for=7)
    assert (found.deleted, found.kept) == (1, 1) and used.folder.is_dir() and not old.folder.exists()


def test_what_is_being_filled_stays():
    cache = store()
    with lock(cache.folder):
        found = clean()
    assert (found.deleted, found.kept, found.in_use) == (0, 1, 1) and "1 of them in use" in words(found, dry_run=False)
    assert clean().deleted == 1


def test_what_somebody_is_computing_for_stays():
    """Not only while they look for something to do: also while they do it."""
    cache = store()
    with cache.store.claim(cache.keys[:3], ["logits"]):
        found = clean()
    assert (found.deleted, found.kept, found.in_use) == (0, 1, 1)
    assert clean().deleted == 1


def test_leftovers_of_a_killed_clean_go_too():
    store()
    doomed = home() / "signals" / f".tmp-{2**22 + 1}-gone-abc"  # no process has that number
    doomed.mkdir()
    assert clean().deleted == 1 and not doomed.exists()


def test_what_cannot_be_deleted_is_said(monkeypatch):
    cache = store()

    def fault(operation: str, path: Path) -> None:
        if operation == "before-remove" and path == cache.folder:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk, "fault", fault)
    with pytest.raises(ResourceError, match="cannot be written"):
        clean()
    monkeypatch.setattr(disk, "fault", None)
    assert cache.folder.is_dir() and clean().deleted == 1


def test_who_waits_for_the_lock_of_a_clean_gets_the_folder_anew(tmp_path: Path):
    folder = tmp_path / "store"
    with ThreadPoolExecutor() as other:
        with lock(folder):
            waiting = other.submit(_work_in, folder)
            time.sleep(0.5)
            disk.remove(folder)
        assert waiting.result(timeout=60)


def _work_in(folder: Path) -> bool:
    with lock(folder, wait_seconds=60):
        return (folder / ".lock").exists()
