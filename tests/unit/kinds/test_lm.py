"""Numbers of language models against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from understudy.kinds import kind

LM = kind("lm")


def test_windows_become_documents_and_bits_per_byte_are_their_sums() -> None:
    """Two windows of the first document, one of the second: 4 nats over 6 bytes, and 2 over 2."""
    rows = [np.array([3.0, 4.0]), np.array([1.0, 2.0]), np.array([2.0, 1.0])]
    scores, gold = LM.collect(LM.by_example(rows, np.array([0, 0, 1]), np.array([6, 0, 2]), 2), [])
    assert scores.tolist() == [[4.0, 6.0], [2.0, 1.0]] and gold.tolist() == [6.0, 2.0]
    found = LM.statistics((), scores, gold)
    weights = np.array([[1.0, 1.0], [0.0, 2.0]])
    assert found["bpb"](weights).tolist() == pytest.approx([6 / 8 / math.log(2), 1 / math.log(2)])
    assert found["loss"](weights).tolist() == pytest.approx([6 / 7, 2.0])
    assert found["perplexity"](weights).tolist() == pytest.approx([math.exp(6 / 7), math.exp(2)])
    assert found["compression"](weights).tolist() == pytest.approx([1 - 6 / 64 / math.log(2), 1 - 1 / 8 / math.log(2)])
    assert set(found) == {"bpb", "loss", "perplexity", "compression"}


def test_beside_a_teacher_divergence_and_agreement_are_summed_over_scored_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(3, 5, generator=generator) for _ in range(2))
    labels = torch.tensor([1, -100, 4, 0])
    rows = LM.read(ours, labels=labels, sizes=[2, 2], words=[], reference=theirs)
    p, q = theirs.double().softmax(-1), ours.double().softmax(-1)
    kl = [(a * (a / b).log()).sum().item() for a, b in zip(p, q, strict=True)]
    nats = [-q[i, label].log().item() for i, label in enumerate((1, 4, 0))]
    same = (p.argmax(-1) == q.argmax(-1)).double().tolist()
    assert rows[0].tolist() == pytest.approx([nats[0], 1, kl[0], same[0]], rel=1e-5)
    assert rows[1].tolist() == pytest.approx([nats[1] + nats[2], 2, kl[1] + kl[2], same[1] + same[2]], rel=1e-5)
