"""The flag names of the original scripts, read as keys of a recipe: AutoMM's, and those of Pea-KD
(`peakd_flags.py`) and MiniDisc (`minidisc_flags.py`).

People come with commands such as `--glue_task mrpc --max_epochs 12 --hard_label_weight 0.5`; they should not have to
translate them. A few flags have no key here, and the error says what does their work.
"""

from __future__ import annotations

from typing import Any

from understudy.base.errors import RecipeError
from understudy.recipe import minidisc_flags, peakd_flags

_PRECISIONS = {"16": "fp16", "16-mixed": "fp16", "bf16-mixed": "bf16", "32": "fp32", "32-true": "fp32"}
_LOSS_KEYS = (
    "temperature", "hard_label_weight", "soft_label_weight", "softmax_regression_weight", "output_feature_loss_weight",
    "rkd_distance_loss_weight", "rkd_angle_loss_weight", "soft_label_loss_type", "softmax_regression_loss_type",
    "output_feature_loss_type", "matches",
)  # fmt: skip

ALIASES = {
    "glue_task": "task.name",
    "teacher_model": "teacher.model",
    "student_model": "student.model",
    "max_epochs": "train.epochs",
    "max_epoch": "train.epochs",
    "time_limit": "train.time_limit",
    "precision": "train.precision",
    "train_nodistill": "evaluate.baseline",
    "pawsx_teacher_tasks": "teacher.languages",
    "pawsx_student_tasks": "task.languages",
    **{key: f"method.{key}" for key in _LOSS_KEYS},
    **minidisc_flags.KEYS,
    **peakd_flags.KEYS,
}
OUTPUT_FLAGS = ("save_path", "finetuned_model_cache_folder", "output_dir")
_INSTEAD = {
    "num_gpu": "choose devices with CUDA_VISIBLE_DEVICES or torchrun --nproc_per_node",
    "resume": "the same command continues by itself; leave it out",
    **peakd_flags.INSTEAD,
    **minidisc_flags.INSTEAD,
    **dict.fromkeys(OUTPUT_FLAGS, "give the folder with --out on the command line"),
}


def is_original_flag(name: str) -> bool:
    """Whether an original script knows a flag of this name."""
    return name.removeprefix("distiller.") in {*ALIASES, *_INSTEAD, "seed", "task"}


def translate(key: str, value: Any, *, source: str) -> tuple[str, Any]:
    """The recipe key and value that an original flag means; any other key passes unchanged.

    Raises `RecipeError` for a flag whose work is done in another way here.
    """
    bare = key.removeprefix("distiller.")
    if minidisc_flags.means(bare, value):
        return minidisc_flags.translate(bare, value, source=source)
    if bare in _INSTEAD:
        raise RecipeError(f"{source}: {key}: not a key of a recipe; {_INSTEAD[bare]}.")
    if bare == "task" and isinstance(value, str) and value in peakd_flags.TASKS:  # any other value is the section of that name
        return "task.name", f"glue/{peakd_flags.TASKS[value]}"
    if bare not in ALIASES:
        return key, value
    if bare == "glue_task":
        value = "mnli" if value in ("mnlim", "mnlimm") else value
        value = f"glue/{value}"
    elif bare == "precision":
        value = _PRECISIONS.get(str(value), value)
    elif bare in peakd_flags.KEYS:
        value = peakd_flags.value_of(bare, value, source=source)
    return ALIASES[bare], value
