"""Cut for real equals masked by zeros, in every family, by the stock forward and by ours; numbers stay those of the whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, KEPT_HEADS, KEPT_NEURONS, tiny_ids, tiny_net

from understudy.base.errors import DataError, RecipeError
from understudy.data.encode import Batch
from understudy.evaluate import measure
from understudy.models.anatomy import anatomy
from understudy.models.needs import Needs
from understudy.models.restructure import cut, num_units, physical_layers, restructure, reuse, schedule_of
from understudy.models.signals import forward
from understudy.models.structure import Structure, structure_of

HEADS, NEURONS = KEPT_HEADS, KEPT_NEURONS


def make_batch() -> Batch:
    sizes = [7, 3, 12, 5]
    return Batch(tiny_ids(1, sum(sizes), seed=3)[0], None, torch.tensor(sizes), sizes, None, np.arange(len(sizes)))


def masked(net: Any, heads: Sequence[Sequence[int]], neurons: Sequence[Sequence[int]]) -> Any:
    """The whole model, with the columns of the units that are to go set to zero."""
    net = copy.deepcopy(net)
    row = anatomy(net)
    width = row.head_dim(net)
    with torch.no_grad():
        for layer, keep_heads, keep_neurons in zip(physical_layers(net), heads, neurons, strict=True):
            gone = torch.ones(row.out(layer).in_features, dtype=torch.bool)
            for head in keep_heads:
                gone[head * width : (head + 1) * width] = False
            row.out(layer).weight[:, gone] = 0
            gone = torch.ones(row.down(layer).in_features, dtype=torch.bool)
            gone[list(keep_neurons)] = False
            row.down(layer).weight[:, gone] = 0
    return net


def units(net: Any) -> tuple[list[list[int]], list[list[int]]]:
    count = len(physical_layers(net))
    return HEADS[:count], NEURONS[:count]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_cut_equals_masked(family: str):
    for attention in ("eager", "sdpa") if family != "deberta-v2" else ("eager",):
        net, ids = tiny_net(family, attn_implementation=attention), tiny_ids()
        heads, neurons = units(net)
        whole = masked(net, heads, neurons)
        cut(net, heads=heads, neurons=neurons)
        mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
        expected = whole(ids, attention_mask=mask, output_hidden_states=True)
        got = net(ids, attention_mask=mask, output_hidden_states=True)
        torch.testing.assert_close(got.logits, expected.logits, atol=1e-6, rtol=0)
        assert len(got.hidden_states) == len(expected.hidden_states)
        assert num_units(net) == ([len(kept) for kept in heads], [len(kept) for kept in neurons])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_our_forward_runs_it_and_sees_fewer_heads(family: str):
    net, batch = tiny_net(family), make_batch()
    heads, neurons = units(net)
    whole = masked(net, heads, neurons)
    cut(net, heads=heads, neurons=neurons)
    needs = Needs(logits=True, hidden=(1, 2, 3), qkv=(1, 2, 3))
    expected = forward(whole, batch, needs, kind="classification")
    got = forward(net, batch, needs, kind="classification")
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-6, rtol=0)
    for index in (1, 2, 3):
        torch.testing.assert_close(got.hidden[index], expected.hidden[index], atol=2e-6, rtol=0)
        kept = heads[(index - 1) % len(heads)]
        for ours, full in zip(got.qkv[index], expected.qkv[index], strict=True):
            assert ours.shape == (sum(batch.sizes), len(kept), 8)
            torch.testing.assert_close(ours, full[:, kept], atol=2e-6, rtol=0)


@torch.no_grad()
def test_deberta_with_position_projections_of_its_own():
    net, ids = tiny_net("deberta-v2", share_att_key=False), tiny_ids()
    whole = masked(net, HEADS, NEURONS)
    cut(net, heads=HEADS, neurons=NEURONS)
    torch.testing.assert_close(net(ids).logits, whole(ids).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("width, heads", [(60, 5), (60, 3)])  # heads of width 12 and 20
@torch.no_grad()
def test_head_widths_that_are_no_power_of_two(width: int, heads: int):
    net, ids = tiny_net("bert", hidden_size=width, num_attention_heads=heads), tiny_ids()
    keep = [[heads - 1], [0, 1], [2]]
    whole = masked(net, keep, [list(range(48))] * 3)
    cut(net, heads=keep)
    torch.testing.assert_close(net(ids).logits, whole(ids).logits, atol=1e-6, rtol=0)
    assert structure_of(net) == Structure(heads=tuple(map(tuple, keep)))


@torch.no_grad()
def test_cuts_compose_in_the_numbering_of_the_whole():
    step_by_step, at_once = tiny_net("bert"), tiny_net("bert")
    cut(step_by_step, heads=[[3, 1, 0], [0, 1, 2, 3], [2, 3]])
    cut(step_by_step, neurons=[[10, 20, 30, 40]] * 3)
    cut(step_by_step, heads=[[1, 3], [2], [3]], neurons=[[30, 10], [20], []])
    cut(at_once, heads=[[1, 3], [2], [3]], neurons=[[30, 10], [20], []])
    assert structure_of(step_by_step) == structure_of(at_once)
    for name, tensor in at_once.state_dict().items():
        assert torch.equal(tensor, step_by_step.state_dict()[name]), name
    with pytest.raises(RecipeError, match=r"heads of layer 0: \[0\] were cut before; it has 2 \(1, 3\)"):
        cut(step_by_step, heads=[[0, 1], [2], [3]])
    with pytest.raises(RecipeError, match=r"neurons of layer 1: \[48\] the model never had"):
        cut(tiny_net("bert"), neurons=[[0], [48], [0]])
    with pytest.raises(RecipeError, match="2 layers, but 3 layers hold weights"):
        cut(tiny_net("bert"), heads=[[0], [1]])


def test_a_refused_cut_changes_nothing():
    net = tiny_net("bert")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(RecipeError):
        cut(net, heads=[[0]] * 3, neurons=[[0], [99], [0]])
    assert structure_of(net) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@torch.no_grad()
def test_restructure_equals_cut_and_reuse():
    wanted = Structure(
        heads=((2, 0), (1,)), neurons=((5, 1), (47,)), schedule=((0, False), (1, False), (0, True)), own_norms=True
    )
    one, other = (tiny_net("bert", num_hidden_layers=2) for _ in range(2))
    restructure(one, wanted)
    cut(other, heads=wanted.heads, neurons=wanted.neurons)
    reuse(other, wanted.schedule, own_norms=True)
    assert structure_of(one) == structure_of(other) == wanted
    torch.testing.assert_close(one(tiny_ids()).logits, other(tiny_ids()).logits, atol=0, rtol=0)
    with pytest.raises(RecipeError, match="has a structure already"):
        restructure(one, wanted)


@torch.no_grad()
def test_a_shared_network_is_cut_once_for_all_uses():
    net, ids = tiny_net("bert", num_hidden_layers=2), tiny_ids()
    reuse(net, ((0, False), (1, False), (0, True), (1, False)))
    whole = masked(net, [[3], [0, 2]], [[1, 2, 3], [4]])
    cut(net, heads=[[3], [0, 2]], neurons=[[1, 2, 3], [4]])
    assert anatomy(net).num_layers(net) == 4 and len(physical_layers(net)) == 2
    assert [layer.attention.self.num_attention_heads for layer in anatomy(net).layers(net)] == [1, 2, 1, 2]
    torch.testing.assert_close(net(ids).logits, whole(ids).logits, atol=1e-6, rtol=0)


def test_flops_are_those_of_what_is_left():
    """Each head: four projections and two products of length by length; each neuron: a row and a column; by hand."""
    length, width, head = 6, 32, 8
    full, left = tiny_net("bert"), tiny_net("bert")
    cut(left, heads=HEADS, neurons=NEURONS)
    of_head = 2 * length * width * head * 4 + 2 * 2 * length * length * head
    of_neuron = 2 * 2 * length * width
    gone = (12 - 5) * of_head + (3 * 48 - 51) * of_neuron
    assert measure.flops(full, length=length) - measure.flops(left, length=length) == gone
    reuse(left, ((0, False), (1, False), (2, False), (0, True)))
    again = 2 * of_head + 3 * of_neuron
    assert measure.flops(full, length=length) - measure.flops(left, length=length) == gone - again


def test_schedules_of_stock_networks():
    assert schedule_of(tiny_net("bert")) == ((0, False), (1, False), (2, False))
    assert schedule_of(tiny_net("albert")) == ((0, False),) * 3
    two = tiny_net("albert", num_hidden_layers=4, num_hidden_groups=2)
    assert schedule_of(two) == ((0, False), (0, False), (1, False), (1, False))
    assert len(physical_layers(two)) == 2


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"heads": ((0, 0),)}, "heads of layer 0"),
        ({"neurons": ((0,), (-1,))}, "neurons of layer 1"),
        ({"heads": ((0,),), "neurons": ((0,), (0,))}, "heads are given for 1 layers, neurons for 2"),
        ({"schedule": ((0, False), (2, False))}, r"entry 1.*\[1, false\] has to stand before"),
        ({"schedule": ((0, True),)}, "entry 0"),
        ({"schedule": ()}, "name at least one layer"),
    ],
)
def test_structures_that_contradict_themselves(parts: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        Structure(**parts)


def test_json_round_trip():
    whole = Structure(heads=((1, 0), ()), neurons=((), (3,)), schedule=((0, False), (1, False), (1, True)), own_norms=True)
    assert Structure.from_json(whole.to_json()) == whole
    assert Structure().to_json() == {}
    assert whole.to_json()["schedule"] == [[0, False], [1, False], [1, True]]


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "must be an object"),
        ({"head": []}, "must be an object with the keys embedding_rank, heads"),
        ({"heads": [[0, "1"]]}, "file: heads must be a list of whole numbers"),
        ({"neurons": [[True]]}, "file: neurons must be"),
        ({"schedule": [[0, 1]]}, "file: schedule must be a list of"),
        ({"own_norms": 1}, "file: own_norms must be true or false"),
        ({"heads": [[1, 1]]}, "file: heads of layer 0"),
    ],
)
def test_json_that_is_no_structure(content: Any, message: str):
    with pytest.raises(DataError, match=message):
        Structure.from_json(content, where="file")
