"""The optimiser and its learning rate: AdamW, groups by role and depth, a schedule that is a function of the step; and
how large a gradient may be."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from understudy.models.anatomy import anatomy
from understudy.recipe.settings import TrainSettings
from understudy.train.bert_adam import BertAdam


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`: a linear warm-up, then the schedule down to 0.

    True optimiser steps are counted, whatever the micro-batches and ranks, so a limit on steps ends the whole course.
    """
    if settings.optimizer == "bertadam":
        return settings.lr * _bert_adam_factor(step / total, settings)
    warmup = math.ceil(settings.warmup * total)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    progress = (step - warmup) / max(1, total - warmup)
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.lr * (1 - progress)


def _bert_adam_factor(done: float, settings: TrainSettings) -> float:
    """As released with BertAdam: a function of the share of steps done, so the very first step has a learning rate of 0."""
    if done < settings.warmup:
        return done / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return (1 - done) / (1 - settings.warmup)


def parameter_groups(net: nn.Module, objective: nn.Module, settings: TrainSettings) -> list[dict]:
    """Groups that share weight decay and a factor on the learning rate (`scale`).

    Biases and norms are not decayed. With `layer_lr_decay` γ the head and the objective's projections have factor 1, the
    last layer γ⁰, the one below γ¹, …, the embeddings γ^layers.
    """
    depth_of = _depths(net) if settings.layer_lr_decay != 1.0 else {}
    groups: dict[tuple[float, float], dict] = {}

    def add(parameter: nn.Parameter, scale: float) -> None:
        # Biases and norms are the vectors of a model.
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((scale, decay), {"params": [], "weight_decay": decay, "scale": scale})
        group["params"].append(parameter)

    for parameter in _trainable(net.parameters()):
        add(parameter, settings.layer_lr_decay ** depth_of.get(id(parameter), 0))
    for parameter in _trainable(objective.parameters()):
        add(parameter, 1.0)
    return list(groups.values())


def _trainable(parameters: Iterable[nn.Parameter]) -> Iterable[nn.Parameter]:
    return (parameter for parameter in parameters if parameter.requires_grad)


def _depths(net: nn.Module) -> dict[int, int]:
    """How far below the last layer each parameter of the backbone is. A shared layer counts by its highest use.

    Whatever serves the embeddings counts as such, wherever a family keeps it: ALBERT and ELECTRA widen theirs later,
    DeBERTa's relative positions belong to its encoder.
    """
    row = anatomy(net)
    layers = row.layers(net)
    named = row.backbone(net).named_parameters()
    depths = {id(parameter): len(layers) for name, parameter in named if "embed" in name}
    for below, layer in reversed(list(enumerate(reversed(layers)))):
        depths.update({id(parameter): below for parameter in layer.parameters()})
    return depths


def make_optimizer(net: nn.Module, objective: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW over both; fused, which gives the same numbers in one pass over memory. Or BertAdam."""
    groups = parameter_groups(net, objective, settings)
    if settings.optimizer == "bertadam":
        return BertAdam(groups, lr=settings.lr)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def clip_gradients(parameters: list[nn.Parameter], settings: TrainSettings) -> Tensor:
    """Shorten gradients that are longer than allowed, all together or each tensor by itself; in place.

    Returns the length of all gradients together, before.
    """
    limit = settings.max_grad_norm or math.inf
    if settings.clip == "global":
        return _clip(parameters, limit)
    lengths = [_clip([parameter], limit) for parameter in parameters]
    return torch.stack(lengths).norm() if lengths else torch.zeros(())


def _clip(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """nn.utils.clip_grad_norm_, except that small gradients are not multiplied by 1."""
    length = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if bool(length + 1e-6 > limit):  # torch: the factor is below 1
        nn.utils.clip_grads_with_norm_(parameters, limit, length)
    return length


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
