"""Losses over a vocabulary: divergences against their definitions and autograd, chunks against dense, records of a teacher."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import understudy
from understudy.losses.chunked import Head, Soft, Sparse, over_vocabulary, peak_bytes
from understudy.losses.divergences import NAMES, divergence

N, V, D = 7, 11, 5
CASES = [
    ("forward_kl", {}), ("reverse_kl", {}), ("jsd", {"beta": 0.5}), ("jsd", {"beta": 0.1, "scaled": True}),
    ("skew_kl", {"alpha": 0.1}),
    ("skew_reverse_kl", {"alpha": 0.3}), ("tvd", {}), ("ab", {"alpha": 0.2, "beta": 0.7}), ("ab", {"alpha": -0.3, "beta": 1.1}),
    ("adaptive_kl", {"mass": 0.5}),
]  # fmt: skip


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def literal(name, z, log_p, *, beta=0.5, alpha=0.1, mass=0.5, scaled=False):
    """The definitions as they are written, for autograd: (N, V) logits and log-probabilities to (N,)."""
    q, p = z.softmax(-1), log_p.exp()
    kl = lambda a, b: (a * (a / b).log()).sum(-1)  # noqa: E731
    if name == "forward_kl":
        return kl(p, q)
    if name == "reverse_kl":
        return kl(q, p)
    if name == "jsd":
        m = beta * p + (1 - beta) * q
        return (beta * kl(p, m) + (1 - beta) * kl(q, m)) / (beta * (1 - beta) if scaled else 1)
    if name == "skew_kl":
        return kl(p, alpha * p + (1 - alpha) * q)
    if name == "skew_reverse_kl":
        return kl(q, alpha * q + (1 - alpha) * p)
    if name == "tvd":
        return (p - q).abs().sum(-1) / 2
    if name == "ab":
        parts = (
            p**alpha * q**beta
            - alpha / (alpha + beta) * p ** (alpha + beta)
            - beta / (alpha + beta) * q ** (alpha + beta)
        )
        return -parts.sum(-1) / (alpha * beta)
    weights = []
    for row_p, row_q in zip(p, q.detach(), strict=True):  # adaptive, one row at a time
        order = row_p.argsort(descending=True)
        inside, total = [], 0.0
        for c in order.tolist():
            if total >= mass:
                break
            inside.append(c)
            total += float(row_p[c])
        gap = (row_p - row_q).abs()
        head = float(gap[inside].sum())
        weights.append(head / float(gap.sum()) if float(gap.sum()) else 0.5)
    share = torch.tensor(weights, dtype=z.dtype)
    return share * kl(p, q) + (1 - share) * kl(q, p)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_divergence_and_its_gradient_are_those_of_the_definition(name, options):
    z, log_p = randn(0, N, V).mul(2).requires_grad_(), randn(1, N, V).mul(2).log_softmax(-1)
    wanted = literal(name, z, log_p, **options)
    (gradient,) = torch.autograd.grad(wanted.sum(), z)
    loss, ours = divergence(name, **options)(z.detach().log_softmax(-1), log_p)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours, gradient, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equal_distributions_differ_by_nothing_and_impossible_classes_count_nothing(name, options):
    log_p = randn(1, N, V).float().log_softmax(-1)
    loss, gradient = divergence(name, **options)(log_p.clone(), log_p.clone())
    assert loss.abs().max() < 1e-6 and gradient.abs().max() < 1e-6
    if options.get("alpha", 1.0) < 0:
        return  # p^alpha of an impossible class is infinite
    z, t = randn(0, N, V), randn(1, N, V)
    t[:, 3] = z[:, 3] = -math.inf  # ruled out by both: as if the class were not there
    loss, gradient = divergence(name, **options)(z.log_softmax(-1), t.log_softmax(-1))
    keep = [c for c in range(V) if c != 3]
    less, fewer = divergence(name, **options)(z[:, keep].log_softmax(-1), t[:, keep].log_softmax(-1))
    torch.testing.assert_close(loss, less)
    torch.testing.assert_close(gradient[:, keep], fewer)
    assert not gradient[:, 3].any()


def test_the_ends_of_jsd_and_of_alpha_beta():
    log_q, log_p = randn(0, N, V).log_softmax(-1), randn(1, N, V).log_softmax(-1)
    forward, reverse = (divergence(name)(log_q, log_p)[0] for name in ("forward_kl", "reverse_kl"))
    torch.testing.assert_close(divergence("jsd", beta=1e-7, scaled=True)(log_q, log_p)[0], forward, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        divergence("jsd", beta=1 - 1e-7, scaled=True)(log_q, log_p)[0], reverse, rtol=1e-5, atol=0
    )
    torch.testing.assert_close(divergence("ab", alpha=1.0, beta=1e-7)(log_q, log_p)[0], forward, rtol=1e-5, atol=0)
    torch.testing.assert_close(divergence("ab", alpha=1e-7, beta=1.0)(log_q, log_p)[0], reverse, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("forward_kl", {"beta": 0.5}, "takes no options"),
     ("jsd", {"beta": 1.0}, "its ends are forward_kl"), ("ab", {"beta": 0.0}, "its limits"),
     ("skew_kl", {"alpha": 0.0}, "between 0 and 1"), ("ab", {"alpha": -0.7}, "alpha \\+ beta")],
)  # fmt: skip
def test_what_is_not_defined_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        divergence(name, **options)


# --- from hidden states and heads ------------------------------------------------------------------------------------


def student_and_teacher(*, bias=True, softcap=3.0, scale=0.7, dtype=torch.float64, width=4):
    def one(seed, d):
        return Head(
            randn(seed, N, d).to(dtype),
            randn(seed + 1, V, d).to(dtype),
            randn(seed + 2, V).to(dtype) if bias else None,
            softcap,
            scale,
        )

    return one(10, D), one(20, width), torch.arange(N) * 3 % V


def dense_logits(head):
    z = head.hidden @ head.weight.T
    z = (z if head.bias is None else z + head.bias) * head.scale
    return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)


def grads_of(total, head):
    return torch.autograd.grad(total, [t for t in (head.hidden, head.weight, head.bias) if t is not None])


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_chunked_is_dense(name, options, temperature, plain, rows):
    head = {"bias": False, "softcap": None, "scale": 1.0} if plain else {}
    student, teacher, labels = student_and_teacher(**head)
    for tensor in (student.hidden, student.weight, student.bias):
        if tensor is not None:
            tensor.requires_grad_()
    counts = torch.linspace(0.0, 2.0, N, dtype=torch.float64)
    z, log_p = dense_logits(student), (dense_logits(teacher) / temperature).log_softmax(-1)
    soft = temperature**2 * literal(name, z / temperature, log_p, **options) @ counts
    hard = F.cross_entropy(z, labels, reduction="none") @ counts
    wanted = 0.8 * soft + 0.3 * hard
    asked = Soft(0.8, divergence(name, **options), temperature)
    total, ours, theirs = over_vocabulary(
        student, labels, teacher, soft=asked, hard=0.3, row_weights=counts, chunk_bytes=rows * V * 8
    )  # fmt: skip
    for one, other in ((total, wanted), (ours, soft), (theirs, hard)):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-10, atol=1e-10)
    for one, other in zip(grads_of(3.0 * total, student), grads_of(3.0 * wanted, student), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_tied_embedding_gets_the_gradient_of_both_uses():
    embedding, ids, labels = randn(3, V, D).requires_grad_(), torch.arange(N) % V, torch.arange(N) * 5 % V
    _, teacher, _ = student_and_teacher(bias=False, softcap=None, scale=1.0)
    hidden = torch.tanh(F.embedding(ids, embedding))
    total, _, _ = over_vocabulary(
        Head(hidden, embedding), labels, teacher, soft=Soft(), hard=0.5, chunk_bytes=2 * V * 8
    )
    (ours,) = torch.autograd.grad(total, embedding)
    z = torch.tanh(F.embedding(ids, embedding)) @ embedding.T
    wanted = literal("forward_kl", z, dense_logits(teacher).log_softmax(-1)).sum()
    wanted = wanted + 0.5 * F.cross_entropy(z, labels, reduction="sum")
    torch.testing.assert_close(ours, torch.autograd.grad(wanted, embedding)[0], rtol=1e-10, atol=1e-10)


def test_a_frozen_head_costs_no_gradient_of_its_own_and_scoring_none_at_all():
    student, teacher, labels = student_and_teacher()
    student.hidden.requires_grad_()
    total, _, _ = over_vocabulary(student, labels, teacher, soft=Soft())
    total.backward()
    assert student.weight.grad is None and student.hidden.grad is not None
    with torch.no_grad():
        assert not over_vocabulary(student, labels, teacher, soft=Soft())[0].requires_grad
    with pytest.raises(RuntimeError, match="once"):
        total.backward()
    empty = Head(student.hidden[:0], student.weight.requires_grad_())
    total, _, _ = over_vocabulary(empty, labels[:0], hard=1.0)
    total.backward()
    assert total.item() == 0 and not empty.weight.grad.any()


def test_losses_are_computed_in_fp32_out_of_the_product():
    """bf16 operands: as near as the operands' own rounding, where rounding the logits as well costs a hundred times more."""
    torch.manual_seed(0)
    hidden, weight, moved = torch.randn(64, 128), torch.randn(512, 128) / 11, torch.randn(64, 128) / 20
    h, w, t = hidden.bfloat16(), weight.bfloat16(), (hidden + moved).bfloat16()
    labels = torch.arange(64)

    def gradient(z):
        z = z.double()
        log_p = (t.double() @ w.double().T).log_softmax(-1)
        return (z.softmax(-1) - log_p.exp()) @ w.double()

    h.requires_grad_()
    total, _, _ = over_vocabulary(Head(h, w), labels, Head(t, w), soft=Soft())
    ours = torch.autograd.grad(total, h)[0].double()
    exact, rounded = gradient(h.double() @ w.double().T), gradient(h @ w.T)
    assert h.grad is None and ours.shape == exact.shape
    error, peers = ((one - exact).norm() / exact.norm() for one in (ours, rounded))
    assert error < 0.004 < peers  # bf16 itself has 8 bits: 2^-8


def test_shapes_that_do_not_fit_are_refused():
    student, teacher, labels = student_and_teacher(bias=False)
    with pytest.raises(ValueError, match="11 ids, the student's 9"):
        over_vocabulary(Head(student.hidden, student.weight[:9]), labels, teacher, soft=Soft())
    with pytest.raises(ValueError, match="rows of hidden states"):
        over_vocabulary(student, labels[1:], teacher, soft=Soft())


# --- records of a teacher --------------------------------------------------------------------------------------------


def record(log_p, k, *, draws=None, labels=None):
    top = log_p.topk(k, dim=-1)
    rest = log_p.scatter(1, top.indices, -torch.inf).logsumexp(-1)
    label = log_p.gather(1, labels[:, None]).squeeze(1) if labels is not None else log_p[:, 0]
    return Sparse(top.indices, top.values, rest, torch.special.entr(log_p.exp()).sum(-1), label, draws)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_rest_bucket_is_the_divergence_of_merged_classes(name, options):
    z, log_p = randn(0, N, V).requires_grad_(), randn(1, N, V).log_softmax(-1)
    kept = record(log_p, 4)
    loss, gradient = kept.compare(slice(None), z.detach().log_softmax(-1), divergence(name, **options), 1.0)
    known = z.log_softmax(-1).gather(1, kept.ids)
    merged = torch.cat([known, (1 - known.exp().sum(-1, keepdim=True)).log()], 1)  # a softmax of these gives q back
    wanted = literal(name, merged, torch.cat([kept.log_p, kept.rest[:, None]], 1), **options)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), z)[0], rtol=1e-9, atol=1e-11)


def test_a_rest_bucket_of_everything_is_dense_and_otherwise_a_lower_bound_that_rises_with_k():
    log_q, log_p = randn(0, N, V).log_softmax(-1), randn(1, N, V).log_softmax(-1)
    exact, gradient = divergence("forward_kl")(log_q, log_p)
    before = torch.zeros(N, dtype=torch.float64)
    for k in range(1, V + 1):
        loss, ours = record(log_p, k).compare(slice(None), log_q, divergence("forward_kl"), 1.0)
        assert (loss >= before - 1e-12).all() and (loss <= exact + 1e-12).all()
        before = loss
    torch.testing.assert_close(loss, exact)
    torch.testing.assert_close(ours, gradient)


def test_drawn_tails_are_unbiased_for_the_gradient_and_the_loss_exactly():
    """One draw per position: the average over every id that can be drawn, weighted by its probability, is the whole gradient."""
    log_q, log_p = randn(0, N, V).log_softmax(-1), randn(1, N, V).log_softmax(-1)
    exact, gradient = divergence("forward_kl")(log_q, log_p)
    top, kept = log_p.topk(3, -1).indices, record(log_p, 3)
    mean, value = torch.zeros_like(gradient), torch.zeros_like(exact)
    for id_ in range(V):
        possible = ~(top == id_).any(-1)
        chance = torch.where(possible, (log_p[:, id_] - kept.rest).exp(), 0.0)
        drawn = record(log_p, 3, draws=torch.full((N, 1), id_))
        loss, ours = drawn.compare(slice(None), log_q, divergence("forward_kl"), 1.0)
        mean += chance[:, None] * ours
        value += chance * loss
    torch.testing.assert_close(mean, gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-12)
    with_rest, _ = drawn.compare(slice(None), log_q, divergence("reverse_kl"), 1.0)  # no unbiased form: the rest bucket
    torch.testing.assert_close(with_rest, kept.compare(slice(None), log_q, divergence("reverse_kl"), 1.0)[0])


def test_a_record_says_nothing_at_another_temperature():
    log_p = randn(1, N, V).log_softmax(-1)
    student, _, labels = student_and_teacher()
    with pytest.raises(ValueError, match="temperature 2"):
        over_vocabulary(student, labels, record(log_p, 4), soft=Soft(temperature=2.0))


def test_every_divergence_of_the_table_was_tested():
    assert {name for name, _ in CASES} == set(NAMES)
    assert len(list(itertools.chain.from_iterable(o for _, o in CASES)))


# --- memory ----------------------------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys, torch
from understudy.losses.chunked import Head, Soft, over_vocabulary
from understudy.losses.divergences import divergence
rows, vocabulary, width, chunk, name = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
torch.manual_seed(0)
h, w = torch.randn(rows, width).requires_grad_(), (torch.randn(vocabulary, width) / width**0.5).requires_grad_()
t, u = torch.randn(rows, width), torch.randn(vocabulary, width) / width**0.5
labels = torch.arange(rows)
over_vocabulary(Head(h[:2], w), labels[:2], Head(t[:2], u), soft=Soft(1.0, divergence(name)), hard=1.0,
                chunk_bytes=1)  # kernels are loaded
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
over_vocabulary(Head(h, w), labels, Head(t, u), soft=Soft(1.0, divergence(name)), hard=1.0, chunk_bytes=chunk)[0].backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def peak(rows, vocabulary, width, chunk, name):
    source = str(Path(understudy.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    environment["MALLOC_MMAP_THRESHOLD_"] = "65536"  # freed memory goes back at once
    command = [sys.executable, "-c", _MEASURE, *map(str, (rows, vocabulary, width, chunk)), name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


@pytest.mark.parametrize(
    ("rows", "chunk", "name"),
    [(24, 2**22, "adaptive_kl"), *(pytest.param(4096, 2**26, name, marks=pytest.mark.slow) for name in ("forward_kl", "jsd"))],
)
def test_the_promised_peak_holds_for_a_large_vocabulary(rows, chunk, name):
    vocabulary, width = 151_936, 64
    promised = peak_bytes(rows, vocabulary, width, chunk_bytes=chunk)
    assert peak(rows, vocabulary, width, chunk, name) < promised + 2**24  # the interpreter's own
    assert promised < 6.5 * chunk + 2**26 < 4 * 2 * 4096 * vocabulary  # never two matrices of all rows
