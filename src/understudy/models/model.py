"""What a loaded model is to the rest of the package, and the digest that names its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from understudy.kinds import Kind, kind

if TYPE_CHECKING:
    from torch import nn

# Configuration that does not change what the model computes, or that transformers fills in on saving.
_NOT_COMPUTED = {
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
    "transformers_version",
}


@dataclass(frozen=True)
class Handover:
    """How a student's inputs were read when it was scored: `max_length` in tokens, special ones included; `pair`: two texts a
    row; `task`: what the recipe's section says about reading a file (columns, delimiter, encoding, …), as plain data."""

    max_length: int
    pair: bool = False
    task: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Model:
    """A network with its tokenizer and the meaning of its outputs.

    `labels[i]` names output i; it is empty for regression and text. `source` is the reference the user gave, `revision`
    what was really read (a commit, or the digest of the weight files). `notes` are the decisions made on the way, one
    sentence each, for the report.
    """

    net: Any  # a transformers PreTrainedModel, in eval mode
    tokenizer: Any
    labels: tuple[str, ...]
    kind: Kind
    source: str
    revision: str | None
    notes: tuple[str, ...] = ()
    fresh_head: bool = False  # the head was not in the checkpoint: its weights are random until it is trained
    by_position: bool = False  # its outputs have no names, and were taken for the task's labels in their order
    handover: Handover | None = None  # how its inputs were read when it was scored; None for a model of others

    def __post_init__(self) -> None:
        self.kind = kind(self.kind)  # a name is enough

    @property
    def bare(self) -> bool:
        """Whether it is a backbone without outputs: for plain text, a checkpoint without a head on the vocabulary."""
        return self.net.base_model is self.net and not self.kind.pooled


def digest(net: nn.Module) -> str:
    """32 hex digits that name what a network computes: its weights, their dtypes, and the configuration around them.

    Two models with one digest give the same outputs; label names, paths and versions do not count. Weights alone would
    not do: the number of heads, the activation and the position scheme are not visible in any shape.
    """
    import torch

    hasher = hashlib.blake2b(digest_size=16)
    hasher.update(type(net).__name__.encode())
    config = getattr(net, "config", None)
    if config is not None:
        settings = {k: v for k, v in config.to_dict().items() if k not in _NOT_COMPUTED and v is not None}
        hasher.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(net.state_dict().items()):
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()
