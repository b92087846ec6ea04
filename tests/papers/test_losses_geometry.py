"""RKD against loops over pairs and triples; its edge cases; features."""

import math

import pytest
import torch

from understudy import losses


def rows(seed, n, d, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth_l1(e):
    return 0.5 * e * e if abs(e) < 1 else abs(e) - 0.5


def slow_distance(student, teacher):
    """Equation 4, mean over ordered pairs of distinct rows."""

    def relative(x):
        n = len(x)
        d = {(i, j): math.dist(x[i], x[j]) for i in range(n) for j in range(n) if i != j}
        mean = sum(d.values()) / len(d)
        return {pair: value / mean for pair, value in d.items()}

    s, t = relative(student.tolist()), relative(teacher.tolist())
    return sum(smooth_l1(s[pair] - t[pair]) for pair in s) / len(s)


def slow_angle(student, teacher):
    """Equation 6, mean over ordered triples of distinct rows."""

    def cosine(x, i, j, k):
        a, b = ([p - q for p, q in zip(x[m], x[i], strict=True)] for m in (j, k))
        return sum(p * q for p, q in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    s, t, n = student.tolist(), teacher.tolist(), len(student)
    triples = [(i, j, k) for i in range(n) for j in range(n) for k in range(n) if len({i, j, k}) == 3]
    return sum(smooth_l1(cosine(s, *v) - cosine(t, *v)) for v in triples) / len(triples)


PAIRS = [(losses.rkd_distance, slow_distance), (losses.rkd_angle, slow_angle)]


@pytest.mark.parametrize("n", [3, 4, 9])
@pytest.mark.parametrize(("loss", "slow"), PAIRS)
def test_rkd_equals_the_loops(loss, slow, n):
    student, teacher = rows(1, n, 5), rows(2, n, 7)
    assert loss(student, teacher).item() == pytest.approx(slow(student, teacher), abs=1e-13)


@pytest.mark.parametrize("n", [3, 8, 32])
def test_parity_differs_from_the_default_by_the_entries_that_are_always_zero(n):
    student, teacher = rows(3, n, 16), rows(4, n, 16)
    distance, angle = (loss(student, teacher).item() for loss in (losses.rkd_distance, losses.rkd_angle))
    parity_d, parity_a = (
        loss(student, teacher, parity=True).item() for loss in (losses.rkd_distance, losses.rkd_angle)
    )
    assert abs(parity_d - distance * (n - 1) / n) < 1e-15
    assert abs(parity_a - angle * (n - 1) * (n - 2) / n**2) < 1e-15


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_rkd_has_the_gradient_of_its_value(loss, parity):
    student, teacher = rows(5, 5, 3).requires_grad_(), rows(6, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.detach(), parity=parity), (student,))
    loss(student, teacher, parity=parity).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows_are_zero_and_stay_in_the_graph(loss, parity, n):
    student = rows(7, n, 3).requires_grad_()
    value = loss(student, rows(8, n, 3), parity=parity)
    value.backward()
    assert value.item() == 0 and student.grad.shape == student.shape and student.grad.abs().sum() == 0


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_doubles_in_the_batch_give_finite_modest_gradients(loss, parity):
    """The same text twice, where dropout separates the two on one side only: no 0/0, and no gradient of 1e12."""
    student, teacher = rows(9, 6, 4), rows(10, 6, 4)
    student[1] = student[0]
    student.requires_grad_()
    value = loss(student, teacher, parity=parity)
    value.backward()
    assert torch.isfinite(value) and student.grad.abs().max() < 10
    collapsed = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)
    loss(collapsed, teacher, parity=parity).backward()
    assert torch.isfinite(collapsed.grad).all()


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_relations_ignore_place_and_size(loss):
    x = rows(11, 6, 4)
    assert loss(3 * x + 5, x).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_half_precision_is_as_good_as_its_inputs(loss):
    """Far from the origin the Gram matrix loses all digits in bf16; the default never computes it there."""
    student, teacher = (1 + 0.05 * rows(seed, 16, 768, torch.float32) for seed in (12, 13))
    exact = loss(student.double(), teacher.double()).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = loss(student, teacher).item()
        faulty = loss(student, teacher, parity=True).item()
    assert under_autocast == pytest.approx(exact, rel=1e-4)
    rounded = loss(student.bfloat16(), teacher.bfloat16())
    assert rounded.dtype == torch.float32 and rounded.item() == pytest.approx(exact, rel=0.15)
    if loss is losses.rkd_distance:  # what parity keeps: the original's arithmetic, wrong by far
        assert abs(faulty - exact) > 0.5 * exact


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_rkd_needs_the_same_rows(loss):
    with pytest.raises(ValueError, match="same rows"):
        loss(rows(1, 4, 3), rows(2, 5, 3))


def test_features_equal_their_formulas():
    student, teacher = rows(14, 4, 3), rows(15, 4, 3)
    pairs = list(zip(student.tolist(), teacher.tolist(), strict=True))
    squares = [sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) for s, t in pairs]
    cosines = [sum(a * b for a, b in zip(s, t, strict=True)) / (math.hypot(*s) * math.hypot(*t)) for s, t in pairs]
    assert losses.output_feature(student, teacher).item() == pytest.approx(sum(squares) / 12)
    assert losses.output_feature(student, teacher, over="sum").item() == pytest.approx(sum(squares) / 4)
    assert losses.output_feature(student, teacher, reduction="sum").item() == pytest.approx(sum(squares) / 3)
    value = losses.output_feature(student, teacher, kind="cosine")
    assert value.item() == pytest.approx(1 - sum(cosines) / 4)
    assert losses.output_feature(3 * teacher, teacher, kind="cosine").item() == pytest.approx(0, abs=1e-15)
    assert losses.output_feature(-teacher, teacher, kind="cosine").item() == pytest.approx(2)


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_features_have_the_gradient_of_their_value(kind):
    student = rows(16, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.output_feature(x, rows(17, 4, 3), kind=kind), (student,))
