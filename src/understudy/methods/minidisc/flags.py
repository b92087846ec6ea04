"""The flag names of the original MiniDisc scripts, read as keys of a recipe."""

from __future__ import annotations

import re
from typing import Any

from understudy.base.errors import RecipeError
from understudy.recipe.method import Flags
from understudy.recipe.staged import Waypoint

_STEPS = "training, proving and saving are one run; leave it out (`understudy predict` answers new rows)"
_TASKS = {name: f"glue/{name}" for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")} | {
    "conll": "conll2003", "mnlimm": "glue/mnli",
}  # fmt: skip
_METRICS = {
    "acc": "accuracy", "matthews_corrcoef": "mcc", "pearson_corr": "pearson", "spearman_corr": "spearman",
}  # fmt: skip
_MEANS = {"acc_and_f1": "accuracy or f1", "corr": "pearson or spearman"}


class _MiniDiscFlags(Flags):
    keys = {
        "model_type": "method.objective",
        "teacher_model_path": "teacher.model",
        "student_model_path": "student.model",
        "task_name": "task.name",
        "selection_metric": "task.select",
        "max_length": "task.max_length",
        "per_device_train_batch_size": "train.batch_size",
        "num_train_epochs": "train.epochs",
        "num_patience_epochs": "train.patience",
        "learning_rate": "train.lr",
        "weight_decay": "train.weight_decay",
        "lr_scheduler_type": "train.schedule",
        "warmup_proportion": "train.warmup",
        "max_grad_norm": "train.max_grad_norm",
        "layer_or_sparsity": "student",
        "layer_or_sparsity_path": "method.path",
        "target_iteration": "method.iterations",
        "target_sparsity": "student.sparsity",
        "trunc_sparsity": "method.min_assistant_sparsity",
        "lam": "method.lam",
    }
    instead = {
        "data_dir": "give the folder with the task's files as task.path (the original's data_dir/task_name)",
        "data_type": "model and task say it already; leave it out",
        "template": "prompts are not offered",
        "verbalizer": "prompts are not offered",
        "model_suffix": "runs are told apart by their folders (--out); leave it out",
        "per_device_eval_batch_size": "scoring needs no batch size; under method.parity importance is measured on batches of "
        "student.prune.batch_size rows",
        "log_interval": "say how often an epoch is scored with train.evaluations_per_epoch",
        "num_grad_accum_steps": "train.batch_size is the whole batch, however memory makes it be computed",
        "local_rank": "start several processes with torchrun --nproc_per_node",
        "num_relation_heads": "it did nothing there; leave it out",
        "use_slow_tokenizer": "the fast tokenizers cut alike; leave it out",
        "use_fp16": "set train.precision to fp16 or bf16",
        "use_cpu": "hide the devices with CUDA_VISIBLE_DEVICES=''",
        **dict.fromkeys(("do_train", "do_test", "do_infer"), _STEPS),
    }

    def meaning(self, flag: str, value: Any, source: str) -> tuple[str, Any] | None:
        # Pea-KD's scripts have a `model_type` and a `task_name` too, with other values.
        if flag == "model_type" and re.fullmatch(r"(ft|kd|pkd|sparse)(bert|enct5)_(cls|ner)", str(value)) is None:
            return None
        if flag == "task_name" and value not in _TASKS:
            return None
        if flag in ("target_sparsity", "layer_or_sparsity"):
            return _size(f"{value}S" if flag == "target_sparsity" else str(value), flag, source)
        return super().meaning(flag, value, source)

    def value(self, flag: str, value: Any, source: str) -> Any:
        if flag == "task_name":
            return _TASKS[value]
        if flag == "selection_metric":
            if value in _MEANS:
                raise RecipeError(f"{source}: {flag}: '{value}' is a mean of two metrics; set task.select to {_MEANS[value]}.")
            return _METRICS.get(str(value), value)
        return value


def _size(text: str, flag: str, source: str) -> tuple[str, Any]:
    """`4L` and `90S` as the original reads them; anything with a slash or a dot is the path of a checkpoint."""
    try:
        stage = Waypoint.parse(text)
    except ValueError as error:
        if "/" in text or text.startswith("."):
            return "student.model", text
        raise RecipeError(f"{source}: {flag}: {error}") from None
    return ("student.sparsity", stage.sparsity) if stage.layers is None else ("student.num_layers", stage.layers)


FLAGS = _MiniDiscFlags()
