"""The folder of a run: made for one recipe and its rows, and refused to every other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import RecipeError
from understudy.cache.served import NOT_ANSWER
from understudy.check import require
from understudy.data.types import TaskData
from understudy.evaluate import measure
from understudy.recipe.load import load_recipe, recipe_hash, to_yaml
from understudy.recipe.settings import Recipe
from understudy.steps import difference
from understudy.train.devices import accelerator


def claim(recipe: Recipe, folder: Path, data: TaskData) -> None:
    """Write the recipe into the folder, or check that the run there has the same one, and the same rows.

    Whatever is refused is refused before a file changes: a finished run stays finished.
    """
    config, main = folder / "config.yaml", accelerator().is_main_process
    if config.exists() and (folder / "steps").is_dir():  # before the first step there is nothing to mix up
        before = load_recipe(config)
        _same_training(before, recipe, folder)
        _same_rows(recipe, folder, data)
        if main and recipe_hash(before) != recipe_hash(recipe):
            disk.remove(folder / disk.MANIFEST)
            if before.evaluate.latency != recipe.evaluate.latency:
                disk.remove(folder / "steps" / "measure")
            disk.write_text(config, to_yaml(recipe))
    else:
        require(recipe, out=folder, data=data)  # by every process: where one stops, the others must not wait for it
        if main:
            disk.write_text(config, to_yaml(recipe))
    if main and not (folder / disk.MANIFEST).exists():
        note_state(recipe, folder, "running", data)
    accelerator().wait_for_everyone()


def _same_training(before: Recipe, recipe: Recipe, folder: Path) -> None:
    """Refuse another recipe, but for keys that no trained step depends on."""
    free: Any = {"track": True, "evaluate": {"latency", "examples", "bootstrap"}, "teacher": {"server": NOT_ANSWER}}
    old, new = (one.model_dump(mode="json", exclude=free) for one in (before, recipe))
    if not (changes := difference(old, new)):
        return
    more = ""
    if changes.startswith("train.epochs") and "," not in changes.split(", is ")[1]:
        more = (
            " More epochs cannot be added to these: the learning rate was planned to reach its end after the first ones, so the "
            "same weights would not come out. `train.planned_epochs` plans for more than are run."
        )
    raise RecipeError(f"{folder} holds a run with other settings: {changes}.{more} Use another --out for this one.")


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
        f"{folder} was begun with other rows than its files hold now ({listed}): {'; '.join(counts)}. Restore them, or use "
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
