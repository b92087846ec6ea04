"""Proof by repetition: the last steps of a finished fit are taken again, and the fingerprints of the weights compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from understudy.base import disk
from understudy.base.errors import VerifyError
from understudy.steps import read_done, safe
from understudy.train.record import recorded


@dataclass
class Replay:
    """What a lab is to repeat instead of finding it: the last `steps` of the finished fit `name`.

    Everything else of the run is read as it is, and nothing is written into its folder: the repetition takes place in
    `scratch`. `repeated` says how many steps it took.
    """

    name: str
    steps: int
    scratch: Path
    repeated: int = 0

    def require_step(self, run: Path, name: str) -> None:
        """Raise VerifyError if the run has not come to a step: there would be nothing to read."""
        if not (run / "steps" / safe(name) / "step.json").exists():
            raise VerifyError(f"{run} has not reached its step {name} yet. Repeat the run's command until it is finished.")

    def repeat(self, folder: Path, train: Callable[[Path, Path | None], object]) -> None:
        """Let `train(scratch, checkpoint to start from)` repeat the end of the fit in `folder`, and compare the weights.

        Raises:
            VerifyError: they differ, or nothing was there to compare.
        """
        taken = read_done(folder)["steps"]
        start = newest_before(folder, taken - self.steps)
        begun = 0 if start is None else disk.read_json(start / "state.json")["step"]
        train(self.scratch, start)
        before, repeated = _fingerprints(folder), _fingerprints(self.scratch)
        if not repeated:
            raise VerifyError(f"Repeating {self.name} from step {begun} left nothing to compare; ask for more steps.")
        for step, weights in repeated.items():
            if weights != before.get(step):
                raise VerifyError(
                    f"Repeating {self.name} from step {begun} gives other weights at step {step}. Either the run was "
                    "changed, or this machine, its number of threads or its library versions differ from run.json."
                )
        self.repeated = taken - begun


def _fingerprints(folder: Path) -> dict[int, str]:
    """step -> fingerprint of the weights, as the loop recorded them at its evaluations."""
    return {row["step"]: row["weights"] for row in recorded(folder) if "weights" in row}


def newest_before(folder: Path, step: int) -> Path | None:
    """The newest intact checkpoint at or before a step; None means from the beginning."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if path.is_dir() and int(path.name.removeprefix("step-")) <= step and not disk.problems(path):
            return path
    return None
