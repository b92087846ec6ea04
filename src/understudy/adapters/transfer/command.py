"""`understudy transfer`: an adapter that exists already, for a model that exists already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.adapters.files import read_adapter, write_adapter
from understudy.adapters.inject import inject, remove
from understudy.adapters.transfer import plan, transfer
from understudy.base import disk
from understudy.base.errors import RecipeError
from understudy.base.progress import say
from understudy.data.rows import read_rows
from understudy.data.types import Task
from understudy.models.load import load_model
from understudy.models.model import Model
from understudy.recipe.transfer import TransferSettings

REPORT = "transfer.json"


def transfer_folder(
    adapter: Path, *, teacher: str, student: str, out: Path, texts: Path | None, settings: TransferSettings, seed: int = 0,
    max_length: int = 128, layout: str = "auto",
) -> dict[str, Any]:
    """Rewrite the adapter in a folder for another model; returns what `transfer.json` says.

    Args:
        teacher: the model the adapter was trained on.
        student: the model it is for.
        texts: rows whose texts both models read where dimensions are aligned (a file of any kind that `predict` reads).

    Raises:
        RecipeError, DataError: see `plan`, `transfer` and `read_adapter`; also `out` is there already.
    """
    if out.exists():
        raise RecipeError(f"{out} is there already; name another --out.")
    source, target = (_open(ref, key) for ref, key in ((teacher, "--from"), (student, "--to")))
    read = read_adapter(adapter, source.net)
    how = plan(source.net.config, target.net.config, read.config, settings)
    for line in how.lines():
        say(line)
    if how.align == "lsa" and texts is None:
        raise RecipeError("These models differ in width, family or vocabulary, so texts are needed: name a file with --texts.")
    rows = [] if texts is None else read_rows(texts, kind="text")
    found = transfer(source, target, read, how, rows=rows, task=Task("texts", "text"), seed=seed, max_length=max_length)
    write_adapter(out, found.adapter, target.net, layout=layout, base=student)
    check = read_adapter(out, target.net)
    inject(target.net, check.config, name="check")  # what was written is an adapter of this model
    remove(target.net, "check")
    disk.write_json(out / REPORT, found.report)
    return found.report


def _open(ref: str, key: str) -> Model:
    """A model with its own head where it has one, for whatever task; else bare."""
    try:
        return load_model(ref, key=key)
    except RecipeError:
        return load_model(ref, key=key, task=Task("texts", "text"))
