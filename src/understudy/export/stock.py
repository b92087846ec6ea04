"""A student with a structure as a network of its stock class, and what has to be added for that.

A stock class wants all heads of a layer (none of our families can have fewer at the same width), one FFN width for all
layers, and weights of its own for each layer. Zeros give it those: a head whose query, key and value are zero adds
nothing, nor does a neuron that nothing comes out of. Where no zeros are needed the stock form is the student itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.models.anatomy import Anatomy, Layer, anatomy
from understudy.models.compact import stock_class_of, stock_config
from understudy.models.lowrank import with_whole_embeddings
from understudy.models.model import Model
from understudy.models.restructure import content_of, num_units, physical_layers
from understudy.models.structure import structure_of
from understudy.students.share import unroll


def needs_understudy(net: Any) -> bool:
    """Whether a saved network loads only after `understudy.register()`."""
    return structure_of(net) is not None


def shape_of(net: Any) -> dict[str, Any]:
    """What structure.json says of a student: kept units in the original numbering, counts before and after.

    As `restructure.content_of`, but for stock networks too: their `structure` is empty, nothing was cut.
    """
    row, (heads, neurons) = anatomy(net), num_units(net)
    return content_of(net) or {
        "family": row.family,
        "structure": {},
        "uncut": {"heads": row.num_heads(net), "neurons": row.num_neurons(net), "head_width": row.head_dim(net)},
        "layers": [{"heads": h, "neurons": n} for h, n in zip(heads, neurons, strict=True)],
        "physical_layers": len(heads),
        "virtual_layers": row.num_layers(net),
        "num_parameters": sum(parameter.numel() for parameter in net.parameters()),
    }


def to_hf(model: Model) -> Model:
    """The stock network that is this student; shared layers get copies of their weights.

    Raises:
        RecipeError: no stock configuration says what it is.
    """
    row, net = anatomy(model.net), model.net
    heads, neurons = num_units(net)
    fewer = [layer for layer, kept in enumerate(heads) if kept != row.num_heads(net)]
    why = ""
    if fewer:
        why = (
            f"layer {fewer[0]} has {heads[fewer[0]]} of {row.num_heads(net)} heads, and {row.family} wants all of them"
        )
    elif len(set(neurons)) > 1:
        why = f"its FFN widths differ ({min(neurons)} to {max(neurons)}), and {row.family} has one width for all layers"
    elif neurons[0] == 0:
        why = f"its layers have no FFN neurons left, and {row.family} wants at least one"
    if why:
        raise RecipeError(
            f"--to hf: a stock {row.family} cannot hold this student: {why}. Choose --to padded (loads anywhere, zeros in "
            "place of what was cut), onnx (exact and small, for onnxruntime) or exact (small, needs `understudy.register()`)."
        )
    return to_padded(model)


def to_padded(model: Model) -> Model:
    """The stock network that computes what this student does: FFN as wide as the widest layer, all heads, own weights."""
    model = unroll(model)
    structure = structure_of(model.net)
    if structure is None:
        return model
    row, narrow = anatomy(model.net), model.net
    config = stock_config(narrow)
    width = "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size"  # DistilBERT's name and all others'
    setattr(config, width, max(1, *num_units(narrow)[1]))
    with seeds.torch_seed(0, "padded"), torch.no_grad():  # drawing initial weights must not move the caller's generator
        wide = stock_class_of(type(narrow))(config).eval().to(narrow.dtype)
        state = with_whole_embeddings(narrow)
        for name, tensor in wide.state_dict().items():
            if tensor.shape == state[name].shape:
                tensor.copy_(state[name])
        for number, (small, large) in enumerate(zip(physical_layers(narrow), physical_layers(wide), strict=True)):
            heads = structure.heads[number] if structure.heads is not None else range(row.num_heads(narrow))
            _pad_attention(row, small, large, list(heads), row.head_dim(narrow))
            _pad_ffn(row, small, large)
    return replace(model, net=wide)


def _pad_attention(row: Anatomy, small: Layer, large: Layer, heads: list[int], width: int) -> None:
    """Each kept head at its own place among all heads, zeros in the places of the others."""
    at = [head * width + i for head in heads for i in range(width)]
    fused = len(row.qkv(small)) == 1
    rows = [part * row.out(large).in_features + i for part in range(3) for i in at] if fused else at
    narrow, wide = ((*row.qkv(layer), *row.split_by_head(layer)) for layer in (small, large))
    for one, other in zip(narrow, wide, strict=True):
        _spread_rows(one, other, rows)
    _spread_columns(row.out(small), row.out(large), at)


def _pad_ffn(row: Anatomy, small: Layer, large: Layer) -> None:
    """The kept neurons first, zeros behind them."""
    at = list(range(row.down(small).in_features))
    gates = [row.down(large).in_features + i for i in at] if row.gated else []
    _spread_rows(row.up(small), row.up(large), at + gates)
    _spread_columns(row.down(small), row.down(large), at)


def _spread_rows(small: Any, large: Any, rows: list[int]) -> None:
    """The outputs of a narrow Linear as those numbered `rows` of a wide one; its others give zero."""
    for one, other in ((small.weight, large.weight), (small.bias, large.bias)):
        if one is not None:
            other.zero_()
            other[rows] = one


def _spread_columns(small: Any, large: Any, columns: list[int]) -> None:
    """The inputs of a narrow Linear as those numbered `columns` of a wide one, which ignores its others."""
    large.weight.zero_()
    large.weight[:, columns] = small.weight
