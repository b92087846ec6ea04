"""The flags of the original scripts, read as keys of a recipe: each method knows its own (`Method.flags`).

People come with commands such as `--glue_task mrpc --max_epochs 12 --hard_label_weight 0.5`; they should not have to
translate them. A few flags have no key here, and the error says what does their work.
"""

from __future__ import annotations

from typing import Any

from understudy.base.errors import RecipeError
from understudy.recipe.method import methods

OUTPUT_FLAGS = ("save_path", "finetuned_model_cache_folder", "output_dir")


def original_flags() -> set[str]:
    """Those that mean a key of the recipe, whatever their value."""
    return {flag for method in methods().values() for flag in method.flags.keys}


def is_original_flag(name: str) -> bool:
    """Whether an original script knows a flag of this name."""
    bare = name.removeprefix("distiller.")
    return bare in (*OUTPUT_FLAGS, "seed", "task") or any(
        bare in method.flags.keys or bare in method.flags.instead for method in methods().values()
    )


def translate(key: str, value: Any, *, source: str) -> tuple[str, Any]:
    """The recipe key and value that an original flag means; any other key passes unchanged.

    Raises `RecipeError` for a flag whose work is done in another way here.
    """
    bare = key.removeprefix("distiller.")
    if bare in OUTPUT_FLAGS:
        raise RecipeError(f"{source}: {key}: not a key of a recipe; give the folder with --out on the command line.")
    for method in methods().values():
        if bare in method.flags.instead:
            raise RecipeError(f"{source}: {key}: not a key of a recipe; {method.flags.instead[bare]}.")
        if (meant := method.flags.meaning(bare, value, source)) is not None:
            return meant
    return key, value
