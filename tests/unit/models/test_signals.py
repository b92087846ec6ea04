"""The packed forward says what the stock forward says, in every family: logits, states, attention inputs, gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch import Tensor, nn

from understudy.data.encode import Batch
from understudy.models import signals
from understudy.models.anatomy import anatomy
from understudy.models.needs import Needs
from understudy.models.signals import forward

SIZES = [7, 3, 12, 5]
TYPED = ("bert", "electra", "albert")
FIRST_ONLY = [family for family in tiny_models.FAMILIES if family not in ("deberta-v2", "modernbert")]
HEADS = {"classification": "classification", "tokens": "tokens", "text": "text"}


def make_batch(family: str, *, sizes: list[int] = SIZES, kind: str = "classification") -> Batch:
    total = sum(sizes)
    ids = tiny_models.tiny_ids(1, total, seed=3)[0]
    types = (torch.arange(total) % 3 == 0).long() if family in TYPED else None
    labels = None
    if kind == "text":
        labels = torch.where(torch.arange(total) % 4 == 1, ids, -100)
    return Batch(ids, types, torch.tensor(sizes), sizes, labels, np.arange(len(sizes)))


@dataclass
class Stock:
    """What the stock forward of transformers gives for the same rows, padded, then packed again."""

    logits: Tensor
    head_input: Tensor
    hidden: list[Tensor]
    qkv: dict[int, list[Tensor]]


def run_stock(net: Any, batch: Batch, *, kind: str) -> Stock:
    """The model called as its users call it. `head_input` and projections are caught on the way, by hooks."""
    row = anatomy(net)
    sizes, longest = batch.sizes, max(batch.sizes)
    ids = torch.zeros(len(sizes), longest, dtype=torch.long)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, part in enumerate(batch.input_ids.split(sizes)):
        ids[i, : sizes[i]], mask[i, : sizes[i]] = part, 1
    inputs = {"input_ids": ids, "attention_mask": mask, "output_hidden_states": True}
    if batch.token_type_ids is not None:
        for i, part in enumerate(batch.token_type_ids.split(sizes)):
            types[i, : sizes[i]] = part
        inputs["token_type_ids"] = types

    def packed(value: Tensor) -> Tensor:
        return torch.cat([value[i, :size] for i, size in enumerate(sizes)])

    calls: dict[nn.Module, list[Tensor]] = {}
    read: list[Tensor] = []
    projections = {module for layer in row.layers(net) for module in row.qkv(layer)}
    hooks = [m.register_forward_hook(lambda m, _i, out: calls.setdefault(m, []).append(out)) for m in projections]
    hooks.append(row.final_linear(net).register_forward_hook(lambda _m, inputs, _o: read.append(inputs[0])))
    out = net(**inputs)
    for hook in hooks:
        hook.remove()
    qkv = {}
    for index, layer in enumerate(row.layers(net), start=1):
        # A layer that is used again calls its projections again. DeBERTa calls them with positions too, one row for all.
        own = [next(out for out in calls[m] if len(out) == len(sizes)) for m in row.qkv(layer)]
        for module in row.qkv(layer):
            calls[module] = calls[module][1 + next(i for i, out in enumerate(calls[module]) if len(out) == len(sizes)) :]
        qkv[index] = list(row.heads([packed(output) for output in own], row.head_dim(net)))
    logits, head_input = out.logits, read[-1]
    if kind in ("tokens", "text"):
        logits, head_input = packed(logits), packed(head_input)
    if kind == "text":
        logits = logits[batch.labels != -100]
    return Stock(logits, head_input, [packed(state) for state in out.hidden_states], qkv)


def close(ours: Tensor | None, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)


@pytest.fixture(params=[False, True], ids=["", "rounded"])
def rounds(request, monkeypatch) -> None:
    """Rows as they are, and rounded up with padding that nobody may notice."""
    monkeypatch.setattr(signals, "_rounds", lambda device: request.param)


def tiny(family: str, kind: str, structure: str = "stock", **changes: Any) -> Any:
    return tiny_models.tiny_structured(family, structure, HEADS[kind], num_labels=3, **changes)


@pytest.mark.parametrize("kind", list(HEADS))
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@torch.no_grad()
def test_logits_equal_the_stock_forward(family, kind, rounds):
    net, batch = tiny(family, kind), make_batch(family, kind=kind)
    ours = forward(net, batch, Needs(logits=True), kind=kind)
    assert ours.sizes == SIZES and ours.feature is None and not ours.hidden
    close(ours.logits, run_stock(net, batch, kind=kind).logits)


@pytest.mark.parametrize("structure", tiny_models.STRUCTURES)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@torch.no_grad()
def test_every_signal_at_once_equals_the_stock_forward(family, structure, rounds):
    net, batch = tiny(family, "classification", structure), make_batch(family)
    needs = Needs(logits=True, feature="head_input", hidden=(0, 1, 2, 3), cls=(0, 2, 3), qkv=(1, 3))
    ours, theirs = forward(net, batch, needs, kind="classification"), run_stock(net, batch, kind="classification")
    close(ours.logits, theirs.logits)
    close(ours.feature, theirs.head_input)
    first = torch.tensor([0, 7, 10, 22])
    assert set(ours.hidden) == {0, 1, 2, 3} and set(ours.cls) == {0, 2, 3} and set(ours.qkv) == {1, 3}
    for index, state in ours.hidden.items():
        close(state, theirs.hidden[index])
    for index, state in ours.cls.items():
        close(state, theirs.hidden[index][first])
    for index, parts in ours.qkv.items():
        for part, expected in zip(parts, theirs.qkv[index], strict=True):
            close(part, expected)


@pytest.mark.parametrize("kind", ["classification", "tokens"])
@pytest.mark.parametrize("feature", ["head_input", "cls", "mean"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@torch.no_grad()
def test_features(family, feature, kind, rounds):
    net, batch = tiny(family, kind), make_batch(family)
    ours = forward(net, batch, Needs(feature=feature), kind=kind)
    theirs = run_stock(net, batch, kind=kind)
    last = theirs.hidden[-1].split(SIZES)
    expected = {
        "head_input": theirs.head_input,
        "cls": torch.stack([rows[0] for rows in last]),
        "mean": torch.stack([rows.mean(dim=0) for rows in last]),
    }[feature]
    assert ours.logits is None
    close(ours.feature, expected)


@torch.no_grad()
def test_a_head_that_reads_the_mean():
    net = tiny("modernbert", "classification", classifier_pooling="mean")
    batch = make_batch("modernbert")
    ours = forward(net, batch, Needs(logits=True, feature="head_input"), kind="classification")
    theirs = run_stock(net, batch, kind="classification")
    close(ours.logits, theirs.logits)
    close(ours.feature, theirs.head_input)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@torch.no_grad()
def test_a_sequence_does_not_see_the_others(family):
    """Alone or among others, with padding or without: the same numbers."""
    net, batch = tiny(family, "classification"), make_batch(family)
    together = forward(net, batch, Needs(logits=True, hidden=(3,)), kind="classification")
    start = SIZES[0] + SIZES[1]
    types = None if batch.token_type_ids is None else batch.token_type_ids[start : start + SIZES[2]]
    ids = batch.input_ids[start : start + SIZES[2]]
    single = Batch(ids, types, torch.tensor([SIZES[2]]), [SIZES[2]], None, batch.indices[2:3])
    alone = forward(net, single, Needs(logits=True, hidden=(3,)), kind="classification")
    close(alone.logits, together.logits[2:3])
    close(alone.hidden[3], together.hidden[3][start : start + SIZES[2]])


def rows_through(net: Any, needs: Needs, *, kind: str = "classification") -> list[int]:
    """How many rows go through the feed-forward block of each layer; 0 where the layer is not computed."""
    row = anatomy(net)
    seen = [0] * row.num_layers(net)
    hooks = [
        row.up(layer).register_forward_hook(
            lambda _m, inputs, _o, at=at: seen.__setitem__(at, inputs[0].shape[:-1].numel())
        )
        for at, layer in enumerate(row.layers(net))
    ]
    forward(net, make_batch(row.family), needs, kind=kind)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("family", [family for family in FIRST_ONLY if family != "albert"])
@torch.no_grad()
def test_nothing_is_computed_that_nobody_asked_for(family):
    net = tiny(family, "classification")
    every, first = sum(SIZES), len(SIZES)
    assert rows_through(net, Needs(logits=True)) == [every, every, first]
    assert rows_through(net, Needs(logits=True, hidden=(2,), cls=(3,))) == [every, every, first]
    assert rows_through(net, Needs(logits=True, hidden=(3,))) == [every, every, every]
    assert rows_through(net, Needs(logits=True, qkv=(3,))) == [every, every, every]
    assert rows_through(net, Needs(feature="mean")) == [every, every, every]
    assert rows_through(net, Needs(hidden=(1,), cls=(2,))) == [every, every, 0]
    assert rows_through(net, Needs(hidden=(0,))) == [0, 0, 0]


@pytest.mark.parametrize("family", sorted(set(tiny_models.FAMILIES) - set(FIRST_ONLY)))
@torch.no_grad()
def test_families_without_the_shortcut_leave_out_whole_layers(family):
    net = tiny(family, "classification")
    every = sum(SIZES) if family == "modernbert" else len(SIZES) * max(SIZES)  # padding is computed in DeBERTa alone
    assert rows_through(net, Needs(logits=True)) == [every, every, every]
    assert rows_through(net, Needs(hidden=(1,), cls=(2,))) == [every, every, 0]
    assert rows_through(net, Needs(hidden=(0,))) == [0, 0, 0]


def test_a_model_keeps_its_own_attention_and_has_no_hooks_left():
    net, batch = tiny("bert", "classification"), make_batch("bert")
    before = net.config._attn_implementation
    for needs in (Needs(logits=True, qkv=(2,)), Needs(hidden=(1,))):
        forward(net, batch, needs, kind="classification")
    with pytest.raises(IndexError):
        forward(net, make_batch("bert", sizes=[50]), Needs(logits=True), kind="classification")  # 40 positions
    assert net.config._attn_implementation == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("structure", tiny_models.STRUCTURES)
@pytest.mark.parametrize("kind", ["classification", "tokens", "text"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_gradients_equal_those_of_the_stock_forward(family, kind, structure):
    """In double precision, through logits, hidden states and queries, keys and values of a layer that is used twice where
    layers are shared."""
    net = tiny(family, kind, structure).double()
    batch = make_batch(family, kind=kind)
    needs = Needs(logits=True, hidden=(1,), qkv=(1,))

    def gradients(logits: Tensor, hidden: Tensor, qkv: Any) -> dict[str, Tensor]:
        net.zero_grad(set_to_none=True)
        loss = logits.square().mean() + hidden.square().mean() + sum(part.square().mean() for part in qkv)
        loss.backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    ours = forward(net, batch, needs, kind=kind)
    ours_grad = gradients(ours.logits, ours.hidden[1], ours.qkv[1])
    theirs = run_stock(net, batch, kind=kind)
    theirs_grad = gradients(theirs.logits, theirs.hidden[1], theirs.qkv[1])
    assert set(ours_grad) == set(theirs_grad)
    for name, gradient in ours_grad.items():
        torch.testing.assert_close(gradient, theirs_grad[name], rtol=1e-8, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("structure", tiny_models.STRUCTURES)
@pytest.mark.parametrize("family", FIRST_ONLY)
def test_gradients_with_first_tokens_only(family, structure):
    net = tiny(family, "classification", structure).double()
    batch = make_batch(family)
    found = []
    for logits in (
        forward(net, batch, Needs(logits=True), kind="classification").logits,
        run_stock(net, batch, kind="classification").logits,
    ):
        net.zero_grad(set_to_none=True)
        logits.square().mean().backward()
        found.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    assert set(found[0]) == set(found[1])
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-8, atol=1e-11)


def test_dropout_acts_in_training_only():
    net, batch = tiny("bert", "classification"), make_batch("bert")
    needs = Needs(logits=True)
    quiet = [forward(net, batch, needs, kind="classification").logits for _ in range(2)]
    assert torch.equal(*quiet)
    net.train()
    noisy = [forward(net, batch, needs, kind="classification").logits for _ in range(2)]
    assert not torch.equal(*noisy)
