"""Networks that no stock class can hold: narrower layers, and layers that are used more than once.

A `Structure` (structure.py) says which units of each layer were kept and in which order the layers are applied. It lives in
`net.config.understudy` as JSON; these functions make networks follow it:

    restructure   a stock network becomes that structure, its weights kept where the structure keeps them
    cut           fewer heads and neurons, by their numbers in the uncut model
    reuse         layers that are used again
    lower_rank    word embeddings as a product
    content_of    what a network is, for structure.json

The network's class becomes that of compact.py, which knows how to save and load itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError, RecipeError
from understudy.models.anatomy import Layer, Net, anatomy
from understudy.models.compact import become, follow
from understudy.models.lowrank import lower_embeddings
from understudy.models.narrow import count_heads, narrow
from understudy.models.source import read_json
from understudy.models.structure import Schedule, Structure, Units, structure_of
from understudy.models.virtual import repeat

FILE = "structure.json"
"""Beside config.json, for people and tools that do not read it."""


def restructure(net: Net, structure: Structure) -> None:
    """Turn a stock network into a structure, in place: kept units keep their weights, later uses share those of the first.

    Raises RecipeError where the network is not a stock one, or the structure does not fit it.
    """
    if structure_of(net) is not None:
        raise RecipeError("This network has a structure already; cut it further, or start from a stock network.")
    follow(net, structure)
    become(net, structure)


def reuse(net: Net, schedule: Schedule, *, own_norms: bool = False) -> None:
    """Let a network, stock or cut, use its layers in the order of a schedule, in place.

    Raises RecipeError where the schedule does not fit, or queries and keys cannot be exchanged.
    """
    _require_encoder(net, "student.share")
    before = structure_of(net) or Structure()
    if before.schedule is not None:
        raise RecipeError("This network uses its layers by a schedule already.")
    wanted = replace(before, schedule=schedule, own_norms=own_norms)
    repeat(net, wanted)
    become(net, wanted)


def cut(
    net: Net, *, heads: Sequence[Sequence[int]] | None = None, neurons: Sequence[Sequence[int]] | None = None
) -> None:
    """Keep these heads and FFN neurons, in this order, and let the others go, in place.

    Rows of query, key, value and up-projection, columns of attention output and down-projection, and the biases that
    belong to rows. A layer without heads or neurons keeps the bias of its output. All numbers are those of the uncut
    model, however often it was cut. Stock and packed forwards then give what the whole model gives with the other units
    masked by zeros.

    Args:
        heads, neurons: for each physical layer the units to keep; None keeps what there is.

    Raises:
        RecipeError: units that do not exist, or were cut before.
    """
    _require_encoder(net, "student.sparsity")
    before = structure_of(net) or Structure()
    wanted = replace(before, heads=_units(heads, before.heads), neurons=_units(neurons, before.neurons))
    row = anatomy(net)
    narrow(row, net, physical_layers(net), wanted=wanted, before=before)
    for layer in row.layers(net):
        count_heads(row, layer)
    become(net, wanted)


def lower_rank(net: Net, rank: int) -> None:
    """Give a network, stock or cut, word embeddings of low rank, in place. Raises RecipeError as `lowrank.lower_embeddings`."""
    before = structure_of(net) or Structure()
    lower_embeddings(net, rank)
    become(net, replace(before, embedding_rank=rank))


def _require_encoder(net: Net, key: str) -> None:
    """Refuse decoders: heads share keys and values, and a shape that no stock class holds runs in no engine that serves them."""
    if anatomy(net).causal:
        raise RecipeError(
            f"{key} is for encoders. A {anatomy(net).family} keeps a stock shape: fewer layers (student.num_layers), or the "
            "teacher cut to sizes (student: {config: {intermediate_size: …, num_key_value_heads: …}, init: teacher})."
        )


def _units(wanted: Sequence[Sequence[int]] | None, before: Units | None) -> Units | None:
    return before if wanted is None else tuple(tuple(map(int, kept)) for kept in wanted)


def physical_layers(net: Net) -> list[Layer]:
    """The layers that hold weights, each once, at its first use."""
    structure = structure_of(net)
    layers = anatomy(net).layers(net)
    if structure is not None and structure.schedule is not None and anatomy(net).family != "albert":
        return [layers[use] for use in structure.first_uses()]
    return list({id(anatomy(net).up(layer)): layer for layer in reversed(layers)}.values())[::-1]


def schedule_of(net: Net) -> Schedule:
    """The virtual layers of any network. ALBERT's stock class is a schedule already, without exchanges."""
    structure = structure_of(net)
    if structure is not None and structure.schedule is not None:
        return structure.schedule
    number = {id(anatomy(net).up(layer)): place for place, layer in enumerate(physical_layers(net))}
    return tuple((number[id(anatomy(net).up(layer))], False) for layer in anatomy(net).layers(net))


def num_units(net: Net) -> tuple[list[int], list[int]]:
    """How many heads and how many neurons each physical layer has now."""
    row = anatomy(net)
    layers = physical_layers(net)
    width = row.head_dim(net)
    return [row.out(layer).in_features // width for layer in layers], [row.down(layer).in_features for layer in layers]


def content_of(net: Net) -> dict[str, Any] | None:
    """The content of structure.json; None for a stock network, which needs none.

    `structure` is that of `structure.Structure`, kept units in the numbering of the uncut model; `uncut` says what a layer had
    before, `layers` what each physical layer has; each parameter is counted once however often it is used.
    """
    structure = structure_of(net)
    if structure is None:
        return None
    row = anatomy(net)
    heads, neurons = num_units(net)
    return {
        "family": row.family,
        "structure": structure.to_json(),
        "uncut": {"heads": row.num_heads(net), "neurons": row.num_neurons(net), "head_width": row.head_dim(net)},
        "layers": [{"heads": h, "neurons": n} for h, n in zip(heads, neurons, strict=True)],
        "physical_layers": len(physical_layers(net)),
        "virtual_layers": row.num_layers(net),
        "num_parameters": sum(parameter.numel() for parameter in net.parameters()),
    }


def check_file(folder: Path, config: Any, ref: str) -> None:
    """Raise DataError where a folder's structure.json disagrees with its configuration."""
    path = folder / FILE
    if not path.is_file():
        return
    told = read_json(path)
    if told.get("form") in ("hf", "padded"):  # an export in stock form tells what it was made from
        return
    said = Structure.from_json(told.get("structure") or {}, where=f"{path}: structure")
    content = getattr(config, "understudy", None)
    if Structure.from_json(content or {}, where=f"{ref}: config.json: understudy") != said:
        raise DataError(
            f"'{ref}': {FILE} and config.json describe different structures; the folder mixes files of two models. Save or "
            "download it again."
        )
