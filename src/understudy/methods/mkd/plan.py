"""What mKD cannot do, before anything is trained."""

from __future__ import annotations

from typing import Any

from understudy.adapters.transfer.plan import layer_sources
from understudy.base.errors import RecipeError
from understudy.methods.mkd.settings import MKD
from understudy.recipe.settings import Recipe


def require(cfg: MKD, recipe: Recipe, data: Any, teacher: Any, student: Any) -> None:
    """Settings, and whether a plan can be made for models of these sizes."""
    if recipe.train.only not in ("auto", "adapter"):
        raise RecipeError(f"mkd trains an adapter of the student: `train.only` must be adapter or auto, not {recipe.train.only}.")
    finetune = recipe.teacher.finetune if recipe.teacher else None
    if cfg.adapter is None and (finetune is None or finetune.only not in ("auto", "adapter")):
        raise RecipeError(
            "mkd needs an adapter of the teacher: let one be trained with `teacher: {finetune: {…}}`, or give "
            "the folder of one as `method.adapter`."
        )
    if recipe.student.adapter is not None:
        raise RecipeError(
            "mkd moves an adapter to the student by itself: give the teacher's as `method.adapter`, or train one that was moved "
            "already with `method: finetune`."
        )
    if cfg.adapter is not None and finetune is not None:
        raise RecipeError("`method.adapter` is already trained; remove `teacher.finetune`.")
    if cfg.adapter is not None and cfg.teacher_lr is not None:
        raise RecipeError("`method.adapter` is already trained; remove `method.teacher_lr`.")
    layer_sources(cfg.layer_map, teacher.layers, student.layers)
    if student.width > teacher.width:
        raise RecipeError(f"mkd: the student ({student.width}) is wider than the teacher ({teacher.width}); swap them.")
