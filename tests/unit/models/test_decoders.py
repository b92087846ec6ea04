"""Decoders of every family: packed rows, padded rows and single texts give the same outputs, and the stock ones."""

from __future__ import annotations

import decoders
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from understudy.data.encode import Batch
from understudy.models.anatomy import anatomy
from understudy.models.needs import Needs
from understudy.models.signals import forward

SIZES = [5, 1, 9, 7]


def batch_of(labels: str | None = "vocabulary", *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 256, (sum(SIZES),), generator=generator)
    return Batch(ids, None, torch.tensor(SIZES), SIZES, ids.clone() if labels else None, torch.arange(len(SIZES)).numpy())


def alone(net, ids, **inputs):
    with torch.no_grad():
        return net(input_ids=ids[None], use_cache=False, **inputs)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_packed_is_alone_is_padded(family: str, tied: bool) -> None:
    net, batch = decoders.decoder(family, tie_word_embeddings=tied), batch_of()
    with torch.no_grad():
        packed = forward(net, batch, Needs(logits=True, head=True, hidden=(0, 1, 3)), kind="lm")
    torch.testing.assert_close(packed.head.logits(), packed.logits)
    parts = batch.input_ids.split(SIZES)
    single = [alone(net, part, output_hidden_states=True) for part in parts]
    torch.testing.assert_close(packed.logits, torch.cat([one.logits[0] for one in single]), rtol=1e-4, atol=1e-5)
    for layer in (0, 1, 3):
        states = torch.cat([one.hidden_states[layer][0] for one in single])
        torch.testing.assert_close(packed.hidden[layer], states, rtol=1e-4, atol=1e-5)
    padded = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(part) for part in parts], batch_first=True)
    with torch.no_grad():
        logits = net(input_ids=padded, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(packed.logits, logits[mask.bool()], rtol=1e-4, atol=1e-5)


def test_a_document_moves_no_logit_of_its_neighbours() -> None:
    net, batch, other = decoders.decoder("llama"), batch_of(), batch_of()
    other.input_ids[: SIZES[0]] = 7
    with torch.no_grad():
        before, after = (forward(net, one, Needs(logits=True), kind="lm").logits for one in (batch, other))
    assert torch.equal(before[SIZES[0] :], after[SIZES[0] :]) and not torch.equal(before[: SIZES[0]], after[: SIZES[0]])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_a_sequence_head_reads_the_last_token(family: str, side: str) -> None:
    """As the stock class does, on whichever side it is padded."""
    net = decoders.decoder(family, AutoModelForSequenceClassification, num_labels=3, pad_token_id=258)
    batch = batch_of(None)
    with torch.no_grad():
        packed = forward(net, batch, Needs(logits=True, feature="head_input"), kind="classification")
        parts = list(batch.input_ids.split(SIZES))
        ids = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=258, padding_side=side)
        stock = net(input_ids=ids, attention_mask=(ids != 258).long(), use_cache=False).logits
    torch.testing.assert_close(packed.logits, stock, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(anatomy(net).final_linear(net)(packed.feature), packed.logits)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_a_token_head_reads_every_token(family: str) -> None:
    net = decoders.decoder(family, AutoModelForTokenClassification, num_labels=3)
    batch = batch_of(None)
    with torch.no_grad():
        packed = forward(net, batch, Needs(logits=True), kind="tokens")
    single = torch.cat([alone(net, part).logits[0] for part in batch.input_ids.split(SIZES)])
    torch.testing.assert_close(packed.logits, single, rtol=1e-4, atol=1e-5)
