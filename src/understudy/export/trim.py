"""`understudy trim`: a model that exists already, with the tokens that some texts use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.base.errors import RecipeError
from understudy.evaluate.measure import size_mb
from understudy.lab.vocabulary import encode_texts, read_texts
from understudy.models.load import load_model
from understudy.models.save import save_model
from understudy.students.vocabulary import counted, kept_tokens, needed_below, parts, trim


def trim_folder(
    ref: str, *, texts: Sequence[str], out: Path, number: int | None = None, scripts: Sequence[str] = (),
    column: str | None = None,
) -> dict[str, Any]:
    """Write a model with a smaller vocabulary; its other weights stay as they are, to the bit.

    Args:
        ref: folder, `package:NAME/FOLDER`, or Hub name.
        texts: files whose tokens are kept, lines or the cells of a table's `column`.
        number, scripts: see `kept_tokens`.

    Returns:
        {"folder", "tokens": [before, after], "parts": part -> [before, after] parameters, "size_mb": [before, after]}

    Raises:
        RecipeError: `out` is there already, or nothing says which tokens stay; or see `kept_tokens`.
    """
    if out.exists():
        raise RecipeError(f"{out} already exists; name another --out.")
    if not texts and not scripts:
        raise RecipeError("Which tokens stay? Name texts that hold them (--texts FILE), or scripts (--scripts LATIN).")
    model = load_model(ref, key="MODEL")
    rows = read_texts(texts, column)
    counts = counted([encode_texts(model.tokenizer, rows)] if rows else [])
    small = trim(model, kept_tokens(model.tokenizer, counts, number=number, scripts=scripts, below=needed_below(model)))
    save_model(small, out, handover=model.handover)
    sizes = parts(model.net), parts(small.net)
    return {
        "folder": str(out),
        "tokens": [len(model.tokenizer), len(small.tokenizer)],
        "parts": {part: [one[part] for one in sizes] for part in sizes[0]},
        "size_mb": [size_mb(model.net), size_mb(small.net)],
    }


def lines(made: dict[str, Any]) -> list[str]:
    """What was made, for people."""
    (before, after), (large, small) = made["tokens"], made["size_mb"]
    found = [f"tokens      {before:,} -> {after:,}"]
    found += [f"{part:<12}{old:,} -> {new:,} parameters" for part, (old, new) in made["parts"].items()]
    return [*found, f"size        {large:.1f} -> {small:.1f} MB", f"model       {made['folder']}"]
