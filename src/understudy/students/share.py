"""A student that uses its layers more than once: twice the depth at the same size, and at twice the time.

SPS (shuffled parameter sharing, Pea-KD, Cho et al. 2020, section 3.2) lets each layer run a second time with the roles of
query and key exchanged. Sharing saves parameters, never time: compare such a student with one of the same depth.

Kinds, for layers 0 … S-1 (`~` marks an exchanged use):

    sps        0 1 2  0~ 1~ 2~; with six layers as published, 0 1 2 3 4 5  3~ 4~ 5~
    cyclic     all layers again, whatever their number
    top        the upper half again (of seven layers the upper three)
    mirrored   back down: 0 1 2  2~ 1~ 0~

With `_no_shuffle` behind its name a kind uses its layers again unchanged. A list of [layer, exchanged] is taken as it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean
from understudy.models.anatomy import Net
from understudy.models.compact import stock_class_of, stock_config
from understudy.models.model import Model
from understudy.models.restructure import physical_layers, restructure, reuse, schedule_of
from understudy.models.structure import Schedule, Structure, structure_of
from understudy.models.virtual import Exchanged, stack_of

PLAIN = "_no_shuffle"
SCHEDULES = tuple(kind + end for kind in ("sps", "cyclic", "top", "mirrored") for end in ("", PLAIN))
PUBLISHED_TOP = 6
"""The number of layers for which the released code repeats the upper half only."""


def schedule_for(kind: str | Sequence[tuple[int, bool]], uses: Sequence[int]) -> Schedule:
    """The virtual layers of a kind of sharing.

    Args:
        kind: a name (see above), or the schedule itself.
        uses: the physical layer of each layer there is now: 0 … S-1, but for ALBERT, which repeats already.

    >>> schedule_for("sps", range(2))
    ((0, False), (1, False), (0, True), (1, True))
    >>> [layer for layer, _ in schedule_for("sps", range(6))], len(schedule_for("cyclic", range(6)))
    ([0, 1, 2, 3, 4, 5, 3, 4, 5], 12)
    >>> schedule_for("mirrored_no_shuffle", range(2))
    ((0, False), (1, False), (1, False), (0, False))
    """
    if not isinstance(kind, str):
        return tuple((int(layer), bool(exchanged)) for layer, exchanged in kind)
    if kind not in SCHEDULES:
        raise RecipeError(f"student.share: '{kind}' is not one of {', '.join(SCHEDULES)}.{did_you_mean(kind, SCHEDULES)}")
    rule = kind.removesuffix(PLAIN)
    first = list(uses)
    if rule == "top" or (rule == "sps" and len(first) == PUBLISHED_TOP):
        again = first[len(first) - max(1, len(first) // 2) :]
    else:
        again = first[::-1] if rule == "mirrored" else first
    return tuple([(layer, False) for layer in first] + [(layer, not kind.endswith(PLAIN)) for layer in again])


def share(model: Model, kind: str | Sequence[tuple[int, bool]], *, own_norms: bool = False) -> Model:
    """A student whose layers are used again by a schedule; the given model is not changed.

    Nothing is initialised: the physical layers keep their weights. With one exception: where ModernBERT's first layer is
    used again, a copy of the embeddings' norm stands before it, which that layer needs in any place but the first.

    Args:
        kind: a name of `SCHEDULES`, or a list of (layer, exchanged); "none" gives a copy.
        own_norms: later uses get norms of their own, copies of the first's to begin with: 4 · width parameters each.

    Raises:
        RecipeError: an unknown kind, a schedule that leaves out a layer, a model that shares its layers already, or one
            whose queries and keys cannot be exchanged.
    """
    net = copy.deepcopy(model.net)
    share_net(net, kind, own_norms=own_norms)
    schedule = schedule_of(net)
    shown = " ".join(f"{layer}{'~' if exchanged else ''}" for layer, exchanged in schedule)
    return dataclasses.replace(
        model,
        net=net.eval(),
        tokenizer=copy.deepcopy(model.tokenizer),
        source=f"{model.source}, layers {shown}",
        notes=(*model.notes, f"student: layers are used in the order {shown} (~ with query and key exchanged)."),
    )


def shares(net: Net) -> bool:
    """Whether a network uses layers by a schedule."""
    structure = structure_of(net)
    return structure is not None and structure.schedule is not None


def share_net(net: Net, kind: str | Sequence[tuple[int, bool]], *, own_norms: bool = False, again: bool = True) -> None:
    """`share` on a network, in place.

    Args:
        again: refuse a network that shares its layers already; otherwise leave it as it is.
    """
    if kind == "none" or (not again and shares(net)):
        return
    if shares(net):
        raise RecipeError("student.share: this student shares its layers already; use student.share: none.")
    schedule = schedule_for(kind, [layer for layer, _ in schedule_of(net)])
    held, used = len(physical_layers(net)), {layer for layer, _ in schedule}
    if used != set(range(held)):
        raise RecipeError(
            f"student.share: the schedule uses layers {sorted(used)}, but the student has layers 0 to {held - 1}, and "
            "each must be used."
        )
    reuse(net, schedule, own_norms=own_norms)


def unroll(model: Model) -> Model:
    """The same function as a network with one layer for each use, its weights copied, queries and keys exchanged.

    A stock network, which everything that reads transformers checkpoints can load; or, where layers were pruned, a narrow
    one. A model that shares nothing is returned as it is.
    """
    structure = structure_of(model.net)
    if structure is None or structure.schedule is None:
        return model
    with seeds.torch_seed(0, "unroll"):  # drawing initial weights must not move the caller's generator
        net = stock_class_of(type(model.net))(stock_config(model.net))
    heads, neurons = (
        None if units is None else tuple(units[layer] for layer, _ in structure.schedule)
        for units in (structure.heads, structure.neurons)
    )
    if heads is not None or neurons is not None or structure.embedding_rank is not None:
        restructure(net, Structure(heads, neurons, embedding_rank=structure.embedding_rank))
    net.to(dtype=model.net.dtype)
    net.load_state_dict(_unshared(model.net))
    return dataclasses.replace(
        model,
        net=net.eval(),
        tokenizer=copy.deepcopy(model.tokenizer),
        notes=(*model.notes, f"student: unrolled to {len(structure.schedule)} layers with weights of their own."),
    )


def _unshared(net: Net) -> dict[str, torch.Tensor]:
    """Every weight under every name it has in a network with one layer for each use."""
    stack, _, _ = stack_of(net)
    prefix = next(name for name, module in net.named_modules() if module is stack) + "."
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(prefix)}
    for place, layer in enumerate(stack):
        for name, tensor in layer.state_dict().items():
            if f".{Exchanged.INNER}." in name:
                name = name.replace(f".{Exchanged.INNER}.", ".")
                tensor = torch.cat([tensor.chunk(3)[part] for part in (1, 0, 2)])
            state[f"{prefix}{place}.{name}"] = tensor
    return state
