"""A step on disk: opened under a key, sealed once, read ever after."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.circumstances import circumstances, other_circumstances
from understudy.base.errors import RecipeError
from understudy.base.home import home
from understudy.base.lock import DAY, lock
from understudy.base.progress import say
from understudy.steps.names import difference, key_of, read_mark, safe, step_folder
from understudy.train.devices import accelerator, any_process

DONE = "done.json"
"""Its presence says that a step is finished."""
USED = "used.json"
"""In the run: the digest of what it took from a shared step."""


def open_step(run: Path, name: str, about: dict[str, Any], *, shared: bool = False) -> Step:
    """Open a run's step, new or begun or finished. All processes must call this.

    A finished step is checked to be as it was left; a damaged one counts as unfinished. Says when a shared one was made
    under circumstances that change the last bits.

    Args:
        about: JSON: everything that decides what the step results in; its digest is the key.
        shared: keep the content where other runs find it, by its key.

    Raises:
        RecipeError: the run has this step with other settings; the message says which.
        VerifyError: the run's record of the step is damaged.
    """
    # As it will be read back, where tuples are lists: a continued run must compare like with like.
    about = json.loads(json.dumps(about))
    key = key_of(about)
    own = run / "steps" / safe(name)
    mark = own / "step.json"
    main = accelerator().is_main_process
    if main and not mark.exists():
        disk.write_json(mark, {"name": name, "key": key, "shared": shared, "about": about})
    accelerator().wait_for_everyone()
    before = read_mark(mark)
    if before["key"] != key:
        raise RecipeError(
            f"{own} holds this step with different settings: {difference(before['about'], about)}. "
            "Use another --out, or delete that folder to do the step again."
        )
    step = Step(name, home() / "steps" / key if shared else own, own)
    if main:
        if shared and not (step.folder / "step.json").exists():
            disk.write_json(step.folder / "step.json", {"name": name, "key": key, "about": about})
        step.reopen_if_damaged()
    if step.finished() and shared and (made := other_circumstances(read_done(step.folder).get("made_with"))):
        say(f"{name}: made by another run with {made}. Made here it could differ in the last bits.")
    return step


def tensors_of(folder: Path) -> str:
    """Digest of the tensors in a sealed step, by the checksums of its manifest: the same work gives the same digest."""
    files = disk.read_json(folder / disk.MANIFEST)["files"]
    return key_of({name: entry["xxh3"] for name, entry in files.items() if not name.endswith((".json", ".jsonl"))})


def exchanged(run: Path, name: str) -> str:
    """What is wrong where the store holds other tensors under a step's key than those that the run took; else empty."""
    used, folder = run / "steps" / safe(name) / USED, step_folder(run, name)
    if not used.exists() or not (folder / disk.MANIFEST).exists() or disk.read_json(used)["tensors"] == tensors_of(folder):
        return ""
    return f"{folder} holds other tensors than those that this run took from it"


def read_done(folder: Path) -> dict[str, Any]:
    """What a finished step says about itself."""
    return disk.read_json(folder / DONE)


def kept_by(run: Path) -> dict[str, Any]:
    """step -> what was decided there once and for all (`Lab.keep`)."""
    done = {mark.parent.name: disk.read_json(mark) for mark in sorted(run.glob(f"steps/*/{DONE}"))}
    return {name: content["value"] for name, content in done.items() if "value" in content}


@dataclass(frozen=True)
class Step:
    """An open step: the folder with its content, which is its own place in the run unless runs share it."""

    name: str
    folder: Path
    own: Path

    def finished(self) -> bool:
        """Whether it is done, as the main process sees it. All processes must ask."""
        return any_process(accelerator().is_main_process and (self.folder / DONE).exists())

    def once(
        self, work: Callable[[Path], dict[str, Any] | None], *, without: Sequence[str] = (), wait: bool = True
    ) -> dict[str, Any]:
        """Do the step unless it is finished; return what it says about itself. All processes must call this.

        Args:
            work: fills the folder, in all processes; what it returns in the main one is written down as the step is
                sealed, and from then on a changed bit is found.
            without: beginnings of file names that prove the step and are no part of it, or have checksums of their own.
            wait: for another process that is at this step; otherwise ResourceError says whose it is.
        """
        main = accelerator().is_main_process
        if not self.finished():
            with lock(self.folder, wait_seconds=DAY if wait else 0) if main else nullcontext():
                # Another process may have finished it while this one waited for the lock.
                if not self.finished():
                    content = work(self.folder)
                    if main:
                        about = {**(content or {}), "made_with": circumstances()}
                        disk.seal(self.folder, DONE, about, without=tuple(without))
                    accelerator().wait_for_everyone()
        if main and self.folder != self.own:
            self._note_used()
        return read_done(self.folder)

    def _note_used(self) -> None:
        """Write into the run what it takes from the store: the store's own checksums could be exchanged with the content."""
        path, tensors = self.own / USED, tensors_of(self.folder)
        if not path.exists():
            disk.write_json(path, {"tensors": tensors})
        elif disk.read_json(path)["tensors"] != tensors:
            say(f"{self.name}: the shared step no longer holds what this run took from it (`understudy verify` says more).")

    def reopen_if_damaged(self) -> None:
        """A finished step that is not as it was left becomes an unfinished one."""
        if not (self.folder / disk.MANIFEST).exists():
            return
        wrong = disk.problems(self.folder) if (self.folder / DONE).exists() else []
        if wrong:
            say(f"The finished step {self.name} is damaged ({wrong[0]}); it is done again.")
            disk.remove(self.folder / DONE)
        if not (self.folder / DONE).exists():
            disk.remove(self.folder / disk.MANIFEST)
