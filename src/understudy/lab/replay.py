"""Proof by repetition: the last steps of a finished fit are taken again, and the fingerprints of the weights compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from understudy.base import disk
from understudy.base.errors import VerifyError
from understudy.train.record import recorded


@dataclass
class Replay:
    """A finished step whose last `steps` are to be repeated; `repeated` says how many were."""

    name: str
    folder: Path
    steps: int
    repeated: int = 0

    def start(self) -> Path | None:
        """The checkpoint to start from."""
        return newest_before(self.folder, disk.read_json(self.folder / "done.json")["steps"] - self.steps)

    def compare(self, scratch: Path) -> None:
        """Hold the weights of a repetition in `scratch` against the recorded ones.

        Raises:
            VerifyError: they differ, or nothing was there to compare.
        """
        start = self.start()
        begun = 0 if start is None else disk.read_json(start / "state.json")["step"]
        before, repeated = _fingerprints(self.folder), _fingerprints(scratch)
        if not repeated:
            raise VerifyError(f"Repeating {self.name} from step {begun} left nothing to compare; ask for more steps.")
        for step, weights in repeated.items():
            if weights != before.get(step):
                raise VerifyError(
                    f"Repeating {self.name} from step {begun} gives other weights at step {step}. Either the run was "
                    "changed, or this machine, its number of threads or its library versions differ from run.json."
                )
        self.repeated = disk.read_json(self.folder / "done.json")["steps"] - begun


def _fingerprints(folder: Path) -> dict[int, str]:
    """step -> fingerprint of the weights, as the loop recorded them at its evaluations."""
    return {row["step"]: row["weights"] for row in recorded(folder) if "weights" in row}


def newest_before(folder: Path, step: int) -> Path | None:
    """The newest intact checkpoint at or before a step; None means from the beginning."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if path.is_dir() and int(path.name.removeprefix("step-")) <= step and not disk.problems(path):
            return path
    return None
