"""A student that starts as a cut-out of its teacher: layers copied, widths cut to what weighs most, embeddings copied.

Which parts are kept is read off the weights alone, so no data is needed: of the width those dimensions whose word
embeddings vary most, of each feed-forward block those neurons whose ways in and out are strongest, of the attention the
first rows of its projections. Cutting a width breaks what the teacher can do; it is a start, not a small teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.mapping import chosen
from understudy.models.anatomy import Anatomy, anatomy
from understudy.models.model import Model


@torch.no_grad()
def start_from_teacher(student: Model, teacher: Model) -> Model:
    """Fill a fresh student with its teacher's weights; returns the same student.

    Layer j comes from the last layer of the j-th group of the teacher's (`keep: group_last`); ALBERT's shared layer is copied.
    Heads of another width get the teacher's rows in their order.
    """
    theirs, ours = teacher.net, student.net
    row = anatomy(theirs)
    width = chosen_dimensions(theirs, row.width(ours))
    sources, targets = row.layers(theirs), row.layers(ours)
    for j, i in enumerate(chosen("group_last", len(targets), len(sources))):
        _copy_layer(row, sources[i], targets[j], width)
    mine = {id(parameter) for layer in targets for parameter in layer.parameters()}
    given = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if id(parameter) not in mine and name in given:
            parameter.copy_(_cut(given[name], parameter.shape, width, row.width(theirs)))
    student.notes = (*student.notes, f"student: starts from the weights of '{teacher.source}', cut to its sizes.")
    return student


def chosen_dimensions(net: Any, wanted: int) -> Tensor:
    """(wanted,) int64, rising: the dimensions of the width in which word embeddings vary most.

    Where words are embedded more narrowly (ALBERT, some ELECTRA) the first dimensions.
    """
    row = anatomy(net)
    words = net.get_input_embeddings().weight
    if words.shape[1] != row.width(net):
        return torch.arange(wanted)
    return words.float().var(dim=0).topk(wanted).indices.sort().values


def chosen_neurons(row: Anatomy, layer: nn.Module, wanted: int) -> Tensor:
    """(wanted,) int64, rising: the neurons with the largest product of the norms of their input and output weights."""
    up, down = row.up(layer).weight, row.down(layer).weight
    ways_in = up.norm(dim=1)
    if row.gated:
        ways_in = ways_in.reshape(2, -1).norm(dim=0)
    return (ways_in * down.norm(dim=0)).topk(wanted).indices.sort().values


def _copy_layer(row: Anatomy, source: nn.Module, target: nn.Module, width: Tensor) -> None:
    full = row.out(source).weight.shape[0]
    neurons = chosen_neurons(row, source, row.down(target).in_features)
    attention = torch.arange(row.out(target).in_features)
    copied: set[int] = set()

    def role(theirs: nn.Linear, ours: nn.Linear, rows: Tensor, columns: Tensor) -> None:
        ours.weight.copy_(theirs.weight[rows][:, columns])
        copied.add(id(ours.weight))
        if ours.bias is not None and theirs.bias is not None:
            ours.bias.copy_(theirs.bias[rows])
            copied.add(id(ours.bias))

    parts = row.qkv(source)
    for theirs, ours in zip(parts, row.qkv(target), strict=True):
        stacked = 3 if len(parts) == 1 else 1
        role(theirs, ours, _stacked(attention, stacked, theirs.out_features), width)
    role(row.out(source), row.out(target), width, attention)
    halves = 2 if row.gated else 1
    role(row.up(source), row.up(target), _stacked(neurons, halves, row.up(source).out_features), width)
    role(row.down(source), row.down(target), width, neurons)
    given = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        if id(parameter) not in copied and name in given:
            parameter.copy_(_cut(given[name], parameter.shape, width, full))


def _stacked(rows: Tensor, times: int, total: int) -> Tensor:
    """Row numbers in `times` equal blocks of `total` rows, the same rows of each."""
    return torch.cat([rows + block * (total // times) for block in range(times)])


def _cut(tensor: Tensor, shape: Sequence[int], width: Tensor, full: int) -> Tensor:
    """A tensor cut to a shape: along the width by the chosen dimensions, along anything else from the front."""
    for axis, size in enumerate(shape):
        if tensor.shape[axis] == size:
            continue
        chosen = width if tensor.shape[axis] == full and size == len(width) else torch.arange(size)
        tensor = tensor.index_select(axis, chosen)
    return tensor
