"""Four ways to say the same network: the prefix of the reordered one, the cut one, the whole with the rest masked."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny_models
import torch
from torch.utils.flop_counter import FlopCounterMode

from understudy.base.errors import RecipeError
from understudy.base.seeds import numpy_rng
from understudy.data.encode import Encoded, collate
from understudy.evaluate.measure import num_parameters
from understudy.models.anatomy import anatomy
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.models.restructure import num_units, physical_layers, restructure
from understudy.models.signals import forward
from understudy.models.structure import Structure, structure_of
from understudy.students.allocation import Allocation, Scores, allocate
from understudy.students.importance import importance
from understudy.students.sparsify import Prefixes, parameters_of, sparsify


def model_of(family: str, kind: str = "classification", **changes) -> Model:
    net = tiny_models.tiny_net(family, {"tokens": "tokens"}.get(kind, "classification"), num_labels=3, **changes)
    return Model(net, None, ("a", "b", "c"), kind, "tiny", None)


def scores_of(model: Model, seed: int = 0) -> Scores:
    draw = numpy_rng(seed, "scores")
    heads, neurons = num_units(model.net)
    return Scores(tuple(draw.random(n) for n in heads), tuple(draw.random(n) for n in neurons))


def batch_of(rows: int = 4):
    draw = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(draw.integers(3, 9, rows))])
    ids, types = draw.integers(5, 24, offsets[-1]).astype(np.int32), np.zeros(offsets[-1], np.int8)
    return collate(Encoded([""] * rows, ids, offsets, types, np.zeros(rows, np.int64)), range(rows))


def logits(model: Model) -> torch.Tensor:
    found = forward(model.net, batch_of(), Needs(logits=True), kind=model.kind).logits
    assert found is not None
    return found


def stock(model: Model) -> torch.Tensor:
    return model.net(input_ids=tiny_models.tiny_ids(), attention_mask=torch.ones(2, 7, dtype=torch.long)).logits


def masked(model: Model, allocation: Allocation) -> Model:
    """The whole model in which nobody hears the units that are to go."""
    net = copy.deepcopy(model.net)
    row = anatomy(net)
    width = row.head_dim(net)
    with torch.no_grad():
        for layer, heads, neurons in zip(physical_layers(net), allocation.heads, allocation.neurons, strict=True):
            out, down = row.out(layer).weight, row.down(layer).weight
            silent = [h * width + i for h in range(row.num_heads(net)) if h not in heads for i in range(width)]
            out[:, silent] = 0
            down[:, [n for n in range(down.shape[1]) if n not in neurons]] = 0
    return Model(net, None, model.labels, model.kind, "masked", None)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_reordered_prefix_cut_and_masked_are_one_network(family: str):
    model = model_of(family)
    scores = scores_of(model)
    before = digest(model.net)
    whole = sparsify(model, allocate(scores, 0.0))
    with torch.no_grad():
        torch.testing.assert_close(logits(whole), logits(model), atol=1e-5, rtol=0)
        torch.testing.assert_close(stock(whole), stock(model), atol=1e-5, rtol=0)
        allocations = {s: allocate(scores, s) for s in (0.4, 0.7, 0.95)}
        prefixes = Prefixes(whole, allocations)
        for sparsity, allocation in allocations.items():
            small = sparsify(model, allocation)
            assert list(zip(*num_units(small.net), strict=True)) == allocation.widths
            with prefixes.use(sparsity):
                narrow, narrow_stock = logits(whole), stock(whole)
                assert list(zip(*num_units(whole.net), strict=True)) == allocation.widths
            for other, other_stock in ((small, stock(small)), (silent := masked(model, allocation), stock(silent))):
                torch.testing.assert_close(narrow, logits(other), atol=1e-5, rtol=0)
                torch.testing.assert_close(narrow_stock, other_stock, atol=1e-5, rtol=0)
            assert (narrow - logits(model)).abs().max() > 1e-3  # something did go
        assert any(0 in widths for widths in allocations[0.95].widths)  # a layer without heads or neurons was among them
        torch.testing.assert_close(logits(whole), logits(model), atol=1e-5, rtol=0)
    assert digest(model.net) == before


@pytest.mark.parametrize("family", ["bert", "albert", "deberta-v2", "modernbert"])
def test_gradients_of_several_prefixes_add_up_in_the_whole_weights(family: str):
    model = model_of(family, "tokens")
    scores = scores_of(model)
    whole = sparsify(model, allocate(scores, 0.0))
    allocations = {str(s): allocate(scores, s) for s in (0.3, 0.8)}
    prefixes = Prefixes(whole, allocations)
    order = [name for name, _ in whole.net.named_parameters()]
    objects = [id(parameter) for parameter in whole.net.parameters()]
    features = [(m.in_features, m.out_features) for m in whole.net.modules() if isinstance(m, torch.nn.Linear)]
    for name in allocations:
        with prefixes.use(name):
            logits(whole).square().sum().backward()
    assert [name for name, _ in whole.net.named_parameters()] == order
    assert [id(parameter) for parameter in whole.net.parameters()] == objects
    assert features == [(m.in_features, m.out_features) for m in whole.net.modules() if isinstance(m, torch.nn.Linear)]

    # The same by masks on the reordered network: no views, not a prefixes.
    expected = copy.deepcopy(whole.net)
    expected.zero_grad()
    row, width = anatomy(expected), anatomy(expected).head_dim(expected)
    for allocation in allocations.values():
        hooks = []
        for layer, (heads, neurons) in zip(physical_layers(expected), allocation.widths, strict=True):
            for linear, size in ((row.out(layer), heads * width), (row.down(layer), neurons)):
                mask = (torch.arange(linear.in_features) < size).float()
                hooks.append(linear.register_forward_pre_hook(lambda _, inputs, mask=mask: (inputs[0] * mask,)))
        forward(expected, batch_of(), Needs(logits=True), kind="tokens").logits.square().sum().backward()
        for hook in hooks:
            hook.remove()
    for (name, mine), theirs in zip(whole.net.named_parameters(), expected.parameters(), strict=True):
        if theirs.grad is not None:
            scale = theirs.grad.abs().max().item() + 1e-3
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4 * scale, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_a_prefix_costs_what_the_small_network_costs():
    model = model_of("bert", hidden_size=64, intermediate_size=256)
    scores = scores_of(model)
    whole, allocation = sparsify(model, allocate(scores, 0.0)), allocate(scores, 0.75)

    def operations(subject: Model) -> int:
        with FlopCounterMode(display=False) as counter:
            logits(subject).sum().backward()
        return counter.get_total_flops()

    small = operations(sparsify(model, allocation))
    with Prefixes(whole, {0: allocation}).use(0):
        assert operations(whole) == small
    assert operations(whole) > 3 * small


def test_an_optimiser_of_the_whole_changes_the_prefix():
    model = model_of("bert")
    scores = scores_of(model)
    whole, allocation = sparsify(model, allocate(scores, 0.0)), allocate(scores, 0.5)
    optimizer = torch.optim.SGD(whole.net.parameters(), lr=0.1)
    prefixes = Prefixes(whole, {"half": allocation})
    losses = []
    for _ in range(4):
        optimizer.zero_grad(set_to_none=True)
        with prefixes.use("half"):
            loss = logits(whole).square().mean()
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] * 0.9
    with torch.inference_mode(), prefixes.use("half"):
        narrow = logits(whole)
    torch.testing.assert_close(narrow, logits(sparsify(whole, allocation)), atol=1e-6, rtol=0)


def test_an_error_inside_leaves_the_network_whole():
    model = model_of("deberta-v2")
    scores = scores_of(model)
    whole = sparsify(model, allocate(scores, 0.0))
    kinds = [type(module) for module in whole.net.modules()]
    before = digest(whole.net)
    with pytest.raises(KeyError), Prefixes(whole, {0: allocate(scores, 0.95)}).use(0):
        raise KeyError
    assert digest(whole.net) == before and [type(module) for module in whole.net.modules()] == kinds


def test_an_assistant_is_cut_further_and_has_prefixes_too():
    model = model_of("bert")
    scores = scores_of(model)
    large, target = allocate(scores, 0.4), allocate(scores, 0.8)
    assistant = sparsify(model, large)
    direct, twice = sparsify(model, target), sparsify(assistant, target)
    assert digest(direct.net) == digest(twice.net)
    with torch.no_grad(), Prefixes(assistant, {0: target}).use(0):
        torch.testing.assert_close(logits(assistant), logits(direct))
    structure = structure_of(twice.net)
    assert structure is not None and structure.heads == target.heads and structure.neurons == target.neurons
    with pytest.raises(RecipeError, match="were cut before"):
        sparsify(twice, large)
    with pytest.raises(ValueError, match="not a prefix"):
        Prefixes(twice, {0: large})
    with pytest.raises(ValueError, match="not a prefix"):
        Prefixes(model, {0: target})
    with pytest.raises(RecipeError, match="was pruned already"):
        importance(twice, Encoded([], np.zeros(0), np.zeros(1), labels=np.zeros(0)))


def test_as_released_a_block_without_units_adds_nothing():
    model = model_of("bert")
    heads, neurons = num_units(model.net)
    rising = [tuple(np.full(number, float(layer)) for layer, number in enumerate(each)) for each in (heads, neurons)]
    scores = Scores(*rising)
    released, ours = (allocate(scores, 1 / 3, parity=parity) for parity in (True, False))
    assert released.widths == ours.widths == [(0, 0), (4, 48), (4, 48)]
    layer = physical_layers(model.net)[0]
    bias = layer.attention.output.dense.bias.clone()
    with torch.no_grad():
        dropped, kept = logits(sparsify(model, released)), logits(sparsify(model, ours))
        assert (dropped - kept).abs().max() > 1e-4
        whole = sparsify(model, allocate(scores, 0.0))
        with Prefixes(whole, {0: released}).use(0):
            torch.testing.assert_close(logits(whole), dropped)
        layer.attention.output.dense.bias.zero_()
        layer.output.dense.bias.zero_()
        torch.testing.assert_close(logits(sparsify(model, ours)), dropped)
    inner = physical_layers(whole.net)[0].attention.output.dense.bias
    assert inner.equal(bias) and inner.requires_grad


@pytest.mark.parametrize("size", [12, 20])
def test_heads_of_any_size_stay_whole(size: int):
    model = model_of("bert", hidden_size=3 * size, num_attention_heads=3)
    for parity in (False, True):
        small = sparsify(model, allocate(scores_of(model), 0.4, parity=parity))
        assert sum(num_units(small.net)[0]) == 9 - 4
        assert torch.isfinite(logits(small)).all()


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_parameters_are_counted_before_cutting(family: str):
    model = model_of(family)
    inside, all_ = (parameters_of(model.net, count=count) for count in ("encoder", "total"))
    for sparsity in (0.0, 0.5, 0.95):
        allocation = allocate(scores_of(model), sparsity)
        net = sparsify(model, allocation).net
        assert all_(allocation) == pytest.approx(num_parameters(net))
        layers = {id(p): p.numel() for layer in physical_layers(net) for p in layer.parameters()}
        assert inside(allocation) == pytest.approx(sum(layers.values()))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_layers_that_are_used_twice_are_scored_and_cut_once(family: str):
    model = model_of(family)
    restructure(model.net, Structure(schedule=((0, False), (1, False), (2, False), (0, True), (1, False))))
    batch = batch_of()
    data = Encoded([""] * 4, batch.input_ids.numpy(), np.cumsum([0, *batch.sizes]), np.zeros(len(batch.input_ids), np.int8),
                   np.arange(4) % 3)  # fmt: skip
    scores = importance(model, data)
    assert len(scores.heads) == 3
    whole, allocation = sparsify(model, allocate(scores, 0.0)), allocate(scores, 0.5)
    small = sparsify(model, allocation)
    with torch.no_grad():
        torch.testing.assert_close(logits(whole), logits(model), atol=1e-5, rtol=0)
        with Prefixes(whole, {0: allocation}).use(0):
            torch.testing.assert_close(logits(whole), logits(small), atol=1e-5, rtol=0)
        torch.testing.assert_close(logits(small), logits(masked(model, allocation)), atol=1e-5, rtol=0)
