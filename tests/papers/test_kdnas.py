"""KD-NAS against its definition: the layer maps, the loss written out literally, the controller's schedule."""

from __future__ import annotations

import pytest
import torch
from objectives import objective_of, settings_of
from torch import nn

from understudy.base.errors import RecipeError
from understudy.methods.kdnas.controller import Controller, Regression, Tried, random_slots
from understudy.methods.kdnas.settings import KDNAS
from understudy.models.needs import Signals
from understudy.objective import Counts

MAPS = {
    (6, 3): ([0, 2, 4], [1, 3, 5], [3, 4, 5]),
    (12, 3): ([0, 4, 8], [3, 7, 11], [9, 10, 11]),
    (12, 4): ([0, 3, 6, 9], [2, 5, 8, 11], [8, 9, 10, 11]),
    (12, 6): ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11], [6, 7, 8, 9, 10, 11]),
    (12, 10): ([0, 1, 2, 3, 4, 6, 7, 8, 9, 10], [0, 1, 2, 3, 5, 6, 7, 8, 9, 11], [*range(2, 12)]),
}


@pytest.mark.parametrize(("depths", "maps"), MAPS.items())
def test_layer_maps(depths, maps):
    teacher, student = depths
    for mapping, uniform in (("uniform_first", maps[0]), ("uniform_last", maps[1])):
        found = settings_of({"name": "kdnas", "mapping": mapping}).two_layers.layers(student, teacher)
        assert [[layer - 1 for layer in layers] for layers in found] == [uniform, maps[2]]


def test_a_student_deeper_than_its_teacher_is_an_error():
    for mapping in ("uniform_first", "uniform_last"):
        with pytest.raises(RecipeError, match="deeper than its teacher"):
            settings_of({"name": "kdnas", "mapping": mapping}).two_layers.layers(6, 4)


SIZES = [3, 5]
DEPTHS = {"student_layers": 2, "teacher_layers": 4, "student_width": 3, "teacher_width": 6}


def signals(width: int, layers: int, seed: int) -> Signals:
    generator = torch.Generator().manual_seed(seed)
    return Signals(sizes=SIZES, hidden={i: torch.randn(sum(SIZES), width, generator=generator) for i in range(1, layers + 1)})


def padded(packed: torch.Tensor, length: int) -> torch.Tensor:
    """(T, D) -> (rows, length, D) with zeros behind each row."""
    return torch.stack([nn.functional.pad(row, (0, 0, 0, length - len(row))) for row in packed.split(SIZES)])


def build(**changes):
    variances = {i: torch.rand(6, generator=torch.Generator().manual_seed(i)) + 0.5 for i in range(1, 5)}
    objective = objective_of({"name": "kdnas", **changes}, kind="text", **DEPTHS, variances=lambda layers: variances)
    return objective, variances


@pytest.mark.parametrize("changes", [{}, {"normalise": "none"}, {"mapping": "uniform_first", "projection": "per_layer"}])
def test_the_loss_is_the_literal_one_on_padded_rows(changes):
    """The published sum, over padded tensors with a mask: padding, however much of it, changes nothing."""
    objective, variances = build(**changes)
    student, teacher = signals(3, 2, 0), signals(6, 4, 1)
    counts = Counts(examples=2, tokens=8, labels=2)
    total, _ = objective.compute(student, teacher, None, progress=0.0, counts=counts)
    uniform = (0, 2) if changes.get("mapping") else (1, 3)
    weights = list(objective.parameters())
    gradients = torch.autograd.grad(total, weights)  # ours has a backward pass of its own
    for length in (5, 9):
        error = torch.zeros(())
        count = 0
        for layer in (0, 1):
            mask = torch.tensor([[t < size for t in range(length)] for size in SIZES])
            w = objective.projections[f"kdnas_{layer}" if changes.get("projection") else "kdnas"]
            target = torch.cat([padded(teacher.hidden[i], length) for i in (uniform[layer] + 1, layer + 3)], -1)
            scale = torch.cat([variances[uniform[layer] + 1], variances[layer + 3]])
            part = (w(padded(student.hidden[layer + 1], length)) - target) ** 2
            part = part if changes.get("normalise") else part / scale
            error = error + part[mask].sum()
            count += int(mask.sum()) * 12
        assert total.item() == pytest.approx((error / count).item(), rel=1e-5)
        for found, literal in zip(gradients, torch.autograd.grad(error / count, weights), strict=True):
            assert torch.allclose(found, literal, rtol=1e-4, atol=1e-6)


def test_predicting_the_mean_costs_one():
    """With variance normalisation a projection that always says the teacher's mean has the loss 1."""
    teacher = Signals(sizes=[4000], hidden={i: torch.randn(4000, 6) * i + i for i in range(1, 5)})
    variances = {i: teacher.hidden[i].var(dim=0) for i in range(1, 5)}
    method = {"name": "kdnas", "projection": "per_layer"}
    objective = objective_of(method, kind="text", **DEPTHS, variances=lambda layers: variances)
    with torch.no_grad():
        for layer, pair in enumerate([(2, 3), (4, 4)]):
            w = objective.projections[f"kdnas_{layer}"]
            w.weight.zero_()
            w.bias.copy_(torch.cat([teacher.hidden[i].mean(0) for i in pair]))
    student = Signals(sizes=[4000], hidden={1: torch.randn(4000, 3), 2: torch.randn(4000, 3)})
    total, _ = objective.compute(student, teacher, None, progress=0.0, counts=Counts(1, 4000, 1))
    assert total.item() == pytest.approx(1.0, rel=1e-3)


def test_one_projection_for_all_layers_or_one_for_each():
    assert [name for name, _ in build()[0].projections.named_parameters()] == ["kdnas.weight", "kdnas.bias"]
    assert build()[0].projections["kdnas"].weight.shape == (12, 3)
    per_layer = build(projection="per_layer")[0]
    assert sorted(per_layer.projections) == ["kdnas_0", "kdnas_1", "kdnas_scale"]
    assert not [name for name in per_layer.state_dict() if "scale" in name]  # the teacher's variances are not saved


def test_parity_fills_in_what_each_branch_used_and_leaves_what_is_given():
    main, refactor = KDNAS(parity=True), KDNAS(parity="refactor", candidates=7)
    assert (main.parity, main.trials, main.mini_kd.lr, main.beta) == ("main", 5, 1e-4, 0.6**6)
    assert (refactor.trials, refactor.mini_kd.epochs, refactor.mini_kd.proxy, refactor.alpha) == (105, 4, 0.2, -0.07)
    assert main.space.preset == "kdnas-paper" and KDNAS().trials == 120
    released, own = (settings_of({"name": "kdnas", **more}).two_layers for more in ({"parity": True}, {}))
    assert (released.mapping, released.normalise) == ("group_first", "none")
    assert (own.mapping, own.normalise) == ("group_last", "variance")
    assert KDNAS.model_validate(refactor.model_dump(mode="json")) == refactor


def test_random_slots_are_safe_from_rounding_and_parity_is_not():
    assert random_slots(5, 15) == [5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1]
    assert random_slots(8, 15) == [8, 7, 7, 6, 6, 6, 5, 5, 4, 4, 4, 3, 3, 2, 2]
    assert random_slots(5, 15, parity=True) == [5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1]
    assert random_slots(20, 4)[3] == 17 and random_slots(20, 4, parity=True)[3] == 16
    assert random_slots(20, 40)[-1] == 1  # "in the end all are chosen" does not hold for 20: one stays random
    assert random_slots(8, 15, decay=None)[-1] == 0 and random_slots(8, 1, decay=None) == [8]


def test_the_controller_gives_one_number_each_and_learns():
    places = (5, 5, 2, 8, 3)
    controller = Controller(places, seed=0)
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(n, (12, 3), generator=generator) for n in places], dim=-1)
    assert controller(codes).shape == (12,) and controller(codes[:1]).shape == (1,)
    seen = [
        Tried(tuple(one[0]), tuple(one[1]), tuple(one[2]), 0.5 + 0.1 * one[2][0]) for one in codes.tolist()
    ]
    regression = Regression(places, lr=1e-3, seed=0)
    losses = [regression.learn(seen, epochs=10, episode=episode) for episode in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 3
    again = Regression(places, lr=1e-3, seed=0)
    assert [again.learn(seen, epochs=10, episode=episode) for episode in range(4)] == losses
