"""The flag names of the original Pea-KD and Patient-KD scripts (`finetune.py`, `PTP.py`, …)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from understudy.base.errors import RecipeError
from understudy.recipe.method import Flags

_SHARING = {"Original": "none", "SPS": "sps", "SPS_no_shuffle": "sps_no_shuffle"}
_KD_MODELS = {"kd": "kd", "kd.cls": "pkd"}
_TASKS = {"CoLA": "cola", "SST-2": "sst2", "MRPC": "mrpc", "QQP": "qqp", "STS-B": "stsb", "MNLI": "mnli", "QNLI": "qnli",
         "RTE": "rte", "WNLI": "wnli"}  # fmt: skip


class _PeaKDFlags(Flags):
    keys = {
        "train_type": "method.train_type",
        "model_type": "student.share",
        "student_hidden_layers": "student.num_layers",
        "train_seed": "seed",
        "PTP_seed": "seed",
        "saving_criterion_acc": "task.select",
        "saving_criterion_loss": "task.select",
        "train_batch_size": "train.batch_size",
        "learning_rate": "train.lr",
        "num_train_epochs": "train.epochs",
        "warmup_proportion": "train.warmup",
        "max_seq_length": "task.max_length",
        "fp16": "train.precision",
        "alpha": "method.alpha",
        "T": "method.temperature",
        "beta": "method.beta",
        "kd_model": "method.train_type",
        "fc_layer_idx": "method.layers",
        "normalize_patience": "method.normalize",
        "bert_model": "teacher.model",
    }

    instead = {
        "eval_batch_size": "selection and test rows are computed under train.max_tokens; leave it out",
        "gradient_accumulation_steps": "a batch of any size is computed in parts that fit train.max_tokens; leave it out",
        "load_model": "steps that are finished are loaded, and others continued, by themselves; leave it out",
        "load_model_dir": "steps that are finished are loaded, and others continued, by themselves; leave it out",
        "encoder_checkpoint": "give the checkpoint as student.model, or let the recipe make the student",
        "cls_checkpoint": "give the checkpoint as student.model, or let the recipe make the student",
        "teacher_prediction": "the teacher's outputs are computed once and found again by their content; leave it out",
        "weights": "the original never used it; the weights of the loss are those of `objective`",
        "loss_scale": "train.precision: fp16 finds its own scale; leave it out",
        "log_every_step": "the curves are in the report; leave it out",
        "output_all_encoded_layers": "the layers that are learnt from are read off objective.patient.mapping; leave it out",
        "do_train": "`understudy train` trains and `understudy eval` evaluates; leave it out",
        "do_eval": "`understudy train` trains and `understudy eval` evaluates; leave it out",
        "task_name": "use task.name, as in task.name=glue/mrpc",
        "layer_initialization": "name the layers, counted from 0, as student.keep",
    }

    def meaning(self, flag: str, value: Any, source: str) -> tuple[str, Any] | None:
        if flag == "task" and isinstance(value, str) and value in _TASKS:  # any other value is the section of that name
            return "task.name", f"glue/{_TASKS[value]}"
        return super().meaning(flag, value, source)

    def value(self, flag: str, value: Any, source: str) -> Any:
        if value == "None":
            raise RecipeError(f"{source}: {flag}: None is the original's default; leave the flag out.")
        change: Callable[[Any], Any] | None = {
            "model_type": lambda given: _SHARING.get(given, given),
            "kd_model": lambda given: _KD_MODELS.get(given, given),
            "fp16": lambda given: "fp16" if given in (True, "True", "") else "fp32",
            "normalize_patience": lambda given: {"True": True, "False": False}.get(given, given),
            # "1,3,5" names layers from 0; ours are counted from 1, as hidden states are.
            "fc_layer_idx": lambda given: [int(layer) + 1 for layer in str(given).split(",")],
            "saving_criterion_acc": lambda given: _criterion("accuracy", given, given >= 1, flag, source),
            "saving_criterion_loss": lambda given: _criterion("loss", given, given <= 0, flag, source),
        }.get(flag)
        try:
            return value if change is None else change(value)
        except (TypeError, ValueError):
            raise RecipeError(f"{source}: {flag}: {value!r} is not a value the original takes.") from None


def _criterion(metric: str, given: Any, never: bool, flag: str, source: str) -> str:
    """The best checkpoint and the last are always saved, so the threshold has no effect."""
    if never:
        raise RecipeError(f"{source}: {flag}: {given} means never to save by {metric}; leave the flag out.")
    return metric


FLAGS = _PeaKDFlags()
