"""The learning rate by hand, and which parameters share decay and depth."""

from __future__ import annotations

import math

import pytest
import tiny_models
import torch
from torch import nn

from understudy.models.anatomy import anatomy
from understudy.recipe.settings import TrainSettings
from understudy.train.optim import clip_gradients, learning_rate, make_optimizer, parameter_groups, set_learning_rate


def settings(**changes) -> TrainSettings:
    return TrainSettings(**{"lr": 0.1, "warmup": 0.2, **changes})


def rates(total: int = 10, **changes) -> list[float]:
    return [learning_rate(step, total, settings(**changes)) for step in range(total)]


def test_linear_schedule():
    # Two of ten steps warm up to the full rate; the other eight fall by an eighth each, towards 0 at step 10.
    assert rates() == pytest.approx([0.05, 0.1, 0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125])


def test_cosine_schedule():
    falling = [0.05 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert rates(schedule="cosine") == pytest.approx([0.05, 0.1, *falling])
    assert learning_rate(6, 10, settings(schedule="cosine")) == pytest.approx(0.05)  # half way down


def test_constant_schedule():
    assert rates(schedule="constant") == pytest.approx([0.05] + [0.1] * 9)


def test_edges():
    assert rates(total=1) == [0.1]  # one step is not lost to a warm-up from 0
    assert rates(total=3, warmup=0.0) == pytest.approx([0.1, 0.1 * 2 / 3, 0.1 / 3])
    assert rates(total=2, warmup=0.9) == pytest.approx([0.05, 0.1])
    assert all(rate > 0 for rate in rates(total=7))


def scales(net: nn.Module, **changes) -> dict[str, tuple[float, float]]:
    """name -> (factor on the learning rate, weight decay)."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = parameter_groups(net, nn.Identity(), settings(**changes))
    return {names[id(p)]: (group["scale"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_every_parameter_is_in_one_group_and_matrices_alone_decay(family):
    net = tiny_models.tiny_net(family)
    found = scales(net, weight_decay=0.3, layer_lr_decay=0.5)
    assert set(found) == {name for name, _ in net.named_parameters()}
    assert sum(len(g["params"]) for g in parameter_groups(net, nn.Identity(), settings())) == len(found)
    for name, parameter in net.named_parameters():
        assert found[name][1] == (0.3 if parameter.ndim > 1 else 0.0), name


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_layers_learn_slower_the_deeper_they_are(family):
    net = tiny_models.tiny_net(family)
    row, found = anatomy(net), scales(net, layer_lr_decay=0.5)
    names = {id(parameter): name for name, parameter in net.named_parameters()}

    def of(module: nn.Module) -> set[float]:
        return {found[names[id(parameter)]][0] for parameter in module.parameters()}

    assert of(row.embeddings(net)) == {0.5**3}
    assert of(row.final_linear(net)) == {1.0}
    expected = [{1.0}] * 3 if family == "albert" else [{0.25}, {0.5}, {1.0}]  # ALBERT's one layer is also its last
    assert [of(layer) for layer in row.layers(net)] == expected


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("albert", "albert.encoder.embedding_hidden_mapping_in.weight"),
        ("electra", "electra.embeddings_project.weight"),
        ("deberta-v2", "deberta.encoder.rel_embeddings.weight"),
    ],
)
def test_what_serves_the_embeddings_learns_as_they_do(family, name):
    assert scales(tiny_models.tiny_net(family), layer_lr_decay=0.5)[name][0] == 0.5**3


def test_without_layer_decay_all_factors_are_one():
    assert {scale for scale, _ in scales(tiny_models.tiny_net("bert")).values()} == {1.0}


def test_projections_learn_at_the_full_rate_and_frozen_parameters_not_at_all():
    net, projections = tiny_models.tiny_net("bert"), nn.Linear(2, 3)
    frozen = net.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    groups = parameter_groups(net, projections, settings(layer_lr_decay=0.5, weight_decay=0.2))
    by_id = {id(p): group for group in groups for p in group["params"]}
    assert id(frozen) not in by_id
    assert by_id[id(projections.weight)]["scale"] == 1.0 and by_id[id(projections.weight)]["weight_decay"] == 0.2
    assert by_id[id(projections.bias)]["weight_decay"] == 0.0


def test_one_step_by_hand():
    """AdamW's first step moves each weight by the rate, after decoupled decay: w (1 - lr wd) - lr sign(g)."""
    objective = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        objective.weight.fill_(2.0)
    net = tiny_models.tiny_net("bert").requires_grad_(False)
    optimizer = make_optimizer(net, objective, settings(weight_decay=0.5))
    set_learning_rate(optimizer, 0.01)
    objective.weight.grad = torch.full((1, 1), 7.0)
    optimizer.step()
    assert objective.weight.item() == pytest.approx(2.0 * (1 - 0.01 * 0.5) - 0.01, abs=1e-6)


@pytest.mark.parametrize("limit", [0.5, 5.0, 5.0 + 1e-6, 6.0, None])
def test_gradients_are_shortened_as_by_torch(limit):
    def gradients() -> list[nn.Parameter]:
        found = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
        found[0].grad, found[1].grad = torch.tensor([3.0]), torch.tensor([4.0])  # the third has none
        return found

    mine, theirs = gradients(), gradients()
    length = clip_gradients(mine, settings(max_grad_norm=limit))
    expected = nn.utils.clip_grad_norm_(theirs, float("inf") if limit is None else limit)
    assert torch.equal(length, expected)
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(mine[:2], theirs[:2], strict=True))
