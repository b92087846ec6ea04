"""Runs in two processes that train together, each told who it is by the variables that torchrun sets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import runs


class Pair:
    """Two launchers (see runs.Launcher), one for each process: any number of runs for the price of two imports."""

    def __init__(self, launchers: list[runs.Launcher]) -> None:
        self._launchers = launchers

    def run(self, *arguments: object, home: Path, cwd: Path | None = None) -> list[runs.Ended]:
        """How a command ended in either process."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        running = [
            launcher.start(*arguments, home=home, cwd=cwd, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, launcher in enumerate(self._launchers)
        ]
        return [process.wait() for process in running]


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        folders = [folder / str(rank) for rank in range(2)]
        for one in folders:
            one.mkdir(parents=True)
        yield Pair([stack.enter_context(runs.launched(one)) for one in folders])


def assert_close(one: dict[str, np.ndarray], other: dict[str, np.ndarray], near: float = 1e-5) -> None:
    """The weights of two students, or what they say, are the same but for rounding."""
    assert set(one) == set(other)
    for name, tensor in one.items():
        np.testing.assert_allclose(other[name], tensor, rtol=near, atol=near, err_msg=name)


def curves(run: Path, home: Path) -> dict[str, list[float]]:
    """Loss and length of the gradient in every optimiser step, for all that a run trained."""
    found = {}
    for mark in sorted(run.glob("steps/*/step.json")):
        about = json.loads(mark.read_text())
        path = (home / "steps" / about["key"] if about["shared"] else mark.parent) / "metrics.jsonl"
        if path.exists():
            rows = map(json.loads, path.read_text().splitlines())
            found[mark.parent.name] = [row[key] for row in rows if "loss" in row for key in ("loss", "grad_norm")]
    return found
