"""Losses on layers, packed, against loops over one sequence at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import losses


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row):
    top = max(row)
    parts = [math.exp(x - top) for x in row]
    return [part / sum(parts) for part in parts]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def slow_relation(queries, keys):
    """(L, d) lists -> the L rows of softmax(Q K^T / sqrt d)."""
    return [softmax([dot(q, k) / math.sqrt(len(q)) for k in keys]) for q in queries]


def slow_relation_kl(student_qk, teacher_qk, sizes, reduction):
    values, start = [], 0
    for size in sizes:
        part = slice(start, start + size)
        heads = teacher_qk[0].shape[1]
        total = 0.0
        for h in range(heads):
            r_s = slow_relation(*(x[part, h].tolist() for x in student_qk))
            r_t = slow_relation(*(x[part, h].tolist() for x in teacher_qk))
            for p_row, q_row in zip(r_t, r_s, strict=True):
                total += sum(p * math.log(p / q) for p, q in zip(p_row, q_row, strict=True))
        values.append(total / (heads * size))
        start += size
    return sum(values) / (len(values) if reduction == "mean" else 1)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_relations_equal_the_loops(reduction, sizes, seed):
    student, teacher = randn(seed, sum(sizes), 2, 3), randn(seed + 100, sum(sizes), 2, 5)
    value = losses.relations(student, teacher, sizes, reduction=reduction).item()
    expected = slow_relation_kl((student, student), (teacher, teacher), sizes, reduction)
    assert value == pytest.approx(expected, abs=1e-12)


def test_relation_heads_regroup_the_same_numbers():
    sizes = [2, 4, 2]
    student, teacher = randn(1, 8, 3, 4), randn(2, 8, 6, 8)  # widths 12 and 48
    value = losses.relations(student, teacher, sizes, heads=4).item()
    regrouped = student.flatten(1).unflatten(1, (4, 3)), teacher.flatten(1).unflatten(1, (4, 12))
    assert value == losses.relations(*regrouped, sizes).item()
    with pytest.raises(ValueError, match="divide"):
        losses.relations(student, teacher, sizes, heads=5)


def test_attention_relations_equal_the_loops():
    sizes = [3, 1, 3]
    (s_q, s_k), (t_q, t_k) = (randn(1, 7, 2, 3), randn(2, 7, 2, 3)), (randn(3, 7, 2, 4), randn(4, 7, 2, 4))
    value = losses.attention_relations(s_q, s_k, t_q, t_k, sizes).item()
    assert value == pytest.approx(slow_relation_kl((s_q, s_k), (t_q, t_k), sizes, "mean"), abs=1e-12)
    with pytest.raises(ValueError, match="head"):
        losses.attention_relations(s_q, s_k, randn(3, 7, 4, 2), randn(4, 7, 4, 2), sizes)


def test_token_similarity_equals_the_loops():
    sizes = [2, 3, 2]
    student, teacher = randn(5, 7, 3), randn(6, 7, 4)
    values, start = [], 0
    for size in sizes:
        s, t = ([[x / math.hypot(*v) for x in v] for v in m[start : start + size].tolist()] for m in (student, teacher))
        gaps = [(dot(s[i], s[j]) - dot(t[i], t[j])) ** 2 for i in range(size) for j in range(size)]
        values.append(sum(gaps) / size**2)
        start += size
    assert losses.token_similarity(student, teacher, sizes).item() == pytest.approx(sum(values) / 3, abs=1e-13)


def test_layer_losses_have_the_gradient_of_their_value():
    sizes = [2, 3]
    x, y = randn(7, 5, 2, 2).requires_grad_(), randn(8, 5, 2, 2)
    assert torch.autograd.gradcheck(lambda s: losses.relations(s, y, sizes), (x,))
    assert torch.autograd.gradcheck(lambda s: losses.attention_relations(s, s, y, y, sizes), (x,))
    h, g = randn(9, 5, 3).requires_grad_(), randn(10, 5, 3)
    assert torch.autograd.gradcheck(lambda s: losses.token_similarity(s, g, sizes), (h,))
    assert torch.autograd.gradcheck(lambda s: losses.hidden_states([s], [g]), (h,))
    assert torch.autograd.gradcheck(lambda s: losses.patient([s], [g]), (h,))


@pytest.mark.parametrize("loss", [losses.relations, losses.token_similarity])
def test_neither_the_order_nor_the_neighbours_of_a_sequence_matter(loss):
    a, b = (randn(11, 3, 2, 2), randn(12, 3, 2, 2)), (randn(13, 2, 2, 2), randn(14, 2, 2, 2))
    if loss is losses.token_similarity:
        a, b = (tuple(x.flatten(1) for x in pair) for pair in (a, b))
    alone = loss(*a, [3], reduction="sum") + loss(*b, [2], reduction="sum")
    together = loss(torch.cat([b[0], a[0]]), torch.cat([b[1], a[1]]), [2, 3], reduction="sum")
    assert together.item() == pytest.approx(alone.item(), abs=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hidden_states_average_layers_and_dimensions(reduction):
    student, teacher = [randn(1, 4, 3), randn(2, 4, 3)], [randn(3, 4, 3), randn(4, 4, 3)]
    per_layer = []
    for s, t in zip(student, teacher, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)]
        per_layer.append(sum(squares) / 3 / (4 if reduction == "mean" else 1))
    value = losses.hidden_states(student, teacher, reduction=reduction).item()
    assert value == pytest.approx(sum(per_layer) / 2)


def test_patient_equals_equation_7_and_the_released_code():
    student, teacher = [randn(1, 4, 3), randn(2, 4, 3)], [randn(3, 4, 3), randn(4, 4, 3)]
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        for a, b in zip(s.tolist(), t.tolist(), strict=True):
            total += sum((x / math.hypot(*a) - y / math.hypot(*b)) ** 2 for x, y in zip(a, b, strict=True))
    equation = total / 2  # over layers and examples: equation 7 divided by the number of layers
    assert losses.patient(student, teacher, reduction="sum").item() == pytest.approx(equation)
    assert losses.patient(student, teacher, over="mean").item() == pytest.approx(total / (4 * 2 * 3))
    assert losses.patient([5 * teacher[0]], [teacher[0]]).item() == pytest.approx(0, abs=1e-15)


def test_nothing_flows_into_the_teacher():
    sizes = [2, 3]
    teacher = randn(1, 5, 4).requires_grad_()
    student = randn(2, 5, 4).requires_grad_()
    losses.token_similarity(student, teacher, sizes).backward()
    losses.hidden_states([student], [teacher]).backward()
    losses.patient([student], [teacher]).backward()
    losses.relations(student.unflatten(1, (2, 2)), teacher.unflatten(1, (2, 2)), sizes).backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize("sizes", [[2, 2], [], [5, 0], [3, 3]])
def test_sizes_must_fit(sizes):
    with pytest.raises(ValueError):
        losses.token_similarity(randn(1, 5, 2), randn(2, 5, 2), sizes)


@pytest.mark.parametrize("loss", [losses.hidden_states, losses.patient])
def test_layers_must_pair(loss):
    with pytest.raises(ValueError, match="pairs layers"):
        loss([randn(1, 2, 2)], [])
    with pytest.raises(ValueError, match="differ"):
        loss([randn(1, 2, 2)], [randn(1, 2, 3)])
