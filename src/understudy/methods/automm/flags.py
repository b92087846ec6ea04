"""The flags of AutoMM's original scripts."""

from __future__ import annotations

from typing import Any

from understudy.recipe.method import Flags

_PRECISIONS = {"16": "fp16", "16-mixed": "fp16", "bf16-mixed": "bf16", "32": "fp32", "32-true": "fp32"}
_LOSS_KEYS = (
    "temperature", "hard_label_weight", "soft_label_weight", "softmax_regression_weight", "output_feature_loss_weight",
    "rkd_distance_loss_weight", "rkd_angle_loss_weight", "soft_label_loss_type", "softmax_regression_loss_type",
    "output_feature_loss_type", "matches",
)  # fmt: skip


class _AutoMMFlags(Flags):
    keys = {
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
    }
    instead = {
        "num_gpu": "choose devices with CUDA_VISIBLE_DEVICES or torchrun --nproc_per_node",
        "resume": "the same command continues by itself; leave it out",
    }

    def value(self, flag: str, value: Any, source: str) -> Any:
        if flag == "glue_task":
            return f"glue/{'mnli' if value in ('mnlim', 'mnlimm') else value}"
        return _PRECISIONS.get(str(value), value) if flag == "precision" else value


FLAGS = _AutoMMFlags()
