"""Another head on the same encoder, and back."""

from __future__ import annotations

import pytest
import tiny_models
import torch

from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.students.head import with_encoder, with_labels

FOUR = ("a", "b", "c", "d")


def model_of(family: str) -> Model:
    net = tiny_models.tiny_net(family)
    return Model(net, None, ("no", "yes"), "classification", "tiny", None)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_there_and_back(family):
    model = model_of(family)
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    other = with_labels(model, FOUR, seed=3)
    head = anatomy(other.net).final_linear(other.net)
    assert head.weight.shape[0] == 4 and other.net.config.num_labels == 4 and other.labels == FOUR
    changed = [name for name, tensor in other.net.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) == 2  # weight and bias of the last Linear; the encoder is byte-equal
    assert other.net(tiny_models.tiny_ids()).logits.shape == (2, 4)
    with torch.no_grad():
        for parameter in other.net.parameters():
            parameter.add_(1.0)
    back = with_encoder(model, other)
    for name, tensor in back.net.state_dict().items():
        trained = other.net.state_dict()[name]
        assert torch.equal(tensor, before[name] if name in changed else trained), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())  # left alone


def test_a_new_head_is_a_function_of_the_seed():
    model = model_of("bert")
    heads = [with_labels(model, FOUR, seed=seed).net.classifier for seed in (1, 1, 2)]
    assert torch.equal(heads[0].weight, heads[1].weight) and not torch.equal(heads[0].weight, heads[2].weight)
    assert heads[0].bias.abs().sum() == 0 and 0.01 < heads[0].weight.std() < 0.03


def test_two_different_encoders_are_refused():
    with pytest.raises(ValueError, match="not one encoder"):
        with_encoder(model_of("bert"), model_of("roberta"))
