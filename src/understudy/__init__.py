"""Turns a large language model into a small one that can stand in for it, and proves how good the stand-in is.

The public names are fetched when they are first used: importing this package costs nothing.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from understudy.base.distribution import clash

if TYPE_CHECKING:
    from understudy import interop, losses, mapping, run, students
    from understudy.api import Distilled, distil
    from understudy.base.errors import (
        DataError,
        DivergedError,
        Interrupted,
        RecipeError,
        ResourceError,
        SafetyError,
        UnderstudyError,
        VerifyError,
    )
    from understudy.data.tasks import load_task
    from understudy.data.types import Example, Task, TaskData
    from understudy.lab import Lab
    from understudy.models.compact import register
    from understudy.models.load import load_model
    from understudy.models.model import Model
    from understudy.models.needs import Needs, Signals
    from understudy.models.save import save_model
    from understudy.objective import Objective, Term
    from understudy.recipe.load import load_recipe, recipe_from
    from understudy.recipe.settings import Recipe

__version__ = "0.1.0"

if _clash := clash():
    warnings.warn(_clash, stacklevel=2)

# How many compiled kernels torch's CPU library remembers (1,024 by default): pruned students have a shape for each layer,
# and several of them trained together would push each other out. Read by it when the first kernel is made.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")

_HOME = {
    "interop": "understudy",
    "losses": "understudy",
    "mapping": "understudy",
    "run": "understudy",
    "students": "understudy",
    **dict.fromkeys(
        ["DataError", "DivergedError", "Interrupted", "RecipeError", "ResourceError", "SafetyError", "UnderstudyError",
         "VerifyError"],
        "understudy.base.errors",
    ),
    **dict.fromkeys(["Distilled", "distil"], "understudy.api"),
    "load_task": "understudy.data.tasks",
    **dict.fromkeys(["Example", "Task", "TaskData"], "understudy.data.types"),
    "Lab": "understudy.lab",
    "load_model": "understudy.models.load",
    "register": "understudy.models.compact",
    "Model": "understudy.models.model",
    **dict.fromkeys(["Needs", "Signals"], "understudy.models.needs"),
    "save_model": "understudy.models.save",
    **dict.fromkeys(["Objective", "Term"], "understudy.objective"),
    **dict.fromkeys(["load_recipe", "recipe_from"], "understudy.recipe.load"),
    "Recipe": "understudy.recipe.settings",
}  # fmt: skip

__all__ = [
    "DataError", "Distilled", "DivergedError", "Example", "Interrupted", "Lab", "Model", "Needs", "Objective", "Recipe",
    "RecipeError", "ResourceError", "SafetyError", "Signals", "Task", "TaskData", "Term", "UnderstudyError",
    "VerifyError", "distil", "interop", "load_model", "load_recipe", "load_task", "losses", "mapping", "recipe_from",
    "register", "run", "save_model", "students",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'understudy' has no attribute '{name}'")
    if home == "understudy":
        return import_module(f"understudy.{name}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
