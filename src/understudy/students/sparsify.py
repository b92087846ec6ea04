"""A pruned student: the teacher reordered, actually cut, or narrowed in place for as long as a step takes.

With the units of every layer in the order of their importance, the student of any sparsity is a prefix of each layer.
`Prefixes` uses that to train students of several sizes in one set of weights: inside `use` the layers of the network hold
views of their first rows and columns, so a step costs what the small network costs; on leaving, gradients are added to
the whole network's `.grad`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from understudy.models.anatomy import Net, anatomy
from understudy.models.model import Model
from understudy.models.narrow import count_heads
from understudy.models.restructure import cut, num_units, physical_layers
from understudy.models.structure import structure_of
from understudy.students.allocation import Allocation, LinearCost, Units

Key = TypeVar("Key", bound=Hashable)


def sparsify(model: Model, allocation: Allocation) -> Model:
    """A new, smaller model that holds what the allocation keeps, in its order; the given one is not changed.

    Args:
        model: uncut, or cut to more than this: an assistant on the way from teacher to student.

    Raises:
        RecipeError: units that the model does not have.
    """
    net = copy.deepcopy(model.net)
    cut(net, heads=allocation.heads, neurons=allocation.neurons)
    if not allocation.keeps_bias:
        with torch.no_grad():
            for linear in _idle_outputs(net):
                linear.bias.zero_()
    heads, neurons = (sum(numbers) for numbers in num_units(net))
    what = f"{heads} heads and {neurons:,} neurons"
    return dataclasses.replace(
        model,
        net=net,
        source=f"{model.source}, {what}",
        notes=(*model.notes, f"student: {what} of '{model.source}' were kept."),
    )


class Prefixes(Generic[Key]):
    """Sub-networks of one network, each a prefix of all its layers.

        model = sparsify(teacher, allocate(scores, 0.0))    # the same network, units in the order of their importance
        prefixes = Prefixes(model, {s: allocate(scores, s) for s in (0.5, 0.7, 0.9)})
        with prefixes.use(0.7):
            loss(forward(model.net, ...)).backward()
        ...                                                 # now it has been added to the .grad of the whole weights

    Inside `use` the network's parameters are views, so copies, `state_dict` and `parameters` are those of the sub-network;
    an optimiser made outside holds the whole weights. Gradients do not pass through the hooks of
    DistributedDataParallel: on several processes sum the whole weights' `.grad` after the last backward of a step.

    Raises:
        ValueError: an allocation that is no prefix of the network.
    """

    def __init__(self, model: Model, allocations: Mapping[Key, Allocation]) -> None:
        self._net, self._allocations = model.net, dict(allocations)
        structure = structure_of(model.net)
        for key, allocation in self._allocations.items():
            for name, kept in (("heads", allocation.heads), ("neurons", allocation.neurons)):
                present: Units = getattr(structure, name, None) or ()
                if len(present) != len(kept) or any(all_[: len(some)] != some for all_, some in zip(present, kept, strict=True)):
                    raise ValueError(f"The {name} of {key!r} are not a prefix of the network's; reorder it by the same scores.")

    @contextmanager
    def use(self, key: Key) -> Iterator[None]:
        """Make the network the sub-network `key`, weights shared, until the block is left. Not to be nested."""
        allocation = self._allocations[key]
        row, net = anatomy(self._net), self._net
        width = row.head_dim(net)
        with ExitStack() as back:
            for layer, (heads, neurons) in zip(physical_layers(net), allocation.widths, strict=True):
                fused = 3 if len(row.qkv(layer)) == 1 else 1
                for projection in (*row.qkv(layer), *row.split_by_head(layer)):
                    _narrow_rows(projection, fused, heads * width, back)
                _narrow_columns(row.out(layer), heads * width, back)
                _narrow_rows(row.up(layer), 2 if row.gated else 1, neurons, back)
                _narrow_columns(row.down(layer), neurons, back)
            for linear in [] if allocation.keeps_bias else _idle_outputs(net):
                _swap(linear, "bias", torch.zeros_like(linear.bias), back)
            for layer in row.layers(net):
                attention = row.attention(layer)
                back.callback(_put_back, attention, type(attention), dict(vars(attention)))
                count_heads(row, layer)
            yield


def parameters_of(net: Net, *, count: Literal["encoder", "total"] = "encoder") -> LinearCost:
    """How many parameters an allocation leaves: of the layers alone, or with embeddings, pooler and head."""
    row = anatomy(net)
    layers = physical_layers(net)
    num_heads, num_neurons = num_units(net)

    def share(linears: Sequence[nn.Linear], outputs: nn.Linear, units: int) -> float:
        """What one unit has of them; the bias of the output stays whatever is cut."""
        numbers = sum(parameter.numel() for linear in linears for parameter in linear.parameters())
        return (numbers + outputs.weight.numel()) / units if units else 0.0

    per_head = [
        share((*row.qkv(layer), *row.split_by_head(layer)), row.out(layer), heads)
        for layer, heads in zip(layers, num_heads, strict=True)
    ]
    per_neuron = [
        share((row.up(layer),), row.down(layer), neurons) for layer, neurons in zip(layers, num_neurons, strict=True)
    ]
    inside = {id(p): p.numel() for layer in row.layers(net) for p in layer.parameters()}
    counted = {id(p): p.numel() for p in net.parameters()} if count == "total" else inside
    cut_at_most = sum(a * n for a, n in zip((*per_head, *per_neuron), (*num_heads, *num_neurons), strict=True))
    return LinearCost(tuple(per_head), tuple(per_neuron), rest=sum(counted.values()) - cut_at_most)


def _narrow_rows(linear: nn.Linear, parts: int, size: int, back: ExitStack) -> None:
    """The first `size` outputs of each of `parts` projections that lie one behind the other."""
    for name in ("weight", "bias"):
        if getattr(linear, name) is not None:
            _swap(linear, name, _prefix(getattr(linear, name), 0, parts, size, back), back)
    back.callback(setattr, linear, "out_features", linear.out_features)
    linear.out_features = parts * size


def _narrow_columns(linear: nn.Linear, size: int, back: ExitStack) -> None:
    _swap(linear, "weight", _prefix(linear.weight, 1, 1, size, back), back)
    back.callback(setattr, linear, "in_features", linear.in_features)
    linear.in_features = size


def _prefix(whole: Tensor, dim: int, parts: int, size: int, back: ExitStack) -> Tensor:
    """A view of a parameter's beginning; what gradient it collects is added to the parameter's on the way back.

    An ordinary slice would do, but its backward pass writes a gradient as large as the whole for every sub-network.
    """

    def first(tensor: Tensor) -> Tensor:
        return tensor.unflatten(dim, (parts, tensor.shape[dim] // parts)).narrow(dim + 1, 0, size)

    leaf = first(whole.detach())
    if torch.is_grad_enabled() and whole.requires_grad:
        leaf.requires_grad_()
        back.callback(_add_gradient, whole, leaf, first)
    return leaf.flatten(dim, dim + 1)


def _add_gradient(whole: Tensor, leaf: Tensor, first: Callable[[Tensor], Tensor]) -> None:
    if leaf.grad is not None:
        if whole.grad is None:
            whole.grad = torch.zeros_like(whole)
        first(whole.grad).add_(leaf.grad)


def _swap(linear: nn.Linear, name: str, tensor: Tensor, back: ExitStack) -> None:
    parameters: dict[str, Any] = linear._parameters  # written directly: assigning would register and reorder
    back.callback(parameters.__setitem__, name, parameters[name])
    parameters[name] = tensor


def _put_back(module: nn.Module, kind: type, attributes: dict[str, Any]) -> None:
    module.__class__ = kind
    vars(module).update(attributes)


def _idle_outputs(net: Net) -> list[nn.Linear]:
    """Output projections of blocks without heads or neurons: all that is left of them is a bias."""
    row = anatomy(net)
    outputs = [linear for layer in physical_layers(net) for linear in (row.out(layer), row.down(layer))]
    return [linear for linear in outputs if linear.in_features == 0 and linear.bias is not None]
