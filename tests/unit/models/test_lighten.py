"""Layers that are compiled or run twice give the numbers of those that are not, in every family and structure."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch import Tensor

from understudy.base.errors import RecipeError
from understudy.data.encode import Batch
from understudy.models.anatomy import anatomy
from understudy.models.lighten import Light
from understudy.models.needs import Needs
from understudy.models.signals import forward

NEEDS = Needs(logits=True, hidden=(1, 3), qkv=(3,))


def batch(sizes: list[int]) -> Batch:
    ids = tiny_models.tiny_ids(1, sum(sizes), seed=3)[0]
    return Batch(ids, None, torch.tensor(sizes), sizes, None, np.arange(len(sizes)))


def step(net: Any, needs: Needs, *, sizes: list[int], seed: int = 0) -> dict[str, Tensor]:
    """What a training step gets, and the gradients of all weights."""
    torch.manual_seed(seed)
    net.zero_grad(set_to_none=True)
    signals = forward(net, batch(sizes), needs, kind="classification")
    found: list[Tensor] = []
    signals.map(lambda tensor: found.append(tensor) or tensor)
    torch.stack([tensor.square().mean() for tensor in found if tensor.numel()]).sum().backward()
    numbers = {str(i): tensor.detach() for i, tensor in enumerate(found)}
    return numbers | {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def noisy(family: str, structure: str) -> Any:
    return tiny_models.tiny_structured(family, structure, num_labels=3).train()


@pytest.mark.parametrize("structure", tiny_models.STRUCTURES)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_checkpointed_layers_give_the_same_bits(family: str, structure: str):
    net = noisy(family, structure)  # with dropout: the second pass must draw the same numbers
    expected = step(net, NEEDS, sizes=[7, 3, 12, 5])
    runs = []
    layer = anatomy(net).layers(net)[0]
    hook = anatomy(net).up(layer).register_forward_hook(lambda *_: runs.append(1))
    with Light(net, compile=False, checkpoint=True).on():
        got = step(net, NEEDS, sizes=[7, 3, 12, 5])
    hook.remove()
    uses = sum(anatomy(net).up(other) is anatomy(net).up(layer) for other in anatomy(net).layers(net))
    assert len(runs) == 2 * uses
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name
    assert "forward" not in vars(layer)


def test_checkpointing_keeps_less():
    """Bytes saved for the backward pass, all layers whole."""
    net, kept = noisy("bert", "stock"), []
    for light in (False, True):
        saved = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal saved
            saved += tensor.numel() if not isinstance(tensor, torch.nn.Parameter) else 0
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, Light(net, compile=False, checkpoint=light).on():
            forward(net, batch([30, 30, 30]), Needs(hidden=(3,)), kind="classification")
        kept.append(saved)
    assert kept[1] < kept[0] / 3


QUICK = [("bert", True), ("modernbert", False)]


@pytest.mark.parametrize(
    "family, checkpoint",
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(tiny_models.FAMILIES, (False, True))
    ],
)
def test_compiled_layers_give_the_same_numbers(family: str, checkpoint: bool):
    torch._dynamo.reset()
    net = tiny_models.tiny_net(family, num_labels=3)
    light = Light(net, compile=True, checkpoint=checkpoint, read=NEEDS.qkv, backend="aot_eager")
    graphs = []
    for sizes in ([7, 3, 12, 5], [9, 4], [2, 11, 6], [5, 5, 5, 5, 5]):
        expected = step(net, NEEDS, sizes=sizes)
        with light.on():
            got = step(net, NEEDS, sizes=sizes)
        assert got.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] > 0 or family == "albert"  # ALBERT's one layer is read, and so left as it is
    assert graphs[3] == graphs[1]  # made for any number of tokens: nothing is compiled for the third batch or the fourth


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_inductor(family: str):
    torch._dynamo.reset()
    net = tiny_models.tiny_structured(family, "cut", num_labels=3)
    light = Light(net, compile=True, checkpoint=False)
    for sizes in ([7, 3, 12, 5], [9, 4]):
        expected = step(net, Needs(logits=True), sizes=sizes)
        with light.on():
            got = step(net, Needs(logits=True), sizes=sizes)
        for name, tensor in expected.items():
            torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_the_checkpointing_of_transformers_is_refused():
    net = noisy("bert", "stock")
    net.gradient_checkpointing_enable()
    with pytest.raises(RecipeError, match="checkpoint_activations"):
        forward(net, batch([3, 4]), Needs(logits=True), kind="classification")
