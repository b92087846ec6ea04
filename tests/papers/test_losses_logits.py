"""Losses on outputs against their formulas, written out as loops over Python floats."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import losses

N, C = 5, 3


def logits(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def softmax(row):
    top = max(row)
    parts = [math.exp(x - top) for x in row]
    return [part / sum(parts) for part in parts]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_rows(row_loss, *tensors, reduction):
    """Apply a loss of Python lists to each row; add or average."""
    values = [row_loss(*rows) for rows in zip(*(tensor.tolist() for tensor in tensors), strict=True)]
    return sum(values) / (len(values) if reduction == "mean" else 1)


def soft_ce_row(t, scale):
    def row(z_s, z_t):
        p = softmax([z / t for z in z_t])
        q = softmax([z / t for z in z_s])
        return -sum(a * math.log(b) for a, b in zip(p, q, strict=True)) * (t * t if scale else 1)

    return row


def soft_kl_row(t, scale):
    def row(z_s, z_t):
        p = softmax([z / t for z in z_t])
        q = softmax([z / t for z in z_s])
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) * (t * t if scale else 1)

    return row


def soft_bce_row(t, scale):
    def row(z_s, z_t):
        values = []
        for a, b in zip(z_s, z_t, strict=True):
            q, p = sigmoid(a / t), sigmoid(b / t)
            values.append(-p * math.log(q) - (1 - p) * math.log(sigmoid(-a / t)))
        return sum(values) / len(values) * (t * t if scale else 1)

    return row


def soft_bkl_row(t, scale):
    def row(z_s, z_t):
        values = []
        for a, b in zip(z_s, z_t, strict=True):
            q, p = sigmoid(a / t), sigmoid(b / t)
            values.append(p * math.log(p / q) + (1 - p) * math.log(sigmoid(-b / t) / sigmoid(-a / t)))
        return sum(values) / len(values) * (t * t if scale else 1)

    return row


def soft_mse_row(t, scale):
    def row(z_s, z_t):
        squares = [(a / t - b / t) ** 2 for a, b in zip(z_s, z_t, strict=True)]
        return sum(squares) / len(squares) * (t * t if scale else 1)

    return row


SOFT = [
    (losses.soft_cross_entropy, soft_ce_row),
    (losses.soft_kl, soft_kl_row),
    (losses.soft_binary_cross_entropy, soft_bce_row),
    (losses.soft_binary_kl, soft_bkl_row),
    (losses.soft_mse, soft_mse_row),
]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("loss", "row"), SOFT)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), t=st.floats(0.5, 20), scale=st.booleans())
def test_soft_losses_equal_their_formulas(loss, row, reduction, seed, t, scale):
    student, teacher = logits(seed, N, C), logits(seed + 1000, N, C)
    value = loss(student, teacher, temperature=t, scale_by_t2=scale, reduction=reduction)
    assert value.item() == pytest.approx(by_rows(row(t, scale), student, teacher, reduction=reduction), rel=1e-11)


@pytest.mark.parametrize(("loss", "row"), SOFT)
def test_soft_losses_have_the_gradient_of_their_value(loss, row):
    student, teacher = logits(3, N, C).requires_grad_(), logits(4, N, C)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, temperature=2.5), (student,))


@pytest.mark.parametrize(("loss", "_row"), SOFT)
def test_nothing_flows_into_the_teacher(loss, _row):
    student, teacher = logits(3, N, C).requires_grad_(), logits(4, N, C).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_hinton_scaling_keeps_the_gradient_of_small_logits():
    """With T^2 the gradient tends to a constant for large T; without, it falls like 1/T^2 (Hinton et al., 2.1)."""
    student, teacher = logits(5, N, C).requires_grad_(), logits(6, N, C)

    def norm(t, scale):
        (gradient,) = torch.autograd.grad(
            losses.soft_cross_entropy(student, teacher, temperature=t, scale_by_t2=scale), student
        )
        return gradient.norm().item()

    assert norm(100.0, True) == pytest.approx(norm(1000.0, True), rel=0.02)
    assert norm(100.0, False) == pytest.approx(100 * norm(1000.0, False), rel=0.02)


def test_kl_is_soft_cross_entropy_without_the_teachers_entropy():
    student, teacher = logits(7, N, C).requires_grad_(), logits(8, N, C)
    kl, ce = (
        losses.soft_kl(student, teacher, temperature=3.0),
        losses.soft_cross_entropy(student, teacher, temperature=3.0),
    )
    entropy = losses.soft_cross_entropy(teacher, teacher, temperature=3.0)
    assert (ce - kl).item() == pytest.approx(entropy.item(), rel=1e-12)
    (of_kl,), (of_ce,) = torch.autograd.grad(kl, student), torch.autograd.grad(ce, student)
    assert torch.allclose(of_kl, of_ce, atol=1e-15)


@pytest.mark.parametrize("loss", [losses.soft_kl, losses.soft_binary_kl, losses.soft_mse])
def test_agreement_costs_nothing_even_with_extreme_logits(loss):
    extreme = torch.tensor([[500.0, -500.0, 0.0]], dtype=torch.float64)
    assert loss(extreme, extreme).item() == 0
    assert torch.isfinite(loss(-extreme, extreme))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hard_losses_equal_their_formulas(reduction):
    z, y = logits(1, N, C), torch.tensor([0, 2, 1, 1, 0])

    def ce(row, label):
        return -math.log(softmax(row)[label])

    assert losses.cross_entropy(z, y, reduction=reduction).item() == pytest.approx(
        by_rows(ce, z, y, reduction=reduction)
    )

    several = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)

    def bce(row, labels):
        terms = [-math.log(sigmoid(a)) if b else -math.log(1 - sigmoid(a)) for a, b in zip(row, labels, strict=True)]
        return sum(terms) / len(terms)

    value = losses.binary_cross_entropy(z, several, reduction=reduction).item()
    assert value == pytest.approx(by_rows(bce, z, several, reduction=reduction))

    scores = logits(2, N)
    value = losses.squared_error(z[:, :1], scores, reduction=reduction).item()
    assert value == pytest.approx(by_rows(lambda row, y: (row[0] - y) ** 2, z, scores, reduction=reduction))
    assert losses.squared_error(z[:, 0], scores, reduction=reduction).item() == value


def test_token_losses_see_labelled_rows_only():
    z, y = logits(1, 6, C), torch.tensor([-100, 2, -100, 0, 1, -100])
    kept = [1, 3, 4]
    expected = losses.cross_entropy(z[kept], y[kept])
    assert losses.token_cross_entropy(z, y).item() == expected.item()
    assert losses.token_cross_entropy(z[kept], y).item() == expected.item()
    z = z.requires_grad_()
    losses.token_cross_entropy(z, y).backward()
    assert z.grad[[0, 2, 5]].abs().sum() == 0 and (z.grad[kept].abs().sum(dim=1) > 0).all()


def test_a_batch_without_labels_has_loss_zero():
    z = logits(1, 4, C).requires_grad_()
    value = losses.token_cross_entropy(z, torch.full((4,), -100))
    value.backward()
    assert value.item() == 0 and z.grad.abs().sum() == 0


def test_the_minimum_of_a_regression_loss_is_the_target():
    target = logits(9, N, 1)
    for loss in (losses.soft_mse, lambda s, t: losses.squared_error(s, t[:, 0])):
        student = torch.zeros(N, 1, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(student, target), student)
        assert torch.allclose(student - gradient * N / 2, target)  # one Newton step of a parabola


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.squared_error(torch.zeros(4, 1), torch.zeros(4, 1)),
        lambda: losses.squared_error(torch.zeros(4), torch.zeros(1)),
        lambda: losses.squared_error(torch.zeros(4, 2), torch.zeros(4)),
        lambda: losses.cross_entropy(torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64)),
        lambda: losses.binary_cross_entropy(torch.zeros(4, 2), torch.zeros(4, 1)),
        lambda: losses.soft_mse(torch.zeros(4, 1), torch.zeros(4)),
        lambda: losses.soft_kl(torch.zeros(4, 2), torch.zeros(1, 2)),
        lambda: losses.soft_cross_entropy(torch.zeros(4, 1), torch.zeros(4, 1)),
        lambda: losses.soft_cross_entropy(torch.zeros(4), torch.zeros(4)),
        lambda: losses.softmax_regression(torch.zeros(4, 2), torch.zeros(4), weight=torch.zeros(1, 2)),
        lambda: losses.softmax_regression(torch.zeros(4, 3), torch.zeros(4, 2), weight=torch.zeros(2, 2)),
        lambda: losses.output_feature(torch.zeros(4, 3), torch.zeros(4, 1)),
        lambda: losses.labelled(torch.tensor([0, -100, 1]), torch.zeros(5, 2)),
    ],
)
def test_shapes_that_would_broadcast_are_errors(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        losses.soft_kl(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)


@pytest.mark.parametrize("kind", ["mse", "cross_entropy", "binary_cross_entropy"])
def test_softmax_regression_reads_with_the_frozen_head(kind):
    feature, teacher = logits(1, N, 4).requires_grad_(), logits(2, N, C)
    weight, bias = logits(3, C, 4).requires_grad_(), logits(4, C).requires_grad_()
    read = [
        [
            sum(w * f for w, f in zip(ws, fs, strict=True)) + b
            for ws, b in zip(weight.tolist(), bias.tolist(), strict=True)
        ]
        for fs in feature.tolist()
    ]
    row = {"mse": soft_mse_row, "cross_entropy": soft_ce_row, "binary_cross_entropy": soft_bce_row}[kind](1.0, False)
    value = losses.softmax_regression(feature, teacher, weight=weight, bias=bias, kind=kind)
    assert value.item() == pytest.approx(
        by_rows(row, torch.tensor(read, dtype=torch.float64), teacher, reduction="mean")
    )
    value.backward()
    assert weight.grad is None and bias.grad is None and feature.grad.abs().sum() > 0
