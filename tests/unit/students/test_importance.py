"""Importance against finite differences of weights, and against one example at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny_models
import torch
import torch.nn.functional as F

from understudy.base.errors import DataError
from understudy.data.encode import Encoded, collate
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.models.restructure import physical_layers
from understudy.models.signals import forward
from understudy.students.importance import importance

KINDS = ("classification", "regression", "multilabel", "tokens", "text")
OUTPUTS = {"classification": 3, "regression": 1, "multilabel": 3, "tokens": 4, "text": 24}


def rows(kind: str, number: int = 6, *, seed: int = 0) -> Encoded:
    """Rows of 4 to 9 tokens with random labels; for tokens and text two in three tokens have one."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, 10, number)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = draw.integers(5, 24, offsets[-1]).astype(np.int32)
    labels = {
        "classification": lambda: draw.integers(0, 3, number),
        "regression": lambda: draw.normal(size=number).astype(np.float32),
        "multilabel": lambda: draw.integers(0, 2, (number, 3)).astype(np.float32),
    }.get(kind, lambda: np.where(draw.random(offsets[-1]) < 0.67, draw.integers(0, OUTPUTS[kind], offsets[-1]), -100))()
    types = np.zeros(offsets[-1], np.int8)
    return Encoded([str(i) for i in range(number)], ids, offsets, types, labels, per_token=kind in ("tokens", "text"))


def model_of(family: str, kind: str) -> Model:
    head = {"tokens": "tokens", "text": "text"}.get(kind, "classification")
    changes = {} if kind == "text" else {"num_labels": OUTPUTS[kind]}
    net = tiny_models.tiny_net(family, head, **changes).double()
    return Model(net, None, (), kind, "tiny", None)


def own_loss(model: Model, data: Encoded, example: int) -> float:
    """The loss of one example, written out."""
    batch = collate(data, [example])
    with torch.no_grad():
        logits = forward(model.net, batch, Needs(logits=True), kind=model.kind).logits
    labels = batch.labels
    assert logits is not None and labels is not None
    if model.kind == "regression":
        return float((logits[0, 0] - labels[0]) ** 2)
    if model.kind == "multilabel":
        return float(F.binary_cross_entropy_with_logits(logits, labels.double()))
    if model.kind == "classification":
        return float(F.cross_entropy(logits, labels))
    there = labels != -100
    return float(F.cross_entropy(logits if model.kind == "text" else logits[there], labels[there]))


def faded(model: Model, data: Encoded, example: int, columns: torch.Tensor) -> float:
    """d loss / d mask by differences: scaling the columns a unit writes to is scaling what it says."""
    step, losses = 1e-3, []  # not less: ModernBERT turns its queries in fp32
    kept = columns.clone()
    for sign in (1, -1):
        with torch.no_grad():
            columns.copy_(kept * (1 + sign * step))
        losses.append(own_loss(model, data, example))
    with torch.no_grad():
        columns.copy_(kept)
    return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize(
    ("family", "kind"),
    [*((family, "classification") for family in tiny_models.FAMILIES), *(("bert", kind) for kind in KINDS[1:])],
)
def test_slopes_equal_finite_differences(family: str, kind: str):
    model, data = model_of(family, kind), rows(kind, 3)
    scores = importance(model, data, max_tokens=64)
    row = anatomy(model.net)
    width = row.head_dim(model.net)
    layers = physical_layers(model.net)
    assert len(layers) == (1 if family == "albert" else 3)
    for number in (0, len(layers) - 1):
        out, down = row.out(layers[number]).weight, row.down(layers[number]).weight
        for head in (0, 3):
            columns = out.data[:, head * width : (head + 1) * width]
            expected = sum(abs(faded(model, data, i, columns)) for i in range(3))
            assert scores.heads[number][head] == pytest.approx(expected, rel=1e-3, abs=1e-9)
        for neuron in (1, 40):
            expected = sum(abs(faded(model, data, i, down.data[:, neuron])) for i in range(3))
            assert scores.neurons[number][neuron] == pytest.approx(expected, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_scores_do_not_depend_on_how_rows_are_batched(family: str, kind: str):
    model, data = model_of(family, kind), rows(kind, 7)
    one, all_at_once = (importance(model, data, max_tokens=tokens) for tokens in (1, 10_000))
    for few, many in zip((*one.heads, *one.neurons), (*all_at_once.heads, *all_at_once.neurons), strict=True):
        np.testing.assert_allclose(few, many, rtol=1e-9)


@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_as_released_it_is_the_slope_of_the_mean_of_a_batch(kind: str):
    """A batch of one is an example; in a batch of several, slopes of either sign cancel."""
    model, data = model_of("bert", kind), rows(kind, 5)
    examples = importance(model, data)
    singles = importance(model, data, granularity="batch", batch_size=1)
    np.testing.assert_allclose(singles.heads[1], examples.heads[1], rtol=1e-9)
    whole = importance(model, data, granularity="batch", batch_size=5)
    assert (whole.heads[1] * 5 <= examples.heads[1] * (1 + 1e-6)).all()
    assert whole.heads[1].sum() * 5 < examples.heads[1].sum() * 0.9
    if kind == "classification":
        out = anatomy(model.net).out(physical_layers(model.net)[1]).weight.data
        expected = abs(sum(faded(model, data, i, out[:, 8:16]) for i in range(5)) / 5)
        assert whole.heads[1][1] == pytest.approx(expected, rel=1e-3)


def test_the_model_is_left_as_it_was():
    model, data = model_of("bert", "classification"), rows("classification")
    model.net.train()
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    first, second = importance(model, data), importance(model, data)
    assert model.net.training and all(parameter.grad is None for parameter in model.net.parameters())
    assert all(tensor.equal(before[name]) for name, tensor in model.net.state_dict().items())
    assert all((a == b).all() for a, b in zip(first.neurons, second.neurons, strict=True))  # no dropout, no hooks left


def test_rows_without_labels_are_refused():
    data = dataclasses.replace(rows("classification"), labels=None)
    with pytest.raises(DataError, match="these have no labels"):
        importance(model_of("bert", "classification"), data)
