"""Layers that are used again: what the exchange does, whose gradient it is, and the same function unrolled."""

from __future__ import annotations

import copy
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer

from understudy.base.errors import RecipeError
from understudy.data.encode import Batch
from understudy.evaluate import measure
from understudy.models.anatomy import anatomy
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.models.restructure import cut, physical_layers, schedule_of
from understudy.models.save import save_model
from understudy.models.signals import forward
from understudy.models.structure import structure_of
from understudy.recipe.types import ShareKind
from understudy.students import fresh, keep_layers, share, unroll
from understudy.students.share import SCHEDULES, schedule_for


def teacher(family: str = "bert", *, layers: int = 2, **changes: Any) -> Model:
    sizes = {"n_layers" if family == "distilbert" else "num_hidden_layers": layers}
    net = tiny_net(family, num_labels=3, **sizes, **changes)
    return Model(net, tiny_tokenizer(), ("yes", "no", "maybe"), "classification", "a teacher", "abc")


def compact(kind: str, layers: int) -> str:
    return " ".join(f"{i}{'~' if exchanged else ''}" for i, exchanged in schedule_for(kind, range(layers)))


@pytest.mark.parametrize(
    "kind, layers, shown",
    [
        ("sps", 1, "0 0~"),
        ("sps", 2, "0 1 0~ 1~"),
        ("sps", 3, "0 1 2 0~ 1~ 2~"),
        ("sps", 4, "0 1 2 3 0~ 1~ 2~ 3~"),
        ("sps", 6, "0 1 2 3 4 5 3~ 4~ 5~"),
        ("sps_no_shuffle", 6, "0 1 2 3 4 5 3 4 5"),
        ("cyclic", 6, "0 1 2 3 4 5 0~ 1~ 2~ 3~ 4~ 5~"),
        ("top", 3, "0 1 2 2~"),
        ("top", 1, "0 0~"),
        ("mirrored", 3, "0 1 2 2~ 1~ 0~"),
        ("mirrored_no_shuffle", 2, "0 1 1 0"),
    ],
)
def test_schedules(kind: str, layers: int, shown: str):
    assert compact(kind, layers) == shown


def test_kinds_are_those_of_the_recipe():
    assert sorted(SCHEDULES) == sorted(get_args(ShareKind))
    with pytest.raises(RecipeError, match="'spss' is not one of.*Did you mean"):
        schedule_for("spss", range(3))


@pytest.mark.parametrize("layers, parameters, virtual", [(1, 31_517_186, 2), (3, 45_692_930, 6), (6, 66_956_546, 9)])
def test_sizes_of_sps(layers: int, parameters: int, virtual: int):
    """Specification, acceptance test 1: the shape of BERT base with two classes."""
    from transformers import BertConfig, BertForSequenceClassification

    with torch.device("meta"):
        net = BertForSequenceClassification(BertConfig(num_hidden_layers=layers))
    plain = measure.num_parameters(net)
    model = share(teacher_with(net), "sps")
    assert measure.num_parameters(model.net) == plain == parameters
    assert anatomy(model.net).num_layers(model.net) == len(structure_of(model.net).schedule) == virtual
    names = [name for name, _ in model.net.named_parameters()]
    assert sum(".query.weight" in name for name in names) == layers


def teacher_with(net: Any) -> Any:
    model = teacher()
    model.net = net
    return model


def layer_scores(layer: Any, arguments: Any, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """What a layer gives to softmax, for the arguments it was called with."""
    seen = []
    original = torch.nn.functional.softmax

    def recorded(scores: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(scores)
        return original(scores, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", recorded)
        layer(*arguments[0], **arguments[1])
    return seen[0]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_exchange_transposes_the_scores(family: str, monkeypatch: pytest.MonkeyPatch):
    """Specification, acceptance test 2, by the stock attention, rotary and relative positions included."""
    for more in ({}, {"share_att_key": False}) if family == "deberta-v2" else ({},):
        model = share(teacher(family, layers=2, attn_implementation="eager", **more), "cyclic")
        layers = anatomy(model.net).layers(model.net)
        caught: list[Any] = []
        # The last layer that holds weights: in ModernBERT the first has no norm, but its second use has.
        number = len(layers) // 2 - 1
        hook = layers[number].register_forward_pre_hook(
            lambda module, args, kwargs, caught=caught: caught.append((args, kwargs)), with_kwargs=True
        )
        model.net(tiny_ids(2, 9))
        hook.remove()
        first = layer_scores(layers[number], caught[0], monkeypatch)
        args, kwargs = caught[0]
        if "relative_pos" in kwargs:  # DeBERTa goes on counting distances from the query
            kwargs = {**kwargs, "relative_pos": -kwargs["relative_pos"]}
        again = layer_scores(layers[-1], (args, kwargs), monkeypatch)
        assert first.shape[-2:] == (9, 9) and not torch.allclose(again, first, atol=1e-3)
        reach = (first > -1e3) & (again > -1e3)
        torch.testing.assert_close(again[reach], first.transpose(-1, -2)[reach], atol=2e-6, rtol=1e-5)


def test_gradients_sum_over_the_uses():
    """Specification, acceptance test 2: by the unrolled copies, and by finite differences."""
    model = teacher(layers=1)
    model.net.double()
    shared = share(model, "sps")
    copies = unroll(shared)
    direction = torch.randn(2, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(net: Any) -> torch.Tensor:
        return (net(tiny_ids()).logits * direction).sum()

    for net in (shared.net, copies.net):
        loss(net).backward()
    first, second = anatomy(copies.net).layers(copies.net)
    own = anatomy(shared.net).layers(shared.net)[0]
    attention, once, again = (layer.attention.self for layer in (own, first, second))
    for one, a, b in (
        (attention.query, once.query, again.key),
        (attention.key, once.key, again.query),
        (attention.value, once.value, again.value),
        (own.output.dense, first.output.dense, second.output.dense),
    ):
        torch.testing.assert_close(one.weight.grad, a.weight.grad + b.weight.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.bias.grad, a.bias.grad + b.bias.grad, rtol=1e-9, atol=1e-12)
    step = 1e-6
    for weight, place in ((attention.query.weight, (3, 7)), (attention.key.weight, (0, 1)), (own.output.dense.weight, (5, 2))):
        with torch.no_grad():
            weight[place] += step
            above = loss(shared.net)
            weight[place] -= 2 * step
            below = loss(shared.net)
            weight[place] += step
        assert weight.grad[place].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["sps", "mirrored_no_shuffle"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_unrolled_is_the_same_function(family: str, kind: str, tmp_path):
    """Specification, acceptance test 3. The unrolled student is a stock model that transformers loads by itself."""
    model, ids = share(teacher(family, layers=2), kind, own_norms=kind == "sps"), tiny_ids()
    flat = unroll(model)
    expected = model.net(ids).logits
    assert torch.equal(flat.net(ids).logits, expected)
    assert structure_of(flat.net) is None and type(flat.net).__module__.startswith("transformers.")
    assert anatomy(flat.net).num_layers(flat.net) == anatomy(model.net).num_layers(model.net) == 4
    folder = save_model(flat, tmp_path / "flat")
    assert torch.equal(type(flat.net).from_pretrained(folder).eval()(ids).logits, expected)
    assert digest(load_model(str(folder)).net) == digest(flat.net)
    assert unroll(flat) is flat


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_our_forward_tells_the_uses_apart(family: str):
    """States, queries, keys and values of each use are those of a layer of its own, packed or padded."""
    shared = share(teacher(family), "sps")
    sizes = [7, 3, 5]
    batch = Batch(tiny_ids(1, 15)[0], None, torch.tensor(sizes), sizes, None, np.arange(3))
    needs = Needs(logits=True, hidden=(1, 2, 3, 4), qkv=(1, 3, 4))
    got, expected = (forward(net, batch, needs, kind="classification") for net in (shared.net, unroll(shared).net))
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-6, rtol=0)
    for index in needs.hidden:
        torch.testing.assert_close(got.hidden[index], expected.hidden[index], atol=1e-6, rtol=0)
    for index in needs.qkv:
        for ours, theirs in zip(got.qkv[index], expected.qkv[index], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_what_is_made_of_a_student_with_a_structure():
    shared, narrow = share(teacher(), "sps"), teacher(layers=3)
    cut(narrow.net, heads=[[0], [1, 2], [3]])
    young = fresh(shared, {"hidden_size": 16}, seed=0)
    assert structure_of(young.net) is None and anatomy(young.net).num_layers(young.net) == 4
    assert structure_of(keep_layers(narrow, [1, 2]).net).heads == ((1, 2), (3,))
    with pytest.raises(RecipeError, match="unroll"):
        keep_layers(shared, [0])


@torch.no_grad()
def test_unrolling_a_pruned_student_keeps_its_layers_narrow():
    model, ids = share(teacher(layers=2), "sps"), tiny_ids()
    cut(model.net, heads=[[2], [0, 1]], neurons=[[7, 3], []])
    flat = unroll(model)
    assert torch.equal(flat.net(ids).logits, model.net(ids).logits)
    structure = structure_of(flat.net)
    assert structure.schedule is None and structure.heads == ((2,), (0, 1), (2,), (0, 1))


@torch.no_grad()
def test_the_given_model_is_not_changed():
    model = teacher(layers=2)
    before = digest(model.net)
    shared = share(model, "sps")
    for parameter in shared.net.parameters():
        parameter.zero_()
    assert digest(model.net) == before and structure_of(model.net) is None
    assert "0 1 0~ 1~" in shared.source


@torch.no_grad()
def test_norms_of_their_own():
    model, ids = teacher(layers=2), tiny_ids()
    plain, own = share(model, "sps"), share(model, "sps", own_norms=True)
    assert torch.equal(plain.net(ids).logits, own.net(ids).logits)  # copies to begin with
    more = measure.num_parameters(own.net) - measure.num_parameters(plain.net)
    assert more == 2 * 4 * 32  # two later uses, two norms each, weight and bias
    later = anatomy(own.net).norms(anatomy(own.net).layers(own.net)[2])[0]
    later.weight.mul_(2)
    assert torch.equal(plain.net(ids).logits, share(model, "sps").net(ids).logits)
    assert not torch.equal(own.net(ids).logits, plain.net(ids).logits)


@pytest.mark.parametrize("kind", ["sps", "sps_no_shuffle"])
@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
@torch.no_grad()
def test_each_use_is_recorded_once(family: str, kind: str):
    net = share(teacher(family, layers=2, attn_implementation="eager"), kind).net
    said = net(tiny_ids(), output_hidden_states=True, output_attentions=True)
    assert len(said.hidden_states) == 5 and len(said.attentions) == 4


def test_albert_repeats_its_groups():
    model = share(teacher("albert", layers=2), "sps")
    assert schedule_of(model.net) == ((0, False), (0, False), (0, True), (0, True))
    assert len(physical_layers(model.net)) == 1


def test_refusals():
    shared = share(teacher(layers=2), "sps")
    with pytest.raises(RecipeError, match="shares its layers already"):
        share(shared, "sps")
    with pytest.raises(RecipeError, match=r"uses layers \[0, 1\], but the student has layers 0 to 2"):
        share(teacher(layers=3), [(0, False), (1, False), (0, True)])
    with pytest.raises(RecipeError, match="cannot be exchanged: relative positions"):
        share(teacher("deberta-v2", layers=2, pos_att_type=["c2p"]), "sps")
    assert share(teacher("deberta-v2", layers=2, pos_att_type=["c2p"]), "sps_no_shuffle")
    grouped = teacher(layers=1)
    attention = anatomy(grouped.net).layers(grouped.net)[0].attention.self
    attention.key = torch.nn.Linear(32, 16)  # as in a decoder with two key heads for four query heads
    with pytest.raises(RecipeError, match="32 query outputs and 16 key outputs"):
        share(grouped, "sps")


def test_copies_of_a_shared_student_share_again():
    net = copy.deepcopy(share(teacher(layers=2), "sps").net)
    layers = anatomy(net).layers(net)
    assert layers[0].attention.self.query is layers[2].attention.self.key
    assert all(module.training for module in net.train().modules())
    assert net.half().bert.encoder.layer[2].attention.self.key.weight.dtype == torch.float16
