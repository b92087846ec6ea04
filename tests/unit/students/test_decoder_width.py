"""Decoders cut to a stock shape give what the whole model gives with the same units masked; rules of stock classes come early."""

from __future__ import annotations

import decoders
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from understudy.base.errors import RecipeError
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.save import save_model
from understudy.students.allocation import Scores
from understudy.students.stock import StockScores, complete_sizes, cut_to_sizes

RNG = np.random.default_rng(0)


def scores(channels: np.ndarray) -> StockScores:
    units = Scores(heads=tuple(RNG.random(4) for _ in range(3)), neurons=tuple(RNG.random(48) for _ in range(3)))
    return StockScores(units, channels, channels)


def model_of(family: str, **changes: object) -> Model:
    return Model(decoders.decoder(family, **changes), decoders.tokenizer(), (), "lm", family, None)  # type: ignore[arg-type]


def ids() -> torch.Tensor:
    return torch.randint(0, 256, (2, 11), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [{"num_key_value_heads": 1}, {"num_attention_heads": 2}, {"intermediate_size": 20}], ids=str)
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_heads_groups_and_neurons_that_go_are_those_masked(family: str, sizes: dict[str, int], tmp_path) -> None:
    model, found = model_of(family), scores(RNG.random(32))
    small = cut_to_sizes(model, sizes, found)
    row, net = anatomy(model.net), model.net
    with torch.no_grad():
        for number, layer in enumerate(row.layers(net)):
            heads = found.units.heads[number]
            if "num_key_value_heads" in sizes:
                kept = [0, 1] if heads[:2].sum() > heads[2:].sum() else [2, 3]
            elif "num_attention_heads" in sizes:
                kept = [int(heads[:2].argmax()), 2 + int(heads[2:].argmax())]
            else:
                kept = [0, 1, 2, 3]
            for head in set(range(4)) - set(kept):
                row.out(layer).weight[:, head * 8 : head * 8 + 8] = 0
            if "intermediate_size" in sizes:
                row.down(layer).weight[:, np.argsort(-found.units.neurons[number])[20:].copy()] = 0
        expected = net(ids(), use_cache=False).logits
    save_model(small, tmp_path / "small")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(ids(), use_cache=False).logits, expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_channels_that_are_copies_go_without_a_trace(family: str, tied: bool) -> None:
    """Every channel is there twice, so half of them have the same mean square: the norms do not notice. What reads channels has
    half the weight for each copy; embeddings and heads that are tied read and write."""
    model = model_of(family, tie_word_embeddings=tied, rms_norm_eps=1e-12)
    net, row = model.net, anatomy(model.net)
    half = torch.arange(16)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            for axis, size in enumerate(parameter.shape):
                writes = (axis == 0 and any(part in name for part in ("o_proj", "down_proj"))) or "embed" in name
                norm = parameter.dim() == 1
                if size == 32 and (writes or norm or (axis == 1 and "o_proj" not in name)) and "q_norm" not in name:
                    copied = parameter.index_select(axis, half)
                    parameter.copy_(torch.cat([copied, copied], axis))
        found = scores(np.r_[np.ones(16), np.zeros(16)])
        small = cut_to_sizes(model, {"hidden_size": 16, "num_attention_heads": 4}, found)
        for layer in row.layers(small.net):  # each channel stands for two now
            for reader in (*row.qkv(layer), row.up(layer), *row.gate(layer)):
                reader.weight.mul_(2)
        logits, expected = (one(ids(), use_cache=False).logits for one in (small.net, net))
        cap = row.softcap(net)
        if cap is not None:
            logits, expected = (torch.atanh((one / cap).clamp(-1 + 1e-6, 1 - 1e-6)) for one in (logits, expected))
        torch.testing.assert_close(2 * logits, expected, rtol=2e-3, atol=2e-3)


def test_what_a_stock_class_refuses_is_refused_early() -> None:
    net = model_of("llama").net
    assert complete_sizes(net, {"num_key_value_heads": 1})["num_attention_heads"] == 2
    found = scores(RNG.random(32))
    for family, sizes, message in (
        ("llama", {"hidden_size": 30}, "refuses 4 heads with hidden_size 30"),
        ("gemma2", {"hidden_size": 30}, "refuses 4 heads"),
        ("qwen2", {"num_attention_heads": 3}, "3 heads cannot share 2 heads of keys and values"),
        ("llama", {"hidden_size": 64}, "a cut makes nothing larger"),
        ("llama", {"num_hidden_layers": 2}, "cannot be; give hidden_size"),
    ):
        with pytest.raises(RecipeError, match=message):
            cut_to_sizes(model_of(family), sizes, found)
    assert cut_to_sizes(model_of("qwen2"), {"hidden_size": 30}, found).net.config.hidden_size == 30
