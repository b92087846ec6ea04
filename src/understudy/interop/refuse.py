"""Settings of the Trainer under which the loss would be wrong, or not what it seems: refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from understudy.base.errors import RecipeError
from understudy.kinds import Kind
from understudy.models.anatomy import anatomy
from understudy.objective import Objective


def refuse(model: Any, args: TrainingArguments, objective: Objective, kind: Kind, options: dict[str, Any]) -> None:
    """Raise RecipeError for the first thing that does not go together."""
    for reason in (*_of_model(model, args, kind), *_of_options(options), *_of_arguments(args), *_of_parts(args, objective)):
        raise RecipeError(reason)


def _of_model(model: Any, args: TrainingArguments, kind: Kind) -> Iterator[str]:
    if not isinstance(model, PreTrainedModel):
        yield (
            f"DistilTrainer trains a plain transformers model, not {type(model).__name__}. Of what load_model gives, pass "
            "`.net`; PEFT's wrapper hides the layers: use peft.inject_adapter_in_model, which works in place."
        )
        return
    if not type(model).__name__.endswith(kind.ending):
        yield f"kind '{kind}' needs a model {kind.ending}, and this is a {type(model).__name__}."
    row = anatomy(model)
    if not kind.named and not kind.on_vocabulary and model.config.num_labels != 1:
        yield f"Regression needs one output, and the model has {model.config.num_labels}."
    saves_memory = getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False)
    if row.packs and saves_memory:
        yield (
            f"The Trainer's gradient checkpointing runs the layers of {row.family} a second time without what keeps packed "
            "sequences apart. Take steps of your own within `models.lighten.Light(net, checkpoint=True, …).on()`, or lower "
            "per_device_train_batch_size and raise gradient_accumulation_steps: the loss stays the same."
        )


def _of_options(options: dict[str, Any]) -> Iterator[str]:
    if options.get("compute_loss_func") is not None:
        yield "compute_loss_func: the objective is the loss; make it a Term of the objective."
    if options.get("model_init") is not None:
        yield "model_init makes new models, and the objective's projections would stay old; make a trainer for each model."


def _of_arguments(args: TrainingArguments) -> Iterator[str]:
    if args.n_gpu > 1:
        yield (
            f"One process sees {args.n_gpu} GPUs, and the Trainer would copy the model to each for every batch. Start it with "
            "torchrun or `accelerate launch`, or show it one GPU (CUDA_VISIBLE_DEVICES=0)."
        )
    if args.label_smoothing_factor:
        yield "label_smoothing_factor is not seen by the objective, whose terms read the labels as they are; set it to 0."
    named = {
        "fsdp": "it shards the model behind the objective's back; use data parallelism",
        "deepspeed": "it shards the model behind the objective's back; use data parallelism",
        "parallelism_config": "it splits sequences or layers; use data parallelism",
        "torch_compile": "it compiles the model as a whole, and layers are what can be compiled (models.lighten.Light)",
        "use_liger_kernel": "it replaces the forward of the whole model, and only the one without its head is called here",
        "neftune_noise_alpha": "its noise depends on the padded length of a batch, and there is no padding here",
    }
    for name, why in named.items():
        if getattr(args, name, None):
            yield f"{name} does not work with DistilTrainer: {why}."


def _of_parts(args: TrainingArguments, objective: Objective) -> Iterator[str]:
    parts = args.gradient_accumulation_steps
    whole = [name for name, term in objective.terms.items() if not term.separable]
    if whole and parts > 1:
        yield (
            f"gradient_accumulation_steps is {parts}, but {', '.join(whole)} compares the rows of a batch with each other, "
            "so a batch cannot be computed in parts. Set gradient_accumulation_steps to 1, or the weight of this term to 0."
        )
