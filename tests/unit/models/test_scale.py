"""The change of units is exact: folded into the last Linear, in every family, there and back."""

from __future__ import annotations

import pytest
import tiny_models
import torch

from understudy.models.heads import to_label_units, to_standard_units

MEAN, DEVIATION = 250.0, 40.0


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@torch.no_grad()
def test_outputs_change_units(family):
    net = tiny_models.tiny_net(family, num_labels=1).double()
    ids = tiny_models.tiny_ids(4, 9)
    standard = net(input_ids=ids).logits
    to_label_units(net, MEAN, DEVIATION)
    torch.testing.assert_close(net(input_ids=ids).logits, standard * DEVIATION + MEAN, rtol=1e-12, atol=1e-9)
    to_standard_units(net, MEAN, DEVIATION)
    torch.testing.assert_close(net(input_ids=ids).logits, standard, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_standard_units_of_a_trained_model():
    """A model that speaks euros is compared with one that was trained here: both have mean 0 and deviation 1."""
    net = tiny_models.tiny_net("bert", num_labels=1).double()
    ids = tiny_models.tiny_ids(64, 9)
    euros = net(input_ids=ids).logits
    mean, deviation = euros.mean().item(), euros.std().item()
    to_standard_units(net, mean, deviation)
    standard = net(input_ids=ids).logits
    assert standard.mean().item() == pytest.approx(0.0, abs=1e-9)
    assert standard.std().item() == pytest.approx(1.0, abs=1e-9)
