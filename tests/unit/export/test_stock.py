"""Stock forms compute what the pruned student computes: held against the uncut model with zeros in the cut places."""

from __future__ import annotations

import pytest
import torch
from exports import inputs, pruned, student
from tiny_models import FAMILIES

from understudy.base.errors import RecipeError
from understudy.export.stock import needs_understudy, shape_of, to_hf, to_padded
from understudy.models.anatomy import anatomy
from understudy.models.restructure import cut, num_units, physical_layers
from understudy.models.structure import structure_of
from understudy.students.share import share


def silenced(model, heads, neurons):
    """The uncut model with the outputs of all units but these multiplied by zero."""
    row, net = anatomy(model.net), model.net
    width = row.head_dim(net)
    with torch.no_grad():
        for layer, kept_heads, kept_neurons in zip(physical_layers(net), heads, neurons, strict=True):
            for linear, kept in (
                (row.out(layer), {h * width + i for h in kept_heads for i in range(width)}),
                (row.down(layer), set(kept_neurons)),
            ):
                for column in range(linear.in_features):
                    if column not in kept:
                        linear.weight[:, column] = 0
    return model


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padded_is_the_uncut_model_with_zeros(family):
    small = pruned(student(family))
    structure = structure_of(small.net)
    wide = to_padded(small)
    expected = silenced(student(family), structure.heads, structure.neurons).net(**inputs()).logits
    torch.testing.assert_close(wide.net(**inputs()).logits, expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(small.net(**inputs()).logits, expected, atol=2e-6, rtol=1e-5)
    assert type(wide.net) is type(student(family).net)
    assert not needs_understudy(wide.net) and needs_understudy(small.net)
    heads, neurons = num_units(wide.net)
    assert set(heads) == {4} and set(neurons) == {max(map(len, structure.neurons))}
    assert wide.labels == small.labels and wide.net.config.model_type == family


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_ffn_of_one_width_and_all_heads_are_a_stock_model(family):
    model = student(family)
    expected = model.net(**inputs()).logits
    layers = len(physical_layers(model.net))
    # All heads in another order, and no neuron lost but those that say nothing.
    with torch.no_grad():
        for layer in physical_layers(model.net):
            anatomy(model.net).down(layer).weight[:, 8:] = 0
    expected = model.net(**inputs()).logits
    cut(model.net, heads=[[2, 0, 3, 1]] * layers, neurons=[[7, 6, 5, 4, 3, 2, 1, 0]] * layers)
    made = to_hf(model)
    torch.testing.assert_close(made.net(**inputs()).logits, expected, atol=2e-6, rtol=1e-5)
    assert num_units(made.net) == ([4] * layers, [8] * layers)
    assert type(made.net) is type(student(family).net)


def test_what_no_stock_model_holds_is_refused_with_the_other_forms():
    with pytest.raises(RecipeError, match=r"layer 0 has 0 of 4 heads.*padded.*onnx.*exact"):
        to_hf(pruned(student()))
    model = student()
    cut(model.net, neurons=[[0, 1], [0], [0, 1, 2]])
    with pytest.raises(RecipeError, match=r"FFN widths differ \(1 to 3\)"):
        to_hf(model)
    model = student()
    cut(model.net, neurons=[[], [], []])
    with pytest.raises(RecipeError, match="no FFN neurons left"):
        to_hf(model)
    assert to_padded(model).net.config.intermediate_size == 1


def test_a_stock_model_is_its_own_form():
    model = student()
    assert to_hf(model) is model and to_padded(model) is model
    shape = shape_of(model.net)
    assert shape["structure"] == {} and shape["layers"] == [{"heads": 4, "neurons": 48}] * 3
    assert shape["uncut"] == {"heads": 4, "neurons": 48, "head_width": 8}
    cut(model.net, heads=[[0], [0], [0]])
    assert set(shape_of(model.net)) == set(shape)


def test_the_shape_has_the_numbers_of_the_uncut_model():
    model = student()
    cut(model.net, heads=[[3, 0], [1], []], neurons=[[5, 40], [1], [47, 0, 2]])
    cut(model.net, heads=[[3], [1], []])
    assert shape_of(model.net)["structure"] == {"heads": [[3], [1], []], "neurons": [[5, 40], [1], [47, 0, 2]]}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_shared_layers_get_weights_of_their_own(family):
    model = share(student(family), "cyclic")
    made = to_hf(model)
    torch.testing.assert_close(made.net(**inputs()).logits, model.net(**inputs()).logits, atol=2e-6, rtol=1e-5)
    assert type(made.net) is type(student(family).net) and made.net.config.num_hidden_layers == 6
    small = pruned(model)
    wide = to_padded(small)
    torch.testing.assert_close(wide.net(**inputs()).logits, small.net(**inputs()).logits, atol=2e-6, rtol=1e-5)
    assert type(wide.net) is type(made.net)
