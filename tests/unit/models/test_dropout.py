"""Dropout with cheap random numbers: the same distribution as torch's, decided by the seed, and only while training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from understudy.models.dropout import Dropout, dropout, factors, quicken


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.9])
def test_share_scale_and_independence(probability):
    torch.manual_seed(0)
    made = factors((1001, 1003), probability, torch.zeros(()))
    kept = made > 0
    assert made[kept].unique().item() == pytest.approx(1 / (1 - probability), rel=1e-4)
    n = made.numel()
    spread = (probability * (1 - probability) / n) ** 0.5
    assert kept.double().mean().item() == pytest.approx(1 - probability, abs=5 * spread)
    flat = (kept.flatten().double() - kept.double().mean()).numpy()
    for lag in (1, 2, 3, 4, 1003):  # four numbers share one draw: neighbours must not know of each other
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 5 * probability * (1 - probability) / n**0.5


def test_seed_decides_and_gradient_is_the_mask():
    x = torch.ones(7, 5, requires_grad=True)
    torch.manual_seed(3)
    one = dropout(x, 0.3)
    torch.manual_seed(3)
    other = dropout(x, 0.3)
    assert torch.equal(one, other) and 0 < (one == 0).sum() < 35
    one.sum().backward()
    assert torch.equal(x.grad, one.detach())


def test_half_precision_stays_half_precision():
    assert dropout(torch.ones(9, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_all_or_nothing(probability):
    assert torch.equal(dropout(torch.ones(4), probability), torch.full((4,), 1.0 - probability))


def test_a_model_is_quickened_without_being_changed():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.4))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quicken(net)
    assert type(net[1]) is Dropout and net[1].p == 0.4
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    x = torch.randn(5, 3)
    assert torch.equal(net.eval()(x), net[0](x)) and (net.train()(x) == 0).any()
