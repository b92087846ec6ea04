"""Another head on the same encoder, and back: for stages of training that ask something else than the task.

What belongs to the head is its last Linear alone. Whatever lies between it and the layers (BERT's pooler, RoBERTa's dense
layer) is trained on with the layers.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import nn

from understudy.base import seeds
from understudy.kinds import kind
from understudy.models.anatomy import anatomy
from understudy.models.heads import set_outputs
from understudy.models.model import Model


def with_labels(model: Model, labels: tuple[str, ...], *, seed: int) -> Model:
    """A copy that tells these classes apart, its last Linear (C, D) new: normal weights as in the model's config, no bias
    yet. A function of the seed; everything else is the model's, bit for bit."""
    net = copy.deepcopy(model.net)
    old = anatomy(net).final_linear(net)
    deviation = float(getattr(net.config, "initializer_range", 0.02))
    with seeds.torch_seed(seed, "head"):
        new = nn.Linear(old.in_features, len(labels), bias=old.bias is not None)
        nn.init.normal_(new.weight, std=deviation)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    _replace(net, old, new.to(old.weight))
    asked = kind("classification")
    set_outputs(net.config, asked, labels)
    net.num_labels = len(labels)
    return dataclasses.replace(model, net=net, labels=labels, kind=asked, fresh_head=True)


def with_encoder(model: Model, trained: Model) -> Model:
    """A copy of `model` with everything but the last Linear from `trained`, a copy of it with another head."""
    net = copy.deepcopy(model.net)
    ours, theirs = net.state_dict(), trained.net.state_dict()
    head = {f"{_name_of(net, anatomy(net).final_linear(net))}.{part}" for part in ("weight", "bias")}
    if set(ours) - head != set(theirs) - head:
        raise ValueError("The two models are not one encoder with two heads.")
    with torch.no_grad():
        for name, tensor in ours.items():
            if name not in head:
                tensor.copy_(theirs[name])
    return dataclasses.replace(model, net=net)


def _name_of(net: Any, module: nn.Module) -> str:
    return next(name for name, found in net.named_modules() if found is module)


def _replace(net: Any, old: nn.Module, new: nn.Module) -> None:
    parent, _, last = _name_of(net, old).rpartition(".")
    setattr(net.get_submodule(parent), last, new)
