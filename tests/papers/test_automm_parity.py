"""AutoMM's loss, written out literally from its description, against the objective of a recipe.

The literal version uses torch's own losses the way the released code does, its faults on regression included. It is
compared term by term and as a whole, value and gradients, in float64.
"""

import math
import warnings

import pytest
import torch
from objectives import objective_of, settings_of
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from understudy import losses
from understudy.base.errors import DataError, RecipeError
from understudy.models.needs import Signals
from understudy.objective import Counts, FrozenHead

N, C, D_S, D_T = 6, 3, 4, 5
ALL_SIX = {
    "temperature": 5.0,
    "hard_label_weight": 0.1,
    "soft_label_weight": 1.0,
    "softmax_regression_weight": 0.1,
    "output_feature_loss_weight": 0.01,
    "rkd_distance_loss_weight": 1.0,
    "rkd_angle_loss_weight": 2.0,
}


class LiteralAutoMM(nn.Module):
    """Sections 2.0-2.5 of what the original computes, on features f, logits z and labels y."""

    def __init__(self, weights, head, *, adaptor, problem="classification", soft="", regression="mse"):
        super().__init__()
        self.weights, self.head, self.adaptor, self.problem = weights, head, adaptor, problem
        auto = nn.MSELoss() if problem == "regression" else nn.CrossEntropyLoss()
        by_name = {"": auto, "mse": nn.MSELoss(), "cross_entropy": nn.CrossEntropyLoss()}
        self.hard_loss, self.soft_loss, self.regression_loss = auto, by_name[soft], by_name[regression]

    def forward(self, z_s, f_s, z_t, f_t, y):
        w, t = self.weights, self.weights["temperature"]
        squeeze = (lambda z: z.squeeze(dim=1)) if z_s.shape[1] == 1 else (lambda z: z)
        hard = self.hard_loss(squeeze(z_s), y)
        target = squeeze(z_t) / t
        if isinstance(self.soft_loss, nn.CrossEntropyLoss):
            target = F.softmax(target, dim=-1)
        soft = self.soft_loss(squeeze(z_s) / t, target)
        adapted = self.adaptor(f_s)
        read, target = self.head(adapted), squeeze(z_t)
        if isinstance(self.regression_loss, nn.CrossEntropyLoss):
            target = F.softmax(target, dim=-1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the broadcast that the original does not notice
            regression = self.regression_loss(read, target)
        feature = nn.MSELoss()(adapted, f_t)
        with torch.no_grad():
            d_t = self.pdist(f_t)
            d_t = d_t / d_t[d_t > 0].mean()
            e_t = F.normalize(f_t.unsqueeze(0) - f_t.unsqueeze(1), p=2, dim=2)
            a_t = torch.bmm(e_t, e_t.transpose(1, 2)).view(-1)
        d_s = self.pdist(adapted)
        distance = F.smooth_l1_loss(d_s / d_s[d_s > 0].mean(), d_t)
        e_s = F.normalize(adapted.unsqueeze(0) - adapted.unsqueeze(1), p=2, dim=2)
        angle = F.smooth_l1_loss(torch.bmm(e_s, e_s.transpose(1, 2)).view(-1), a_t)
        values = {
            "hard": hard, "soft": soft, "softmax_regression": regression, "output_feature": feature,
            "rkd_distance": distance, "rkd_angle": angle,
        }  # fmt: skip
        total = (
            w["hard_label_weight"] * hard
            + w["soft_label_weight"] * soft
            + w["softmax_regression_weight"] * regression
            + w["output_feature_loss_weight"] * feature
            + w["rkd_distance_loss_weight"] * distance
            + w["rkd_angle_loss_weight"] * angle
        )
        return total, values

    @staticmethod
    def pdist(x):
        squares = x.pow(2).sum(dim=1)
        d = (squares.unsqueeze(1) + squares.unsqueeze(0) - 2 * (x @ x.t())).clamp(min=1e-12).sqrt()
        d = d.clone()
        d[range(len(x)), range(len(x))] = 0
        return d


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class World:
    """One batch of student and teacher outputs, with a teacher's head."""

    def __init__(self, kind="classification", *, d_s=D_S, n=N):
        c = 1 if kind == "regression" else C
        self.kind, self.c, self.n = kind, c, n
        self.z_s, self.f_s = randn(1, n, c).requires_grad_(), randn(2, n, d_s).requires_grad_()
        self.z_t, self.f_t = 2 * randn(3, n, c), randn(4, n, D_T)
        self.y = randn(5, n) if kind == "regression" else torch.arange(n) % C
        self.head = nn.Linear(D_T, c).double()

    def objective(self, **settings):
        objective = objective_of(
            {"name": "automm", "hidden_weight": 0.0, **settings}, kind=self.kind, num_labels=self.c,
            student_width=self.f_s.shape[1], teacher_width=D_T, student_layers=2, teacher_layers=4,
            teacher_head=(self.head.weight, self.head.bias), seed=7,
        )  # fmt: skip
        return objective.double()

    def compute(self, objective, rows=slice(None), progress=0.0):
        student = Signals(sizes=[1] * len(self.z_s[rows]), logits=self.z_s[rows], feature=self.f_s[rows])
        teacher = Signals(sizes=[1] * len(self.z_s[rows]), logits=self.z_t[rows], feature=self.f_t[rows])
        counts = Counts(examples=self.n, tokens=self.n, labels=self.n)
        return objective.compute(student, teacher, self.y[rows], progress=progress, counts=counts)

    def literal(self, objective, weights, **how):
        adaptor = objective.projections["adaptor"]
        return LiteralAutoMM(weights, self.head, adaptor=adaptor, problem=self.kind, **how)(
            self.z_s, self.f_s, self.z_t, self.f_t, self.y
        )

    def gradients(self, total, objective):
        return torch.autograd.grad(total, [self.z_s, self.f_s, *objective.parameters()], retain_graph=True)


def assert_same(world, objective, weights, **how):
    total, values = world.compute(objective)
    expected_total, expected = world.literal(objective, weights, **how)
    assert set(values) == set(expected)
    for name, value in values.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-12, abs=1e-15), name
    assert total.item() == pytest.approx(expected_total.item(), rel=1e-12)
    for ours, theirs in zip(world.gradients(total, objective), world.gradients(expected_total, objective), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("d_s", [D_S, D_T])
@pytest.mark.parametrize("soft", ["", "mse", "cross_entropy"])
@pytest.mark.parametrize("regression", ["", "mse", "cross_entropy"])
def test_all_six_terms_together_equal_the_original(d_s, soft, regression):
    world = World(d_s=d_s)
    objective = world.objective(
        parity=True, **ALL_SIX, soft_label_loss_type=soft, softmax_regression_loss_type=regression
    )
    assert_same(world, objective, ALL_SIX, soft=soft, regression=regression)
    # One Linear where widths differ, none where they do not; RKD uses it as well.
    assert len(list(objective.parameters())) == (2 if d_s != D_T else 0)


@pytest.mark.parametrize("soft", ["", "mse", "cross_entropy"])
def test_parity_on_regression_keeps_the_faults_and_says_so(soft):
    world = World("regression")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        objective = world.objective(parity=True, **ALL_SIX, soft_label_loss_type=soft)
    said = " ".join(str(warning.message) for warning in caught)
    assert "softmax regression on a regression task" in said
    assert ("cross_entropy on a regression task" in said) == (soft == "cross_entropy")
    assert_same(world, objective, ALL_SIX, soft=soft)
    assert objective.units["softmax_regression"] == "batch"  # the faults mix rows, so the batch cannot be split
    assert objective.units["soft"] == ("batch" if soft == "cross_entropy" else "example")


def test_the_parity_minimum_on_regression_is_the_mean_of_the_batch():
    """Why it is a fault: the best the student can do is to say the same for every row."""
    teacher = randn(1, 8, 1)
    same = torch.full_like(teacher, teacher.mean())
    assert losses.mixed_squared_error(same, teacher) < losses.mixed_squared_error(teacher, teacher)


def test_corrected_defaults_on_regression():
    world = World("regression")
    _, values = world.compute(world.objective(softmax_regression_weight=0.1))
    read = world.head(world_adapted(world))
    assert values["soft"].item() == pytest.approx(F.mse_loss(world.z_s, world.z_t).item())  # no 1/T^2
    assert values["softmax_regression"].item() == pytest.approx(F.mse_loss(read, world.z_t).item())
    assert values["hard"].item() == pytest.approx(F.mse_loss(world.z_s[:, 0], world.y).item())


def world_adapted(world):
    return world.objective().projections["adaptor"](world.f_s)


@pytest.mark.parametrize(
    ("key", "term"),
    [("soft_label_loss_type", "soft"), ("softmax_regression_loss_type", "softmax_regression"), ("logit_kl_weight", "logit_kl")],
)
def test_class_losses_on_regression_are_refused(key, term):
    value = 1.0 if key.endswith("weight") else "cross_entropy"
    with pytest.raises(RecipeError, match=f"objective.{term}: .*compares class probabilities"):
        World("regression").objective(softmax_regression_weight=0.1, **{key: value})


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_without_t2_default_and_parity_have_the_same_soft_loss(kind):
    world = World(kind)
    _, plain = world.compute(world.objective(scale_by_t2=False))
    _, parity = world.compute(world.objective(parity=True))
    assert plain["soft"].item() == parity["soft"].item()
    _, scaled = world.compute(world.objective())
    assert scaled["soft"].item() == pytest.approx(25 * plain["soft"].item(), rel=1e-12)


def test_the_default_rkd_needs_no_adaptor():
    world = World()
    objective = world.objective(output_feature_loss_weight=0.0, rkd_distance_loss_weight=1.0, rkd_angle_loss_weight=2.0)
    assert not list(objective.parameters())
    _, values = world.compute(objective)
    assert values["rkd_distance"].item() == losses.rkd_distance(world.f_s, world.f_t).item()
    assert values["rkd_angle"].item() == losses.rkd_angle(world.f_s, world.f_t).item()


def test_the_cosine_term_runs():
    world = World(d_s=D_T)
    _, values = world.compute(world.objective(output_feature_loss_type="cosine"))
    expected = sum(
        1 - sum(a * b for a, b in zip(s, t, strict=True)) / (math.hypot(*s) * math.hypot(*t))
        for s, t in zip(world.f_s.tolist(), world.f_t.tolist(), strict=True)
    )
    assert values["output_feature"].item() == pytest.approx(expected / N)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_batches_of_one_and_two_are_finite_and_counted(kind, parity, n):
    world = World(kind, n=n)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        objective = world.objective(parity=parity, **ALL_SIX)
        for _ in range(2):
            total, values = world.compute(objective)
    assert torch.isfinite(total)
    assert values["rkd_distance"].item() == values["rkd_angle"].item() == 0
    assert sum("rkd_distance" in str(w.message) for w in caught) == 1  # said once, counted every time
    assert objective.notes() == [
        f"{name}: 2 batches had fewer than 3 rows and taught nothing in this term."
        for name in ("rkd_distance", "rkd_angle")
    ]


def test_the_sum_of_the_weighted_terms_is_the_total():
    world = World()
    objective = world.objective(**ALL_SIX, logit_kl_weight=0.3, logit_mse_weight=0.2)
    total, values = world.compute(objective)
    weights = objective.weights(0.0)
    assert total.item() == pytest.approx(sum(weights[name] * values[name].item() for name in values))
    shares = objective.shares({name: value.item() for name, value in values.items()}, progress=0.0)
    assert sum(shares.values()) == pytest.approx(1) and all(share >= 0 for share in shares.values())


LOSSES_OF = {
    "hard_label_weight": "cross_entropy",
    "soft_label_weight": "soft_cross_entropy",
    "softmax_regression_weight": "softmax_regression",
    "output_feature_loss_weight": "output_feature",
    "rkd_distance_loss_weight": "rkd_distance",
    "rkd_angle_loss_weight": "rkd_angle",
}


@pytest.mark.parametrize("off", LOSSES_OF)
def test_a_weight_of_zero_skips_the_work(off, monkeypatch):
    calls = dict.fromkeys(LOSSES_OF.values(), 0)

    def counted(name, original):
        def inner(*args, **kwargs):
            calls[name] += 1
            return original(*args, **kwargs)

        return inner

    for name in calls:
        monkeypatch.setattr(losses, name, counted(name, getattr(losses, name)))
    world = World()
    world.compute(world.objective(**ALL_SIX | {off: 0.0}))
    assert calls == {name: int(key != off) for key, name in LOSSES_OF.items()}


@pytest.mark.parametrize(
    "bad",
    [{"soft_label_loss_type": "kl2"}, {"output_feature_loss_type": "l1"}, {"adaptor": "conv"}, {"temprature": 3.0}],
)
def test_unknown_options_are_refused_by_the_recipe(bad):
    with pytest.raises(ValidationError):
        settings_of({"name": "automm", **bad})


def test_adaptor_scope():
    world = World()
    both = {"softmax_regression_weight": 0.1}
    shared, separate = world.objective(**both), world.objective(**both, adaptor_scope="separate")
    assert {n for n in shared.state_dict() if "weight" in n} == {"projections.adaptor.weight"}
    assert {n for n in separate.state_dict() if "weight" in n} == {
        "projections.adaptor_softmax_regression.weight", "projections.adaptor_output_feature.weight",
    }  # fmt: skip
    with pytest.raises(RecipeError, match="shares one that is"):
        objective_of(
            {"name": "automm"}, {"output_feature": {"adaptor": "mlp"}, "softmax_regression": 0.1}, num_labels=C,
            student_width=D_S, teacher_width=D_T, student_layers=2, teacher_layers=4,
            teacher_head=(world.head.weight, world.head.bias),
        )  # fmt: skip


def test_the_frozen_head_is_neither_trained_nor_saved():
    weight, bias, feature = randn(1, C, D_T), randn(2, C), randn(3, 4, D_T)
    head = FrozenHead(weight, bias)
    assert torch.allclose(head(feature), feature @ weight.T + bias)
    assert not list(head.parameters()) and not head.state_dict()


def test_the_teacher_is_left_alone():
    world = World()
    before = world.head.weight.clone(), world.head.bias.clone()
    objective = world.objective(**ALL_SIX)
    world.z_t.requires_grad_(), world.f_t.requires_grad_()
    total, _ = world.compute(objective)
    total.backward()
    assert world.head.weight.grad is world.head.bias.grad is world.z_t.grad is world.f_t.grad is None
    assert torch.equal(before[0], world.head.weight) and torch.equal(before[1], world.head.bias)
    assert not any("head" in name for name in objective.state_dict())


def test_a_head_that_does_not_fit_is_named():
    world = World()
    world.head = nn.Linear(D_T, C + 1)
    with pytest.raises(DataError, match="head"):
        world.objective(softmax_regression_weight=0.1)
