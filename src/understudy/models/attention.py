"""Attention over packed sequences: no token sees another sequence, and nothing is computed for padding.

`packed(config)` makes a stock model of transformers call `attention` instead of its own: all sequences stand end to end in one
row, and `Packing` says where each ends. That is one function for every family that takes transformers' attention interface,
bidirectional or causal, with grouped queries, a sliding window or a soft cap. transformers builds no mask for a function of
which it knows none.

Shapes: T tokens of all sequences, Hq query heads, Hk heads of keys and values (Hq is a multiple of Hk), d head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.models.dropout import dropout as quick_dropout

NAME = "understudy_packed"
"""What the attention interface calls it."""


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a packed row end. An object of its own, so that a compiled layer hands it on unread."""

    sizes: list[int]
    """Tokens of each sequence: rows of keys and values."""
    queries: list[int] | None = None
    """Rows of queries of each sequence where they are fewer: ones, for first tokens alone."""

    @cached_property
    def ends(self) -> Tensor:
        """(B + 1,) int32: 0, then where each sequence ends, as the varlen kernel wants it."""
        return torch.tensor([0, *self.sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)


@dataclass(frozen=True)
class Rule:
    """How a token of a sequence sees the others."""

    scale: float
    causal: bool = False
    """Only itself and what stands before it."""
    window: int | None = None
    """Only tokens less than so many places away; the token itself counts."""
    softcap: float | None = None
    """Scores s become softcap · tanh(s / softcap)."""
    dropout: float = 0.0
    """The probability of dropping an attention weight."""

    def mask(self, length: int, device: torch.device) -> Tensor | None:
        """(L, L), true where the query (row) sees the key (column); None where all see all."""
        window = length if self.window is None else self.window
        if not self.causal and window >= length:
            return None
        away = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
        seen = away.abs() < window
        return seen & (away >= 0) if self.causal else seen


@contextmanager
def packed(config: Any) -> Iterator[None]:
    """Within, the model of this configuration attends by `attention`. It must be called with `packing=`."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if NAME not in ALL_ATTENTION_FUNCTIONS:
        register(attention)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def register(function: Callable[..., Any]) -> None:
    """Let stock models find a function under our name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, function)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What a stock attention module calls. query (1, Hq, T, d), key and value (1, Hk, T, d) -> (1, T, Hq, d)."""
    rule = Rule(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=bool(getattr(module, "is_causal", False) if is_causal is None else is_causal),
        window=sliding_window,
        softcap=softcap,
        dropout=dropout,
    )
    # squeeze rather than [0], whose backward pass fills a tensor with zeros and copies into it
    q, k, v = (part.squeeze(0).transpose(0, 1) for part in (query, key, value))
    return attend(q, k, v, packing, rule)[None], None


def attend(q: Tensor, k: Tensor, v: Tensor, packing: Packing, rule: Rule) -> Tensor:
    """softmax(q·k · scale)·v within each sequence, as far as the rule lets tokens see each other.

    Args:
        q: (Tq, Hq, d): the rows of the sequences one behind the other.
        k, v: (T, Hk, d).

    Returns:
        (Tq, Hq, d), in fp32 on a CPU, whose half-precision attention kernels are slower than its fp32 ones.
    """
    with torch.autocast(q.device.type, enabled=False):
        if q.device.type == "cpu":
            if q.dtype != torch.float64:
                q, k, v = q.float(), k.float(), v.float()
            return _one_by_one(q, k, v, packing, rule)
        if q.device.type == "cuda" and _has_kernel(q, packing, rule):
            return _varlen(q, k, v, packing, rule)
        return _padded(q, k, v, packing, rule)


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, packing: Packing, rule: Rule) -> Tensor:
    """On a CPU a loop over sequences beats one padded call: attention is small there, padding is not."""
    queries = packing.queries or packing.sizes
    q_HTd, k_HTd, v_HTd = (part.transpose(0, 1) for part in (q, k, v))
    masks: dict[int, Tensor | None] = {}
    contexts = []
    parts = zip(q_HTd.split(queries, 1), k_HTd.split(packing.sizes, 1), v_HTd.split(packing.sizes, 1), strict=True)
    for (q_i, k_i, v_i), length in zip(parts, packing.sizes, strict=True):
        if length not in masks:
            masks[length] = rule.mask(length, q.device)
        contexts.append(_literal(q_i, k_i, v_i, masks[length], rule))
    return torch.cat(contexts, dim=1).transpose(0, 1)


def _literal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rule: Rule) -> Tensor:
    """q (..., Hq, Lq, d), k and v (..., Hk, L, d), mask (..., Lq, L) -> (..., Hq, Lq, d), with or without a batch."""
    grouped = q.shape[-3] != k.shape[-3]
    # On a CPU torch's own call falls back to a slower path with dropout, and no device has one with a cap.
    by_hand = rule.softcap is not None or (rule.dropout > 0 and q.device.type == "cpu")
    if not by_hand and q.dim() == 3:  # torch's quick kernels want a batch
        return _literal(q[None], k[None], v[None], mask, rule).squeeze(0)
    if not by_hand:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=rule.dropout, scale=rule.scale, enable_gqa=grouped
        )
    if grouped:
        k, v = (part.repeat_interleave(q.shape[-3] // part.shape[-3], dim=-3) for part in (k, v))
    scores = q * rule.scale @ k.transpose(-1, -2)
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return quick_dropout(scores.softmax(dim=-1), rule.dropout) @ v


def _has_kernel(q: Tensor, packing: Packing, rule: Rule) -> bool:
    """Whether torch's kernel for packed sequences can do it: half precision, no dropout, no cap."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    return half and packing.queries is None and rule.dropout == 0 and rule.softcap is None


def _varlen(q: Tensor, k: Tensor, v: Tensor, packing: Packing, rule: Rule) -> Tensor:
    """Flash attention on the packed rows as they are; its window counts tokens to the left and to the right."""
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = packing.ends.to(q.device), max(packing.sizes)
    left = -1 if rule.window is None else rule.window - 1
    return varlen_attn(
        q, k, v, ends, ends, longest, longest,
        scale=rule.scale,
        window_size=(left, 0 if rule.causal else left),
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip  # pyright: ignore[reportReturnType]


def _padded(q: Tensor, k: Tensor, v: Tensor, packing: Packing, rule: Rule) -> Tensor:
    """One call on padded (B, H, L, d), where no kernel takes packed rows; everything but attention stays packed."""
    queries, sizes = packing.queries or packing.sizes, packing.sizes
    query_rows, key_rows = pad_index(queries, q.device), pad_index(sizes, k.device)
    num, longest_q, longest = len(sizes), max(queries), max(sizes)
    lengths = torch.tensor(sizes, device=q.device)
    mask = (torch.arange(longest, device=q.device) < lengths[:, None])[:, None, None]
    if (seen := rule.mask(longest, q.device)) is not None:
        mask = mask & seen
        mask = mask | torch.eye(longest, dtype=torch.bool, device=q.device)  # padding sees itself, rather than nothing
    context = _literal(
        pad(q, query_rows, num, longest_q).transpose(1, 2),
        pad(k, key_rows, num, longest).transpose(1, 2),
        pad(v, key_rows, num, longest).transpose(1, 2),
        mask,
        rule,
    )
    return context.transpose(1, 2).flatten(0, 1)[query_rows]


def pad_index(sizes: list[int], device: torch.device) -> Tensor:
    """Row of each packed token (T,) in a padded batch that was flattened to (B·L, …)."""
    longest = max(sizes)
    return torch.cat([torch.arange(i * longest, i * longest + size) for i, size in enumerate(sizes)]).to(device)


def pad(packed: Tensor, rows: Tensor, num: int, longest: int) -> Tensor:
    """(T, …) -> (B, L, …) with zeros behind the end of each sequence."""
    flat = packed.new_zeros(num * longest, *packed.shape[1:])
    return flat.index_copy(0, rows, packed).unflatten(0, (num, longest))
