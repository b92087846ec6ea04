"""Helpers of the tests of adapters: their settings by name, weights that hide nothing, logits in both forwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import tiny_models
import torch

from understudy.data.encode import Batch
from understudy.models.needs import Needs
from understudy.models.signals import forward
from understudy.recipe.adapter import ADAPTERS, written_out

IDS = tiny_models.tiny_ids(2, 7)


def settings_of(text: str) -> Any:
    settings = written_out(text)
    return ADAPTERS[settings["kind"]].model_validate(settings)


def shake(net: Any, name: str = "task") -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if is_adapters(key, name):
                parameter.add_(torch.randn_like(parameter) * 0.2)


def is_adapters(key: str, name: str = "task") -> bool:
    """Whether a parameter of this name belongs to an adapter: a bottleneck's, or one of peft's layers."""
    return f".adapters.{name}." in key or any(f".{table}.{name}" in key for table in ("lora_A", "lora_B", "ia3_l"))


@torch.no_grad()
def stock(net: Any) -> torch.Tensor:
    return net(input_ids=IDS).logits


@torch.no_grad()
def packed(net: Any) -> torch.Tensor:
    batch = Batch(IDS.reshape(-1), None, torch.tensor([7, 7]), [7, 7], None, np.arange(2))
    return forward(net, batch, Needs(logits=True), kind="classification").logits
