"""A smaller model of stock shape: the same family, narrower everywhere alike, so that its configuration says all that it is.

    channels   the width of the model: what embeddings, blocks and norms pass on from layer to layer
    heads      as many in each layer; neurons likewise

What is kept is what matters most to the loss (importance.py), and keeps its weights; nothing else is changed. A channel, a head
or a neuron whose weights are zero can therefore go without a trace, but for norms: they take mean and variance over the
channels that are left.

Heads keep their width. Encoders have no setting of its own for it: it is hidden_size / num_attention_heads, so the width of the
model and the number of heads shrink together. Decoders have one, and heads of queries that share a head of keys and values: whole
groups go, and of those that stay as many heads each. Rotating the channels onto principal directions before the cut would
lose less, but a norm must commute with it: RMSNorm does (once its gain is put into the matrices that follow), LayerNorm behind
the residual sum, which every encoder here but ModernBERT has, does not, since its gain acts on what is passed on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.models.anatomy import Anatomy, Layer, Net, anatomy
from understudy.models.model import Model
from understudy.models.restructure import physical_layers
from understudy.models.structure import structure_of
from understudy.students.allocation import Scores
from understudy.students.fresh import require_decoder, resized

SIZES = ("hidden_size", "num_attention_heads", "intermediate_size")
GROUPS = "num_key_value_heads"


@dataclass(frozen=True)
class StockScores:
    """How much each unit matters, at least 0: units of layers, channels (D,), and inputs of the head's last Linear (D,)."""

    units: Scores
    channels: np.ndarray
    pooled: np.ndarray


def complete_sizes(net: Net, sizes: Mapping[str, int | None]) -> dict[str, int]:
    """Width, heads and neurons of the cut network, those that are not given as they follow: heads keep their width.

    Raises:
        RecipeError: more than there is, or a width that is no whole number of heads.
    """
    row = anatomy(net)
    wide, have = row.head_dim(net), {"hidden_size": row.width(net), "intermediate_size": row.num_neurons(net)}
    given = {name: size for name, size in sizes.items() if size is not None}
    known = (*SIZES, GROUPS) if row.causal else SIZES
    if unknown := sorted(set(given) - set(known)):
        raise RecipeError(
            f"student.config: with `init: teacher` a network is cut, and {unknown[0]} cannot be; give {', '.join(known)}."
        )
    if row.causal:
        return _none_larger(_of_decoder(net, given), _sizes_of_decoder(net))
    heads = given.get("num_attention_heads")
    width = given.get("hidden_size", have["hidden_size"] if heads is None else heads * wide)
    if width % wide or (heads is not None and heads * wide != width):
        raise RecipeError(
            f"student.config: a {row.family} whose heads are {wide} wide has hidden_size = {wide} · num_attention_heads; with "
            f"hidden_size {width} that are {width // wide or 1} heads of {(width // wide or 1) * wide} in all. Give one of the "
            "two, or both so."
        )
    made = {"hidden_size": width, "num_attention_heads": width // wide}
    made["intermediate_size"] = given.get("intermediate_size", have["intermediate_size"])
    return _none_larger(made, have)


def _none_larger(made: dict[str, int], have: Mapping[str, int]) -> dict[str, int]:
    for name, size in made.items():
        if size > have.get(name, size):
            raise RecipeError(f"student.config.{name} is {size}, but the teacher has {have[name]}; a cut makes nothing larger.")
    return made


def _sizes_of_decoder(net: Net) -> dict[str, int]:
    config = net.config
    return {name: getattr(config, name) for name in (*SIZES, GROUPS)} | {"head_dim": anatomy(net).head_dim(net)}


def _of_decoder(net: Net, given: Mapping[str, int]) -> dict[str, int]:
    """With heads alone, each group gets smaller by as many; with groups alone, groups stay as they are and are fewer."""
    have = _sizes_of_decoder(net)
    share = have["num_attention_heads"] // have[GROUPS]
    heads = given.get("num_attention_heads", given.get(GROUPS, have[GROUPS]) * share)
    made = have | dict(given) | {"num_attention_heads": heads}
    require_decoder(anatomy(net).family, width=made["hidden_size"], heads=heads, groups=made[GROUPS])
    return made


def cut_to_sizes(model: Model, sizes: Mapping[str, int | None], scores: StockScores) -> Model:
    """A new model of the same family with what matters most of the given one; that one is not changed.

    Args:
        model: of stock shape.
        sizes: see `complete_sizes`.
        scores: of this model.

    Raises:
        RecipeError: sizes that no network of the family has, or a model of another shape.
    """
    if structure_of(model.net) is not None:
        raise RecipeError(f"'{model.source}' has a shape of its own already; cut the model it was made from.")
    row, net = anatomy(model.net), model.net
    wanted = complete_sizes(net, sizes)
    config = resized(model, wanted)
    with seeds.torch_seed(0, "cut"):  # drawing initial weights must not move the caller's generator
        small = type(net)(config)
    small.to(dtype=net.dtype, device=net.device).eval()
    if lost := sorted({name for name, _ in net.named_parameters()} - {name for name, _ in small.named_parameters()}):
        raise RecipeError(  # ELECTRA: nothing stands between embeddings and layers that are equally wide
            f"student.config.hidden_size: a {row.family} that is {wanted['hidden_size']} wide has no place for {lost[0]}; choose "
            "another width."
        )
    channels = _best(scores.channels, wanted["hidden_size"], net)
    pooled = channels if model.kind.on_vocabulary else _best(scores.pooled, wanted["hidden_size"], net)
    wide = row.head_dim(net)
    with torch.no_grad():
        done: set[int] = set()
        for number, (old, new) in enumerate(zip(physical_layers(net), physical_layers(small), strict=True)):
            heads, groups = _kept_heads(scores.units.heads[number], wanted, net)
            neurons = _best(scores.units.neurons[number], wanted["intermediate_size"], net)
            places = torch.arange(wide, device=net.device)
            attention, shared = ((kept[:, None] * wide + places).flatten() for kept in (heads, groups))
            _copy_layer(row, old, new, channels, attention, shared, neurons)
            done |= {id(parameter) for parameter in new.parameters()}
        _copy_rest(net, small, channels, pooled, done)
        if row.family.startswith("gemma"):
            _rescale(row, net, small)
    heads = f"{wanted['num_attention_heads']} heads" + (f" in {wanted[GROUPS]} groups" if GROUPS in wanted else "")
    what = f"{wanted['hidden_size']} wide, {heads}, {wanted['intermediate_size']:,} neurons"
    note = f"student: cut from '{model.source}' to {what}; a stock {row.family}."
    return dataclasses.replace(model, net=small, source=f"{model.source}, {what}", notes=(*model.notes, note))


def _best(scores: np.ndarray, number: int, net: Net) -> Tensor:
    """The units with the highest scores, in rising order."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[:number]
    return torch.tensor(np.sort(order), device=net.device)


def _kept_heads(scores: np.ndarray, wanted: Mapping[str, int], net: Net) -> tuple[Tensor, Tensor]:
    """Heads, and heads of keys and values, that stay in a layer; the same where no head shares them."""
    if GROUPS not in wanted:
        heads = _best(scores, wanted["num_attention_heads"], net)
        return heads, heads
    share = len(scores) // net.config.num_key_value_heads
    by_group = np.asarray(scores, dtype=np.float64).reshape(-1, share)
    groups = _best(by_group.sum(axis=1), wanted[GROUPS], net)
    each = wanted["num_attention_heads"] // wanted[GROUPS]
    heads = [_best(by_group[group], each, net) + group * share for group in groups.tolist()]
    return torch.cat(heads), groups


def _rescale(row: Anatomy, net: Net, small: Net) -> None:
    """Gemma multiplies embeddings by the root of the width; the old factor stays, put into the weights. Where the head is the
    embeddings, the last norm takes it back (its gain is 1 + weight)."""
    factor = (row.width(net) / row.width(small)) ** 0.5
    row.embeddings(small).get_parameter("weight").mul_(factor)
    if row.backbone(small) is not small and small.config.tie_word_embeddings and small.get_output_embeddings() is not None:
        gain = row.backbone(small).norm.weight
        gain.copy_((1 + gain) / factor - 1)


def _copy_layer(
    row: Anatomy, old: Layer, new: Layer, channels: Tensor, attention: Tensor, shared: Tensor, neurons: Tensor
) -> None:
    """One layer: rows and columns of its matrices by what they are for, everything else by channels. `attention` are the rows of
    queries, `shared` those of keys and values."""
    copied: set[int] = set()

    def copy(source: nn.Linear, target: nn.Linear, rows: Tensor, columns: Tensor) -> None:
        target.weight.copy_(source.weight[rows][:, columns])
        if source.bias is not None:
            target.bias.copy_(source.bias[rows])
        copied.update(map(id, target.parameters()))

    whole = row.out(old).in_features
    if len(row.qkv(old)) == 1:
        (packed,), (narrow,) = row.qkv(old), row.qkv(new)
        copy(packed, narrow, torch.cat([attention + part * whole for part in range(3)]), channels)
    else:
        for source, target, rows in zip(row.qkv(old), row.qkv(new), (attention, shared, shared), strict=True):
            copy(source, target, rows, channels)
    for source, target in zip(row.split_by_head(old), row.split_by_head(new), strict=True):
        copy(source, target, attention, channels)
    copy(row.out(old), row.out(new), channels, attention)
    gated = torch.cat([neurons, neurons + row.down(old).in_features]) if row.gated else neurons
    for source, target in zip((row.up(old), *row.gate(old)), (row.up(new), *row.gate(new)), strict=True):
        copy(source, target, gated, channels)
    copy(row.down(old), row.down(new), channels, neurons)
    given = dict(old.named_parameters())
    for name, parameter in new.named_parameters():
        if id(parameter) not in copied:
            parameter.copy_(_along(given[name], parameter, [channels] * parameter.dim()))


def _copy_rest(net: Net, small: Net, channels: Tensor, pooled: Tensor, done: set[int]) -> None:
    """Embeddings, norms and head, `done` being the parameters of the small network's layers.

    Where a square matrix (a pooler) stands between the last layer and the head's last Linear, its outputs are no channels any
    more, nor is what lies behind it.
    """
    row, width = anatomy(net), anatomy(net).width(net)
    bare = row.backbone(net) is net
    last = None if bare else row.final_linear(net)
    inside = {id(parameter) for layer in row.layers(net) for parameter in layer.parameters()}
    backbone = {id(parameter) for parameter in row.backbone(net).parameters()}
    poolers = [
        module for module in net.modules()
        if isinstance(module, nn.Linear) and module is not last and module.weight.shape == (width, width)
        and id(module.weight) not in inside
    ]  # fmt: skip
    behind = {id(parameter) for pooler in poolers for parameter in pooler.parameters()}
    given = dict(net.named_parameters())
    for name, parameter in small.named_parameters():
        if id(parameter) in done:
            continue
        before = given[name]
        axes = [channels] * parameter.dim()
        if id(before) in behind or (poolers and not bare and before.dim() == 1 and id(before) not in backbone):
            axes[0] = pooled
        if poolers and last is not None and before is last.weight:
            axes[1] = pooled
        parameter.copy_(_along(before, parameter, axes))


def _along(before: Tensor, after: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """A tensor cut along every axis that is shorter afterwards."""
    for axis, kept in enumerate(axes):
        if before.shape[axis] != after.shape[axis]:
            before = before.index_select(axis, kept)
    return before
