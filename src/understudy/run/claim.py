"""The folder of a run: made for one recipe and its rows, and refused to every other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import RecipeError
from understudy.base.progress import say
from understudy.cache.served import NOT_ANSWER
from understudy.check import look
from understudy.data.types import TaskData
from understudy.evaluate import measure
from understudy.recipe.load import load_recipe, recipe_hash, to_yaml
from understudy.recipe.method import Facts
from understudy.recipe.settings import Recipe
from understudy.steps import DONE, difference
from understudy.train.devices import accelerator


def claim(recipe: Recipe, folder: Path, data: TaskData) -> None:
    """Write the recipe into the folder, or check that the run there has the same one, and the same rows.

    Whatever is refused is refused before a file changes: a finished run stays finished.
    """
    config, main = folder / "config.yaml", accelerator().is_main_process
    if config.exists() and (folder / "steps").is_dir():  # before the first step there is nothing to mix up
        before = load_recipe(config)
        longer = _same_training(before, recipe, folder)
        _same_rows(recipe, folder, data)
        if longer and main:
            _reopen(folder)
            say(f"{recipe.train.epochs} epochs in place of {before.train.epochs}: the run goes on from where it ended.")
        if main and recipe_hash(before) != recipe_hash(recipe):
            disk.remove(folder / disk.MANIFEST)
            if before.evaluate.latency != recipe.evaluate.latency:
                disk.remove(folder / "steps" / "measure")
            disk.write_text(config, to_yaml(recipe))
    else:
        look(recipe, out=folder, data=data, strict=True)  # by every process: where one stops, the others must not wait for it
        if main:
            disk.write_text(config, to_yaml(recipe))
    if main and not (folder / disk.MANIFEST).exists():
        note_state(recipe, folder, "running", data)
    accelerator().wait_for_everyone()


def _same_training(before: Recipe, recipe: Recipe, folder: Path) -> bool:
    """Refuse another recipe, but for keys that no trained step depends on. Returns whether more epochs are to be added to those
    that were run."""
    free: Any = {"track": True, "evaluate": {"latency", "examples", "bootstrap"}, "teacher": {"server": NOT_ANSWER}}
    old, new = (one.model_dump(mode="json", exclude=free) for one in (before, recipe))
    if not (changes := difference(old, new)):
        return False
    more = ""
    if recipe.train.epochs > before.train.epochs:
        old["train"]["epochs"] = new["train"]["epochs"]
        others = difference(old, new)
        why = f"more than that changes ({others})" if others else _not_longer(before, recipe, folder)
        if why is None:
            return True
        more = (
            f" More epochs cannot be added to these as if they had been asked for at once: {why}. To train its student further, "
            f"on a course of its own: student={folder / 'student'} in another folder."
        )
    raise RecipeError(f"{folder} holds a run with different settings: {changes}.{more} Use another --out for this one.")


def _not_longer(before: Recipe, recipe: Recipe, folder: Path) -> str | None:
    """Why more epochs would not come out as if they had been asked for at once; None where they do, to the last bit."""
    stages = recipe.how.stages(recipe.method, recipe, Facts(1.0, 1, 1))
    if recipe.student.searched or len(stages) != 1:
        return f"method {recipe.method.name} trains more than once, each time by what came out before"
    if not before.train.open_ended:
        return (
            "the learning rate came to its end with the last of them (`train.planned_epochs` plans for more than are run; "
            "`schedule: constant` with `warmup: 0` has no end)"
        )
    if recipe.train.time_limit is not None:
        return "train.time_limit ended it, and not its epochs"
    if changing := [name for name, term in recipe.objective.terms().items() if _has_schedule(term.model_dump())]:
        return f"{', '.join(changing)} of the objective follow the share of training that is done"
    done = folder / "steps" / "student" / DONE
    if done.exists() and (taken := disk.read_json(done))["steps"] < taken["planned"]:
        return f"it had stopped at step {taken['steps']} of {taken['planned']} already (train.patience)"
    return None


def _has_schedule(value: Any) -> bool:
    return isinstance(value, dict) and ("start" in value or any(map(_has_schedule, value.values())))


def _reopen(folder: Path) -> None:
    """Take off what depends on how long the student was trained. Its checkpoints stay, and the same command again finishes what
    was interrupted here."""
    disk.remove(folder / disk.MANIFEST)
    steps = folder / "steps"
    for name in ("baseline", "thresholds", "measure"):
        disk.remove(steps / name)
    for made in (*steps.glob("predict-student-*"), *steps.glob("predict-baseline-*")):
        disk.remove(made)
    for part in (DONE, disk.MANIFEST, "model", "step.json"):
        disk.remove(steps / "student" / part)
    disk.remove(folder / "student")


def _same_rows(recipe: Recipe, folder: Path, data: TaskData) -> None:
    """Refuse other rows than those the run in the folder was begun with."""
    noted = disk.read_json(folder / "run.json").get("data") if (folder / "run.json").exists() else None
    now = data_facts(data)
    if not noted or noted["digest"] == now["digest"]:
        return
    task = recipe.task
    files = task.files.model_dump(exclude_none=True) if task.files else {"path": task.path or task.name}
    counts = [
        f"{name} had {old:,} rows and has {new:,}" if old != new else f"{name} has {new:,} as before"
        for name, old, new in [
            *((part, noted[part], now[part]) for part in ("train", "select")),
            *((test, noted["tests"].get(test, {"rows": 0})["rows"], one["rows"]) for test, one in now["tests"].items()),
        ]
    ]
    listed = ", ".join(str(name) for name in files.values())
    raise RecipeError(
        f"{folder} was started with different rows than its files hold now ({listed}): {'; '.join(counts)}. Restore them, or use "
        "another --out for these."
    )


def note_state(recipe: Recipe, folder: Path, state: str, data: TaskData) -> None:
    about = {
        "recipe": recipe_hash(recipe),
        "seed": recipe.seed,
        "state": state,
        "versions": measure.versions(),
        "machine": measure.machine(),
        "ranks": accelerator().num_processes,
        "data": data_facts(data),
    }
    disk.write_json(folder / "run.json", about)


def data_facts(data: TaskData) -> dict[str, Any]:
    """How many rows a run learns from, and which it is reported on, for run.json."""
    digests = {name: replace(data, train=[], select=[], tests={name: rows}).digest() for name, rows in data.tests.items()}
    return {"digest": data.digest(), "train": len(data.train), "select": len(data.select), "tests": {
        name: {"rows": len(rows), "digest": digests[name]} for name, rows in data.tests.items()
    }}  # fmt: skip
