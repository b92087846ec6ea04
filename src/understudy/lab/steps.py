"""Steps on disk: opened under a key, finished once, loaded ever after."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.circumstances import circumstances, other_circumstances
from understudy.base.errors import RecipeError, VerifyError
from understudy.base.home import home
from understudy.base.progress import say
from understudy.data.types import Task
from understudy.lab.keys import difference, key_of, read_mark, safe
from understudy.models.load import load_model
from understudy.models.model import Model
from understudy.models.save import save_model
from understudy.models.scale import to_label_units, to_standard_units
from understudy.train.checkpoint import BEST, PREFIX
from understudy.train.devices import accelerator, main_says
from understudy.train.loop import FitResult

DONE = "done.json"
"""Its presence says that a step is finished."""


def open_step(run: Path, name: str, about: dict[str, Any], *, shared: bool) -> tuple[Path, bool]:
    """The folder of a step, and whether it is finished.

    Checks that the name is not taken by another key, and that a finished step is as it was left: a damaged one is done
    again. Says when a shared one was made under circumstances that change the last bits.

    Raises:
        RecipeError: the run has this step with other settings; the message says which.
        VerifyError: the run's record of the step is damaged.
    """
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
            f"{own} holds this step with other settings: {difference(before['about'], about)}. "
            "Use another --out, or delete that folder to do the step again."
        )
    folder = home() / "steps" / key if shared else own
    if main:
        if shared and not (folder / "step.json").exists():
            disk.write_json(folder / "step.json", {"name": name, "key": key, "about": about})
        _reopen_if_damaged(name, folder)
    finished = is_finished(folder)
    if finished and shared and (made := other_circumstances(read_done(folder).get("made_with"))):
        say(f"{name}: made by another run with {made}. Made here it could differ in the last bits.")
    return folder, finished


def _reopen_if_damaged(name: str, folder: Path) -> None:
    """A finished step that is not as it was left becomes an unfinished one."""
    if not (folder / disk.MANIFEST).exists():
        return
    wrong = disk.problems(folder) if (folder / DONE).exists() else []
    if wrong:
        say(f"The finished step {name} is damaged ({wrong[0]}); it is done again.")
        disk.remove(folder / DONE)
    if not (folder / DONE).exists():
        disk.remove(folder / disk.MANIFEST)


def is_finished(folder: Path) -> bool:
    """Whether a step is done, as the main process sees it. All processes must ask."""
    return main_says((folder / DONE).exists())


def read_done(folder: Path) -> dict[str, Any]:
    """What a finished step says about itself."""
    return disk.read_json(folder / DONE)


def finish(folder: Path, content: dict[str, Any]) -> None:
    """Say that a step is done; from here on a changed bit in it is found. Its checkpoints prove it and are not part of it:
    they have checksums of their own."""
    disk.seal(folder, DONE, {**content, "made_with": circumstances()}, without=(PREFIX, f"{BEST}/"))


def finish_fit(
    folder: Path,
    models: Mapping[str, Model],
    outcome: FitResult,
    *,
    notes: Sequence[str],
    scale: tuple[float, float],
    shared: bool,
) -> None:
    """Commit what was trained, by the names of folders; only then is the step done. A run keeps its last checkpoints, for
    `verify --replay`."""
    for part, model in models.items():
        _in_label_units(model, scale, lambda model=model, part=part: save_model(model, folder / part, card=""))
    finish(folder, {**dataclasses.asdict(outcome), "notes": list(notes)})
    disk.remove(folder / BEST)
    for old in folder.glob(f"{PREFIX}*") if shared else ():
        disk.remove(old)


def load_fit(name: str, folder: Path, task: Task, *, scale: tuple[float, float], part: str = "model") -> Model:
    """The model of a finished fit, or one of the several it left.

    Raises:
        VerifyError: a bit of it has changed.
    """
    wrong = disk.problems(folder / part)
    if wrong:
        raise VerifyError(f"The finished step {name} is damaged: {wrong[0]}. Delete {folder} and repeat the command.")
    model = load_model(str(folder / part), task=task)
    if task.kind == "regression":
        to_standard_units(model.net, *scale)
    model.net.to(accelerator().device)
    return model


def _in_label_units(model: Model, scale: tuple[float, float], save: Callable[[], Any]) -> None:
    if model.kind != "regression":
        save()
        return
    to_label_units(model.net, *scale)
    save()
    to_standard_units(model.net, *scale)
