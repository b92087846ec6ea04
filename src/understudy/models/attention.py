"""Attention over packed sequences: no token sees another sequence, and nothing is computed for padding.

q, k, v have shape (T, H, d), the sequences one behind the other; `sizes` says where they end. Dropout is drawn in the
same place as in the stock layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.models.dropout import dropout as quick_dropout


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, query_sizes: list[int], key_sizes: list[int], dropout: float = 0.0
) -> Tensor:
    """softmax(q·k/√d)·v within each sequence.

    Args:
        q: (Tq, H, d), `query_sizes[i]` rows belong to sequence i (all its tokens, or only its first).
        k, v: (Tk, H, d), `key_sizes[i]` rows belong to sequence i.
        dropout: probability of dropping an attention weight.

    Returns:
        (Tq, H·d) the attention contexts, heads side by side.
    """
    one_by_one = _one_by_one if q.device.type == "cpu" else _padded
    # Scores and softmax in fp32 on the CPU: its half-precision attention kernels are slower than its fp32 ones.
    with torch.autocast(q.device.type, enabled=False):
        if q.device.type == "cpu" and q.dtype != torch.float64:
            q, k, v = q.float(), k.float(), v.float()
        return one_by_one(q, k, v, query_sizes, key_sizes, dropout).flatten(1)


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, query_sizes: list[int], key_sizes: list[int], dropout: float) -> Tensor:
    """On a CPU a loop over sequences beats one padded call: attention is small there, padding is not."""
    heads = (part.transpose(0, 1) for part in (q, k, v))
    q_HTd, k_HTd, v_HTd = heads
    parts = zip(q_HTd.split(query_sizes, 1), k_HTd.split(key_sizes, 1), v_HTd.split(key_sizes, 1), strict=True)
    if dropout == 0.0:
        contexts = [F.scaled_dot_product_attention(q_i[None], k_i[None], v_i[None])[0] for q_i, k_i, v_i in parts]
    else:  # torch's own call falls back to a slower path with dropout
        scale = q.shape[-1] ** -0.5
        contexts = [
            quick_dropout((q_i * scale @ k_i.transpose(1, 2)).softmax(dim=-1), dropout) @ v_i for q_i, k_i, v_i in parts
        ]
    return torch.cat(contexts, dim=1).transpose(0, 1)


def _padded(q: Tensor, k: Tensor, v: Tensor, query_sizes: list[int], key_sizes: list[int], dropout: float) -> Tensor:
    """One call on padded (B, H, L, d): what a GPU wants; everything but attention stays packed."""
    query_rows, key_rows = pad_index(query_sizes, q.device), pad_index(key_sizes, k.device)
    num, longest_q, longest_k = len(key_sizes), max(query_sizes), max(key_sizes)
    lengths = torch.tensor(key_sizes, device=q.device)
    mask = (torch.arange(longest_k, device=q.device) < lengths[:, None])[:, None, None]
    context = F.scaled_dot_product_attention(
        pad(q, query_rows, num, longest_q).transpose(1, 2),
        pad(k, key_rows, num, longest_k).transpose(1, 2),
        pad(v, key_rows, num, longest_k).transpose(1, 2),
        attn_mask=mask,
        dropout_p=dropout,
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
