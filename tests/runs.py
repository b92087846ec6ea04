"""Whole runs of the toy world through the command line, in processes that can be killed, starved and compared."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (minus the signal's number when killed), what it said, its processor seconds."""

    code: int
    out: str
    err: str
    cpu: float

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.err + self.out


class Running:
    """A command under way."""

    def __init__(self, launcher: Launcher, job: dict[str, Any]) -> None:
        self._launcher, self._job = launcher, job
        self.pid: int = launcher._ask(job)["pid"]

    def wait(self) -> Ended:
        answer = self._launcher._answer()
        out, err = (Path(self._job[name]).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        return Ended(answer["code"], out, err, answer["cpu"])


class Launcher:
    """A process with everything imported that forks for each command (see launcher.py). One command at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "launcher.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert self._answer() == {"ready": True}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def start(self, *arguments: object, home: Path, cwd: Path | None = None, env: dict[str, str] | None = None,
              **options: Any) -> Running:  # fmt: skip
        """Options: `fault` (see launcher.install_fault), `kill_after_cpu` seconds, `file_bytes` (RLIMIT_FSIZE), `bug`
        ("module:name" of a function that is to fail as none of ours should)."""
        job = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd or self._folder),
            "env": {"UNDERSTUDY_HOME": str(home), **(env or {})},
            "stdout": str(self._folder / "stdout.txt"),
            "stderr": str(self._folder / "stderr.txt"),
            **options,
        }
        return Running(self, job)

    def run(self, *arguments: object, home: Path, **options: Any) -> Ended:
        return self.start(*arguments, home=home, **options).wait()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@contextmanager
def launched(folder: Path) -> Iterator[Launcher]:
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.close()


def recipe(checkpoint: Path, data: Path) -> dict[str, Any]:
    """Fine-tune a two-layer teacher, keep one layer, distil with AutoMM: every kind of durable step in two seconds."""
    return {
        "task": {
            "name": "custom",
            "kind": "classification",
            "files": {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")},
            "columns": {"text": "body", "label": "mood"},
            "max_length": 32,
        },
        "teacher": {"model": str(checkpoint), "finetune": {"epochs": 2}},
        "student": {"num_layers": 1},
        "method": {"name": "automm"},
        "train": {"epochs": 3, "batch_size": 16, "lr": 1e-2, "precision": "fp32", "checkpoint_steps": 5},
        "evaluate": {"bootstrap": 20, "latency": {"repeats": 3, "length": 16}},
    }


def digest(folder: Path) -> str:
    """One digest over the names and bytes of all files of a folder; what a lock says of its holder is no part of it."""
    seen = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        seen.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        seen.update(path.read_bytes())
    return seen.hexdigest()


def outcome(run: Path, home: Path) -> dict[str, str]:
    """Everything of a finished run that must not depend on how often it was interrupted."""
    found = {"student/": digest(run / "student")}
    for mark in sorted(run.glob("steps/*/step.json")):
        about = json.loads(mark.read_text())
        folder = home / "steps" / about["key"] if about["shared"] else mark.parent
        if (folder / "metrics.jsonl").exists():
            found[mark.parent.name] = hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest()
    return found


def killed(
    train: Callable[..., Ended], come_to: Callable[[Path], Any], expected: Any, folder: Path, *,
    seconds: tuple[float, float], kills: int, seed: int,
) -> None:  # fmt: skip
    """Kill a run by SIGKILL after random processor times, so many times; whenever it gets through, and at last when it is
    left in peace, it must have come to what is expected.

    Args:
        come_to: `folder`, which holds `run` and `home`, -> what the run there came to.
        seconds: the least and the most processor time before a kill.
    """
    draw = random.Random(seed)
    while kills:
        ended = train(kill_after_cpu=draw.uniform(*seconds))
        assert ended.code in (0, -signal.SIGKILL), ended.err
        kills -= ended.code != 0
        if ended.code == 0:
            assert come_to(folder) == expected
            shutil.rmtree(folder / "run")
            shutil.rmtree(folder / "home")
    ended = train()
    assert ended.code == 0, ended.err
    assert come_to(folder) == expected


def installed(package: str, target: Path) -> Path:
    """A folder with one of `tests/packages` in it, put there by pip as somebody else's would be."""
    source = Path(__file__).parent / "packages" / package
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, source], check=True, capture_output=True, cwd=target)
    return target
