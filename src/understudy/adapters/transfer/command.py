"""`understudy transfer`: an adapter that exists already, for a model that exists already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.adapters.files import head_task, read_adapter, require_layout, write_adapter
from understudy.adapters.inject import put, remove
from understudy.adapters.transfer import plan, told, transfer
from understudy.base.errors import RecipeError
from understudy.base.progress import say
from understudy.data.custom import read_rows
from understudy.data.types import Task
from understudy.kinds import kind
from understudy.models.load import load_model
from understudy.models.model import Model
from understudy.recipe.load import task_from
from understudy.recipe.settings import ColumnSettings
from understudy.recipe.transfer import TransferSettings

_CHECKED = "moved"
"""The name under which what was made is put into the model it is for, to see that it fits."""


def transfer_folder(
    adapter: Path, *, teacher: str, student: str, out: Path, texts: Path | None, settings: TransferSettings,
    text: str | None = None, seed: int = 0, max_length: int = 128, layout: str = "auto",
) -> dict[str, Any]:
    """Rewrite the adapter in a folder for another model; returns what `transfer.json` says.

    Args:
        teacher: the model the adapter was trained on.
        student: the model it is for.
        texts: rows whose texts both models read where dimensions are aligned (a file of any kind that `predict` reads).
        text: the column of a table that holds them.

    Raises:
        RecipeError, DataError: see `plan`, `transfer` and `read_adapter`; also `out` is there already.
    """
    if out.exists():
        raise RecipeError(f"{out} already exists; name another --out.")
    task = texts_task = Task("texts", kind("text"))
    if settings.parity or settings.transfer_head != "never":
        named, labels = head_task(adapter) or ("text", ())
        task = Task("texts", kind(named), labels=labels)
    source, target = (_open(ref, key, task) for ref, key in ((teacher, "--from"), (student, "--to")))
    read = read_adapter(adapter, source.net)
    how = plan(source.net.config, target.net.config, read.config, settings)
    for line in (*how.lines(), *how.rules()):
        say(line)
    require_layout(how.module, target.net, layout)
    if how.align == "lsa" and texts is None:
        raise RecipeError("These models differ in width, family or vocabulary, so texts are needed: name a file with --texts.")
    rows = []
    if texts is not None:
        layout_of = task_from({"name": "custom", "kind": "text", "files": {"train": str(texts)}}, source="--texts")
        rows, _ = read_rows(layout_of, texts_task, str(texts), columns=[ColumnSettings(text=text)])
    found = transfer(source, target, read, how, rows=rows, task=texts_task, seed=seed, max_length=max_length)
    for line in (*told(found.report), *put(target.net, found.adapter, name=_CHECKED)):  # strictly: it fits, or is not written
        say(line)
    remove(target.net, _CHECKED)
    write_adapter(out, found.adapter, target.net, layout=layout, base=student, report=found.report)
    return found.report


def _open(ref: str, key: str, task: Task) -> Model:
    """A model with its own head where it has one, for whatever task; else with a fresh one for `task` (bare for texts)."""
    try:
        own = load_model(ref, key=key)
    except RecipeError:
        own = None
    if own is None or (own.kind.on_vocabulary and not task.kind.on_vocabulary):
        return load_model(ref, key=key, task=task)
    return own
