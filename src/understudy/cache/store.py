"""A store on disk: parts that are committed one by one, and the claims of those who are computing further ones.

    about.json         what the store is of; touched whenever a run asks for it
    parts/<id>/        some fields of some examples: signals.safetensors, manifest.json
    claims/<id>/       examples and fields that a living process is computing, and its lock

A part appears whole, by one rename. A claim ends with its process, whose lock the kernel drops: what it was at is free
again. Nothing here knows what the numbers mean.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.base import disk
from understudy.base.errors import ResourceError
from understudy.base.lock import DAY, InUse, lock
from understudy.base.progress import say

SIGNALS = "signals.safetensors"
KEYS = "S16"
"""Keys of examples as numpy compares and sorts them: 16 bytes."""


@dataclass(frozen=True)
class Part:
    """Some fields of some examples.

    keys    (n,) of the examples, as they lie there
    sizes   unit -> (n,) rows that a field with that unit has for each of them
    fields  those that are here
    """

    path: Path
    keys: np.ndarray
    sizes: Mapping[str, np.ndarray]
    fields: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Part:
        with _open(path) as file:
            sizes = {name.removeprefix("size/"): _array(file, name) for name in file.keys() if name.startswith("size/")}  # noqa: SIM118
            fields = frozenset(name.split("/")[1] for name in file.keys() if name.startswith("field/"))  # noqa: SIM118
            return cls(path, _array(file, "keys").view(KEYS)[:, 0], sizes, fields)

    def arrays(self, field: str) -> dict[str, np.ndarray]:
        """The arrays of a field by the names that its codec gave them; memory-mapped."""
        prefix = f"field/{field}/"
        with _open(self.path) as file:
            return {name.removeprefix(prefix): _array(file, name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def _open(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path / SIGNALS, "pt")  # as tensors they are mapped, as numpy arrays they would be read


def _array(file: Any, name: str) -> np.ndarray:
    return file.get_tensor(name).numpy()


def _name(keys: np.ndarray, fields: Sequence[str]) -> str:
    """Of the part with these fields of these examples, and of the claim to it: of two claims at a time none is the same."""
    return hashlib.blake2b(keys.tobytes() + " ".join(sorted(fields)).encode(), digest_size=10).hexdigest()


class Store:
    """The parts of one teacher's signals in one arithmetic."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}
        """Those that were seen so far, by name."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this process looks for something to do, and says so: a matter of milliseconds."""
        until = time.monotonic() + DAY
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(lock(self.folder))
                    break
                except InUse:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.02)
            yield

    def new_parts(self) -> list[Part]:
        """Parts that were not there when this was last asked. One that cannot be read is taken away."""
        parts = self.folder / "parts"
        names = sorted(path.name for path in parts.iterdir() if path.name[0] != ".") if parts.is_dir() else []
        for name in self.parts.keys() - set(names):
            del self.parts[name]
        found = []
        for name in names:
            if name not in self.parts:
                try:
                    found.append(Part.read(parts / name))
                except Exception as error:  # whatever a damaged header leads to
                    self.take_away(parts / name, str(error))
                    continue
                self.parts[name] = found[-1]
        return found

    def take_away(self, path: Path, wrong: str) -> None:
        """A damaged part; others may have done so already."""
        say(f"A part of the teacher's stored outputs is damaged and is computed again: {wrong}.")
        self.parts.pop(path.name, None)
        disk.remove(path)

    def write(
        self, keys: np.ndarray, sizes: Mapping[str, np.ndarray], fields: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        """Commit a part; the same examples and fields give it the same name."""
        from safetensors.numpy import save

        arrays = {"keys": np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), 16)}
        arrays |= {f"size/{unit}": np.ascontiguousarray(rows, dtype=np.int32) for unit, rows in sizes.items()}
        arrays |= {f"field/{field}/{name}": array for field, parts in fields.items() for name, array in parts.items()}
        with disk.commit_dir(self.folder / "parts" / _name(keys, list(fields))) as folder:
            disk.write_bytes(folder / SIGNALS, save(arrays))

    # -- claims --------------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, keys: np.ndarray, fields: Sequence[str]) -> Iterator[None]:
        """While this process computes these fields of these examples. Begin it while the store is `locked`."""
        folder = self.folder / "claims" / _name(keys, fields)
        with lock(folder):
            disk.write_bytes(folder / "keys", keys.tobytes())
            disk.write_json(folder / "fields.json", list(fields))
            try:
                yield
            finally:
                with suppress(ResourceError):  # without its lock it is nobody's
                    disk.remove(folder)

    def claims(self) -> list[tuple[np.ndarray, list[str]]]:
        """What living processes are computing: keys and fields. Ask while the store is `locked`."""
        folder = self.folder / "claims"
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                with lock(path):  # nobody else has it: its process is dead, or has just finished
                    disk.remove(path)
            except InUse:
                try:
                    found.append((np.frombuffer((path / "keys").read_bytes(), KEYS), disk.read_json(path / "fields.json")))
                except FileNotFoundError:  # finished meanwhile
                    continue
        return found
