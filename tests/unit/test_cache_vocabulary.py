"""What is kept of a teacher's vocabulary: hidden states say what the live teacher says, the most likely ids what they promise."""

import decoders
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from understudy.cache import CachedTeacher, LiveTeacher, SignalCache
from understudy.cache.fields import Top
from understudy.data.encode import Encoded
from understudy.losses.chunked import Head, Sparse
from understudy.losses.divergences import forward_kl
from understudy.models.model import Model, digest
from understudy.models.needs import Needs

NEEDS = Needs(head=True)


def encoded(rows=12, seed=0):
    draw = np.random.Generator(np.random.PCG64(seed))
    lengths = draw.integers(1, 9, rows)
    ids = draw.integers(0, 256, lengths.sum() + 1)
    labels = np.where(draw.random(lengths.sum()) < 0.8, ids[1:], -100)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded([f"row-{i}" for i in range(rows)], ids[:-1].astype(np.int32), offsets, labels=labels, per_token=True)


def store(root, head, *, family="gemma2", data=None, **changes):
    net = decoders.decoder(family)
    model = Model(net, decoders.tokenizer(), (), "lm", family, None)
    cache = SignalCache(
        root, model=model, digest=digest(net), encoded=data or encoded(), precision="fp32", head=head, **changes
    )
    cache.fill(NEEDS, lambda _: None)
    return cache


def live(cache):
    return LiveTeacher(cache.model, cache.encoded, NEEDS, "fp32", lambda _: None)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_kept_hidden_states_and_the_head_give_the_live_logits(tmp_path, family):
    cache = store(tmp_path, "head", family=family)
    rows = np.array([3, 0, 7])
    kept, said = CachedTeacher(cache, NEEDS).signals(rows).head, live(cache).signals(rows).head
    assert isinstance(kept, Head) and kept.softcap == said.softcap and kept.weight is said.weight
    torch.testing.assert_close(kept.logits(), said.logits(), rtol=1e-5, atol=1e-5)
    again = CachedTeacher(store(tmp_path, "head", family=family), NEEDS).signals(rows).head
    assert torch.equal(again.hidden, kept.hidden)  # what is stored is never computed again
    half = CachedTeacher(store(tmp_path, "head", family=family, dtype="fp16"), NEEDS).signals(rows).head
    log_p, log_q = (one.logits().log_softmax(-1) for one in (said, half))
    assert F.kl_div(log_q, log_p, log_target=True, reduction="batchmean") < 1e-4


def test_the_most_likely_ids_are_kept_as_promised(tmp_path):
    cache = store(tmp_path, "top-5-3")
    everything = np.arange(len(cache.encoded))
    kept, said = CachedTeacher(cache, NEEDS).signals(everything).head, live(cache).signals(everything).head
    assert isinstance(kept, Sparse)
    log_p = said.logits().log_softmax(-1)
    labels = torch.from_numpy(cache.encoded.labels[cache.encoded.labels != -100])
    top = log_p.topk(5, -1)
    assert torch.equal(kept.ids, top.indices)
    torch.testing.assert_close(kept.log_p, top.values, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(kept.log_p.exp().sum(-1) + kept.rest.exp(), torch.ones(len(labels)))
    torch.testing.assert_close(kept.entropy, torch.special.entr(log_p.exp()).sum(-1))
    torch.testing.assert_close(kept.label_log_p, log_p.gather(1, labels[:, None]).squeeze(1))
    assert not (kept.draws[:, :, None] == kept.ids[:, None, :]).any()  # drawn from the others


def test_draws_follow_from_the_example_alone_and_are_asked_for_by_its_labels_too(tmp_path):
    whole = encoded()
    few = Encoded(
        ["a"], whole.input_ids[: whole.offsets[1]], whole.offsets[:2], labels=whole.labels[: whole.offsets[1]], per_token=True
    )
    ours = CachedTeacher(store(tmp_path / "one", "top-4-8", data=few), NEEDS).signals([0]).head
    theirs = CachedTeacher(store(tmp_path / "other", "top-4-8"), NEEDS).signals([0]).head
    assert torch.equal(ours.draws, theirs.draws) and torch.equal(ours.ids, theirs.ids)
    changed = Encoded(few.ids, few.input_ids, few.offsets, labels=np.where(few.labels >= 0, 7, -100), per_token=True)
    cache = store(tmp_path / "one", "top-4-8", data=changed)
    assert len(cache.store.parts) == 2  # other labels: another record
    said = live(cache).signals([0]).head.logits().log_softmax(-1)
    torch.testing.assert_close(CachedTeacher(cache, NEEDS).signals([0]).head.label_log_p, said[:, 7])


def test_every_tail_id_is_drawn_in_proportion_to_its_probability():
    """Over an even grid of the one number that a position is given, the draws are the tail's distribution."""
    torch.manual_seed(0)
    one = torch.randn(1, 4).double()
    weight, grid = torch.randn(9, 4).double(), 20_000
    head = Head(one.expand(grid, 4), weight)
    uniform = (torch.arange(grid) + 0.5) / grid
    kept = Sparse.of(head, torch.zeros(grid, dtype=torch.int64), 3, uniform, draws=4)
    p = (one @ weight.T).softmax(-1)[0]
    counts = torch.bincount(kept.draws.flatten(), minlength=9) / kept.draws.numel()
    tail = p.clone()
    tail[kept.ids[0]] = 0
    torch.testing.assert_close(counts.double(), tail / tail.sum(), rtol=0, atol=1e-4)
    # and so the gradient of the forward KL is right on average, up to the grid
    log_q = torch.randn(1, 9).double().log_softmax(-1).expand(grid, 9)
    loss, gradient = kept.compare(slice(None), log_q, forward_kl, 1.0)
    exact, wanted = forward_kl(log_q[:1], p.log()[None])
    torch.testing.assert_close(gradient.mean(0), wanted[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(loss.mean(), exact[0], rtol=0, atol=1e-3)


def test_a_position_is_drawn_as_often_as_its_share_rounded_up_or_down():
    """Which is what makes the tail's noise smaller than that of independent draws."""
    torch.manual_seed(1)
    head = Head(torch.randn(500, 4), torch.randn(30, 4))
    kept = Sparse.of(head, torch.zeros(500, dtype=torch.int64), 3, torch.rand(500), draws=8)
    p = head.logits().softmax(-1).scatter(1, kept.ids, 0.0)
    share = 8 * p / p.sum(-1, keepdim=True)
    counts = F.one_hot(kept.draws, 30).sum(1)
    assert ((counts >= share.floor() - 1e-4) & (counts <= share.ceil() + 1e-4)).all()


@pytest.mark.parametrize(("vocabulary", "promised"), [(151_936, 54 + 32 + 12), (32_000, 45 + 32 + 12), (10, 5 + 20 + 12)])
def test_bytes_of_a_record(vocabulary, promised):
    top = Top("top-16-8", vocabulary)
    assert top.bytes_per_row == promised
    ids = torch.stack([torch.randperm(vocabulary)[: top.top] for _ in range(3)])
    draws = torch.randint(vocabulary, (3, top.draws)) if top.draws else None
    facts = torch.full((3,), -1.0)
    record = Sparse(ids, torch.full((3, top.top), float(np.log((1 - np.exp(-1)) / top.top))), facts, facts, facts, draws)
    arrays = top.encode(record)
    assert sum(array.nbytes for array in arrays.values()) == 3 * promised
    back = top.decode(arrays)
    assert torch.equal(back.ids, ids) and (draws is None or torch.equal(back.draws, draws))
    torch.testing.assert_close(back.log_p, record.log_p, rtol=1e-3, atol=1e-4)


def test_bytes_on_disk_are_those_that_were_said(tmp_path):
    for head in ("head", "top-16-8"):
        cache = store(tmp_path / head, head, data=encoded(400))
        size = sum(path.stat().st_size for path in cache.folder.glob("parts/*/*.safetensors"))
        overhead = 28 * len(cache.encoded) + 2000 * len(cache.store.parts)  # keys and sizes of examples, headers
        assert 0 <= size - cache.bytes_needed(NEEDS) < overhead
        said = cache.in_words(NEEDS, cache.bytes_needed(NEEDS))
        assert f"{int(cache.sizes['asked'].sum()):,} positions" in said
        assert ("16 most likely ids, and 8 drawn" if head != "head" else "the input of its head") in said
