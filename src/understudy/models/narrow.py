"""Fewer heads and neurons: rows and columns taken out of the Linears of a layer, in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from understudy.base.errors import RecipeError
from understudy.models.anatomy import Anatomy, Layer, Net
from understudy.models.structure import Structure, Units


def narrow(row: Anatomy, net: Net, layers: list[Layer], *, wanted: Structure, before: Structure) -> None:
    """Cut the physical layers `layers` from the structure they have to the one they are to have.

    Raises RecipeError, before anything is changed, where `wanted` names units that `before` has not.
    """
    width = row.head_width(row.attention(layers[0]))
    head_steps = _steps("heads", wanted.heads, before.heads, len(layers), row.num_heads(net))
    neuron_steps = _steps("neurons", wanted.neurons, before.neurons, len(layers), row.num_neurons(net))
    with torch.no_grad():
        for layer, kept in zip(layers, head_steps, strict=True):
            if kept is not None:
                _cut_heads(row, layer, kept, width)
        for layer, kept in zip(layers, neuron_steps, strict=True):
            if kept is not None:
                _cut_neurons(row, layer, kept)
    for layer in layers:
        count_heads(row, layer)


def _steps(name: str, wanted: Units | None, before: Units | None, layers: int, whole: int) -> list[list[int] | None]:
    """Per layer the places, among the units of now, of those to keep; None where nothing changes."""
    if wanted is None or wanted == before:
        return [None] * layers
    if len(wanted) != layers:
        raise RecipeError(f"{name} are given for {len(wanted)} layers, but {layers} layers hold weights.")
    found: list[list[int] | None] = []
    for layer, kept in enumerate(wanted):
        now = {unit: place for place, unit in enumerate(before[layer] if before is not None else range(whole))}
        lost = [unit for unit in kept if unit not in now]
        if lost:
            why = "the model never had" if lost[0] >= whole else "were cut before"
            raise RecipeError(f"{name} of layer {layer}: {lost[:8]} {why}; it has {_few(sorted(now))}.")
        found.append([now[unit] for unit in kept])
    return found


def _few(units: list[int]) -> str:
    return f"{len(units)} ({', '.join(map(str, units[:8]))}{', …' if len(units) > 8 else ''})"


def _cut_heads(row: Anatomy, layer: Layer, kept: list[int], width: int) -> None:
    projections, out = row.qkv(layer), row.out(layer)
    whole = out.in_features
    device = out.weight.device
    of_heads = torch.tensor([h * width + i for h in kept for i in range(width)], dtype=torch.long, device=device)
    fused = len(projections) == 1
    rows = torch.cat([of_heads + part * whole for part in range(3)]) if fused else of_heads
    for linear in (*projections, *row.split_by_head(layer)):
        keep_rows(linear, rows)
    _keep_columns(out, of_heads)


def _cut_neurons(row: Anatomy, layer: Layer, kept: list[int]) -> None:
    up, down = row.up(layer), row.down(layer)
    columns = torch.tensor(kept, dtype=torch.long, device=down.weight.device)
    keep_rows(up, torch.cat([columns, columns + down.in_features]) if row.gated else columns)
    _keep_columns(down, columns)


def keep_rows(linear: nn.Linear, rows: Tensor) -> None:
    """Keep these outputs of a Linear, in place, so that every user of a shared module sees it."""
    linear.weight = nn.Parameter(linear.weight[rows].clone(), requires_grad=linear.weight.requires_grad)
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows].clone(), requires_grad=linear.bias.requires_grad)
    linear.out_features = len(rows)


def _keep_columns(linear: nn.Linear, columns: Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight[:, columns].clone(), requires_grad=linear.weight.requires_grad)
    linear.in_features = len(columns)


def count_heads(row: Anatomy, layer: Layer) -> None:
    """Tell the attention how many heads it has: DeBERTa splits by that number, the others look at the tensors."""
    attention = row.attention(layer)
    width = row.head_width(attention)
    heads = row.out(layer).in_features // width
    for name, value in (("num_attention_heads", heads), ("n_heads", heads), ("all_head_size", heads * width)):
        if hasattr(attention, name):
            setattr(attention, name, value)
    if heads == 0 and row.family == "deberta-v2" and not isinstance(attention, NoHeads):
        attention.__class__ = type("NoHeads", (NoHeads, type(attention)), {})


class NoHeads(nn.Module):
    """DeBERTa's attention of a layer that lost all heads: its own arithmetic cannot reshape tensors without elements."""

    query_proj: nn.Linear
    key_proj: nn.Linear
    value_proj: nn.Linear

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """(B, L, D) -> (B, L, 0): of nothing, the output projection makes its bias. Projections are called all the same,
        because signals are read off them."""
        for project in (self.query_proj, self.key_proj):
            project(hidden_states)
        return self.value_proj(hidden_states), None
