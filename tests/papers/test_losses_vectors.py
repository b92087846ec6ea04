"""Losses of vectors against their equations, written out text by text."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from understudy import losses


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a @ b) / math.sqrt(a @ a) / math.sqrt(b @ b))


def test_vectors_are_compared_by_sums_over_dimensions() -> None:
    s, t = rows(5, 4), rows(5, 4, seed=1)
    for kind, one in {
        "squared": lambda a, b: sum(float(x - y) ** 2 for x, y in zip(a, b, strict=True)),
        "distance": lambda a, b: math.sqrt(sum(float(x - y) ** 2 for x, y in zip(a, b, strict=True))),
        "cosine": lambda a, b: 1 - cosine(a, b),
    }.items():
        expected = sum(one(a, b) for a, b in zip(s, t, strict=True))
        assert losses.vector(s, t, kind=kind, reduction="sum").item() == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]
    assert losses.vector(s, s, kind="distance").item() < 1e-5  # no slope at 0, and no NaN
    s.requires_grad_()
    losses.vector(s, s.detach(), kind="distance").backward()
    assert torch.isfinite(s.grad).all()


def test_unit_vectors_have_squared_distances_of_twice_the_cosines() -> None:
    s, t = (torch.nn.functional.normalize(one, dim=1) for one in (rows(6, 3), rows(6, 3, seed=1)))
    assert losses.vector(s, t, kind="squared").item() == pytest.approx(2 * losses.vector(s, t).item())


def test_similarities_are_compared_without_the_text_itself() -> None:
    s, t = rows(5, 4), rows(5, 7, seed=1)
    squares, kl, temperature = [], 0.0, 0.1
    for i in range(5):
        others = [j for j in range(5) if j != i]
        squares += [(cosine(s[i], s[j]) - cosine(t[i], t[j])) ** 2 for j in others]
        p, q = ([math.exp(cosine(x[i], x[j]) / temperature) for j in others] for x in (t, s))
        p, q = ([one / sum(x) for one in x] for x in (p, q))
        kl += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert losses.similarity_squared(s, t).item() == pytest.approx(sum(squares) / 20, rel=1e-10)
    assert losses.similarity_kl(s, t, temperature=temperature).item() == pytest.approx(kl / 5, rel=1e-10)


def test_at_a_small_temperature_the_diagonal_would_leave_nothing_to_learn() -> None:
    s, t = rows(8, 4), rows(8, 4, seed=1)
    with_itself = 0.0
    for i in range(8):
        p, q = (torch.tensor([cosine(x[i], x[j]) for j in range(8)]).div(0.01).log_softmax(0) for x in (t, s))
        with_itself += float((p.exp() * (p - q)).sum()) / 8
    assert with_itself < 0.05 < 1 < losses.similarity_kl(s, t, temperature=0.01)


def test_copies_of_a_text_are_no_others() -> None:
    s, t = rows(5, 4), rows(5, 4, seed=1)
    t[4] = t[0]
    s[4] = s[0]
    others = losses.similarity_squared(s, t)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j and {i, j} != {0, 4}]
    expected = sum((cosine(s[i], s[j]) - cosine(t[i], t[j])) ** 2 for i, j in pairs) / len(pairs)
    assert others.item() == pytest.approx(expected, rel=1e-9)
    assert torch.isfinite(losses.similarity_kl(s, t, temperature=0.01))
    alike = t[:1].repeat(5, 1)
    assert losses.similarity_kl(s, alike).item() == 0.0  # nothing is another text


def test_infonce_text_by_text() -> None:
    q, d = rows(3, 4), rows(5, 4, seed=1)
    positive = torch.tensor([[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
    allowed = torch.ones(3, 5, dtype=torch.bool)
    allowed[1, 3] = False
    found = []
    for i in range(3):
        for j in range(5):
            if positive[i, j]:
                against = [k for k in range(5) if k == j or (allowed[i, k] and not positive[i, k])]
                powers = {k: math.exp(cosine(q[i], d[k]) / 0.05) for k in against}
                found.append(-math.log(powers[j] / sum(powers.values())))
    loss = losses.contrastive(q, d, positive, allowed)
    assert loss.item() == pytest.approx(sum(found) / len(found), rel=1e-10)


def test_margins_and_lists_text_by_text() -> None:
    s, z = rows(7), rows(7, seed=1) * 4
    lists = torch.tensor([0, 0, 0, 3, 3, 5, 3])
    members = {0: [0, 1, 2], 3: [3, 4, 6]}  # the list of one is left out
    margins, kl = [], []
    for places in members.values():
        best = max(places, key=lambda i: float(z[i]))
        others = [i for i in places if i != best]
        margins.append(sum(float((s[best] - s[i]) - (z[best] - z[i])) ** 2 for i in others) / len(others))
        p, q = ([math.exp(float(x[i]) / t) for i in places] for x, t in ((z, 2.0), (s, 0.5)))
        p, q = ([one / sum(x) for one in x] for x in (p, q))
        kl.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert losses.margin_mse(s, z, lists).item() == pytest.approx(sum(margins) / 2, rel=1e-10)
    assert losses.list_kl(s, z, lists, temperature=2.0, scale=0.5).item() == pytest.approx(sum(kl) / 2, rel=1e-10)
    alone = torch.arange(7)
    assert losses.margin_mse(s, z, alone).item() == losses.list_kl(s, z, alone).item() == 0.0


@pytest.mark.parametrize("loss", [losses.similarity_squared, losses.similarity_kl])
def test_gradients_are_right_and_the_teacher_gets_none(loss) -> None:
    s, t = rows(5, 4).requires_grad_(), rows(5, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, t.detach()), (s,))
    loss(s, t).backward()
    assert t.grad is None
