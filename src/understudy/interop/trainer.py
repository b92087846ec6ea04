"""DistilTrainer: the Trainer of transformers, with an Objective for its loss.

What it trains is one module, student and objective (`train.learner.Learner`), so that data parallelism, clipping and the
optimiser see the projections too; what it evaluates and saves is the student alone, a stock model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from understudy import kinds
from understudy.base.errors import DataError, DivergedError, RecipeError
from understudy.data.encode import Batch
from understudy.interop.pack import ROW, TEACHER, count, ours, pack
from understudy.interop.refuse import refuse
from understudy.interop.teach import reads_otherwise, teacher_for, with_own_tokens
from understudy.models.needs import Signals
from understudy.objective import Counts, Objective
from understudy.train.checkpoint import read_module, write_module
from understudy.train.learner import Learner

FILE = "objective.safetensors"
"""Beside a checkpoint's optimizer.pt: the projections, which are not part of the student."""


class DistilTrainer(Trainer):
    """`DistilTrainer(model=student, args=args, train_dataset=rows, objective=objective, teacher=teacher)`.

    Rows and batches are the ordinary ones. The training loss is the objective over the real tokens of all batches of an
    optimiser step: padding, `gradient_accumulation_steps` and processes do not change it. `eval_loss` is the model's own
    loss, on labels alone, so that it means the same for every objective.

    Args:
        model: a transformers model with a head for `kind`.
        args: as for the Trainer; what does not go with an objective is refused (refuse.py).
        objective: what to learn. Trained along with the model; its weights and temperatures follow the course of training.
        teacher: a `Model` (from `load_model`) or a transformers model, put on the device and run in eval mode without
            gradients; or a filled store, `CachedTeacher`, for rows with a column `row`. One with another tokenizer reads
            columns `teacher_input_ids`, `teacher_attention_mask`, and `teacher_labels` for tokens.
        kind: classification, regression, multilabel, tokens or text.
        options: everything else a Trainer takes.

    Raises:
        RecipeError: parts that do not go together. DataError: labels that do not match. DivergedError: while training, a
            loss that is NaN or infinite; the weights are those before that step.
    """

    loss_is_scaled_for_ga = True  # by counts of the whole step

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        *,
        objective: Objective,
        teacher: Any = None,
        kind: str = "classification",
        **options: Any,
    ) -> None:
        args = args or TrainingArguments(output_dir="tmp_trainer")
        asked = kinds.kind(kind)
        refuse(model, args, objective, asked, options)
        super().__init__(model=model, args=args, **options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or self.is_model_parallel:
            raise RecipeError("DistilTrainer needs the whole model in each process: no sharding.")
        self.model_accepts_loss_kwargs = True  # where older Trainers look whether the loss is scaled
        self.kind, self.objective = asked, objective.to(args.device)
        self.learner = Learner(model, self.objective, asked)
        tokenizer = self.processing_class
        self.teacher = teacher_for(
            self.model, teacher, objective, kind=asked, tokenizer=tokenizer, device=args.device
        )
        if reads_otherwise(teacher, tokenizer):
            self.data_collator = with_own_tokens(self.data_collator, teacher, asked)
        self._sums = torch.zeros(len(objective.terms), device=args.device)
        self._steps = 0

    # -- training ------------------------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step and what there is in all of them, in all processes."""
        batches = list(islice(epoch_iterator, num_batches))
        numbers = torch.as_tensor(self.accelerator.reduce(count(batches, self.kind).to(device), reduction="sum")).tolist()
        self._steps += 1
        return batches, Counts(*numbers)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """While training the objective, of which the parts of a step add up; in evaluation the model's own loss."""
        if not isinstance(num_items_in_batch, Counts):
            outputs = model(**inputs)
            loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs[0]
            return (loss, outputs) if return_outputs else loss
        batch = pack(inputs, self.kind)
        made = self.state.global_step / max(1, self.state.max_steps)
        loss, values = model(batch, self._taught(inputs, batch), made, num_items_in_batch)
        if self.learner.diverged is not None:
            said, self.learner.diverged = self.learner.diverged, None
            raise DivergedError(f"{said} Here these are learning_rate, and bf16 or fp16.")
        self._sums += torch.stack([values.get(name, self._sums.new_zeros(())) for name in self.objective.terms])
        return loss * self.accelerator.num_processes  # whose gradients are averaged, while ours add up

    def _taught(self, inputs: Any, batch: Batch) -> Signals | None:
        if self.teacher is None:
            return None
        with self.accelerator.autocast():
            return self.teacher.signals(inputs, batch)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's own groups, over student and projections."""
        optimizer = super().create_optimizer(self.learner if model is None else model)
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        missing = [name for name, parameter in self.objective.named_parameters() if id(parameter) not in known]
        if missing:
            raise RecipeError(
                f"The optimizer that was passed does not train the objective's {missing[0]}; add objective.parameters() to it."
            )
        return optimizer

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """For training: student and objective as one, made parallel. Anything but `self.model` is that already."""
        if training and model is self.model:
            return self.accelerator.prepare(self.learner)
        return model

    # -- evaluation and data -------------------------------------------------------------------------------------------

    def prediction_step(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        """The stock model on stock inputs."""
        return super().prediction_step(model, {k: v for k, v in inputs.items() if not ours(k)}, *arguments, **named)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """In bf16 and fp16 the student is evaluated as it is trained, though it is not the module that was prepared."""
        return self.accelerator.autocast()

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            inputs = ("input_ids", "attention_mask", "token_type_ids", "labels")
            stock: Any = self._signature_columns
            self._signature_columns = [*stock, ROW, *(TEACHER + name for name in inputs)]

    # -- keeping -------------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Beside the loss, the value of each of its terms, unweighted; means over the steps since the last time."""
        if "loss" in logs and self._steps:
            sums = torch.as_tensor(self.accelerator.reduce(self._sums, reduction="sum")) / self._steps
            logs = {**logs, **dict(zip((f"loss_{name}" for name in self.objective.terms), sums.tolist(), strict=True))}
            self._sums, self._steps = torch.zeros_like(self._sums), 0
        super().log(logs, start_time)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            write_module(Path(output_dir) / FILE, self.objective)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and not self._read_objective(checkpoint):
            raise DataError(
                f"{checkpoint} has no {FILE}, so training cannot go on from it: it was written by another Trainer or with "
                "save_only_model. Start again from its weights."
            )

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._read_objective(self.state.best_model_checkpoint)

    def _read_objective(self, checkpoint: str | None) -> bool:
        path = Path(checkpoint or "") / FILE
        if path.is_file():
            read_module(path, self.objective)
        return path.is_file()
