"""The one attention function: equal to softmax(q·k)·v written out densely over all tokens, whatever rule it is given."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from understudy.models import attention
from understudy.models.attention import Packing, Rule, attend

SIZES = [4, 1, 6, 9]
RULES = [
    Rule(scale=0.3, causal=causal, window=window, softcap=softcap)
    for causal, window, softcap in itertools.product((False, True), (None, 1, 3, 9), (None, 2.0))
]


def literal(q: Tensor, k: Tensor, v: Tensor, sizes: list[int], rule: Rule) -> Tensor:
    """One score after the other, by the definition."""
    sequence = [i for i, size in enumerate(sizes) for _ in range(size)]
    out = torch.zeros_like(q)
    group = q.shape[1] // k.shape[1]
    for token, head in itertools.product(range(len(q)), range(q.shape[1])):
        seen, scores = [], []
        for other in range(len(k)):
            away = token - other
            if sequence[token] != sequence[other] or (rule.causal and away < 0):
                continue
            if rule.window is not None and abs(away) >= rule.window:
                continue
            score = (q[token, head] * k[other, head // group]).sum() * rule.scale
            scores.append(score if rule.softcap is None else torch.tanh(score / rule.softcap) * rule.softcap)
            seen.append(other)
        out[token, head] = torch.stack(scores).softmax(0) @ v[seen, head // group]
    return out


def draw(rows: int, heads: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, heads, 8, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("variant", ["_one_by_one", "_padded"])
@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (4, 1)], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_attention_is_what_it_says(rule: Rule, heads: tuple[int, int], variant: str):
    """On a CPU sequence by sequence, elsewhere padded: contexts and gradients."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (draw(sum(SIZES), number, generator) for number in (heads[0], heads[1], heads[1]))
    direction = torch.randn(q.shape, generator=generator, dtype=torch.float64)
    found = []
    for context in (getattr(attention, variant)(q, k, v, Packing(SIZES), rule), literal(q, k, v, SIZES, rule)):
        found.append((context, *torch.autograd.grad((context * direction).sum(), (q, k, v))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("variant", ["_one_by_one", "_padded"])
def test_first_tokens_alone_ask_the_whole_sequence(variant: str):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (draw(sum(SIZES), 2, generator) for _ in range(3))
    first = torch.tensor([0, 4, 5, 11])
    packing = Packing(SIZES, queries=[1] * len(SIZES))
    context = getattr(attention, variant)(q[first], k, v, packing, Rule(scale=0.3))
    torch.testing.assert_close(context, literal(q, k, v, SIZES, Rule(scale=0.3))[first], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.softcap is None], ids=str)
def test_what_the_kernel_for_packed_rows_is_told(rule: Rule, monkeypatch):
    """The kernel itself runs on a GPU only; here stands in for it what its documentation says of its arguments."""
    from torch.nn.attention import varlen

    def documented(q, k, v, ends_q, ends_k, longest_q, longest_k, *, scale, window_size, enable_gqa):
        assert ends_q.dtype == ends_k.dtype == torch.int32 and enable_gqa
        assert ends_q.tolist() == ends_k.tolist() == [0, 4, 5, 11, 20] and longest_q == longest_k == 9
        left, right = window_size
        out = torch.zeros_like(q)
        for start, end in itertools.pairwise(ends_q.tolist()):
            away = torch.arange(end - start)[:, None] - torch.arange(end - start)
            seen = ((left < 0) | (away <= left)) & ((right < 0) | (-away <= right))
            heads = (part[start:end].transpose(0, 1) for part in (q, k, v))
            part = nn.functional.scaled_dot_product_attention(*heads, attn_mask=seen, scale=scale, enable_gqa=True)
            out[start:end] = part.transpose(0, 1)
        return out

    monkeypatch.setattr(varlen, "varlen_attn", documented)
    generator = torch.Generator().manual_seed(0)
    q, k, v = draw(20, 4, generator), draw(20, 2, generator), draw(20, 2, generator)
    ours = attention._varlen(q, k, v, Packing(SIZES), rule)
    torch.testing.assert_close(ours, literal(q, k, v, SIZES, rule), rtol=1e-9, atol=1e-11)


def test_when_the_kernel_for_packed_rows_can_do_it():
    half, full = torch.zeros(1, 1, 8, dtype=torch.bfloat16), torch.zeros(1, 1, 8)
    assert attention._has_kernel(half, Packing([1]), Rule(scale=1.0, causal=True, window=4))
    assert not attention._has_kernel(full, Packing([1]), Rule(scale=1.0))
    assert not attention._has_kernel(half, Packing([1]), Rule(scale=1.0, dropout=0.1))
    assert not attention._has_kernel(half, Packing([1]), Rule(scale=1.0, softcap=30.0))
    assert not attention._has_kernel(half, Packing([1], queries=[1]), Rule(scale=1.0))


def test_attention_is_softmax_of_scaled_products():
    q, k, v = (torch.tensor(rows).reshape(2, 1, 1) for rows in ([1.0, 0.0], [0.0, 2.0], [1.0, 3.0]))
    context = attend(q, k, v, Packing([2]), Rule(scale=1.0))
    weight = torch.tensor(2.0).sigmoid()  # softmax of (0, 2): the second key gets sigmoid(2)
    torch.testing.assert_close(context.flatten(), torch.stack([1 - weight + 3 * weight, torch.tensor(2.0)]))


@pytest.mark.parametrize("variant", ["_one_by_one", "_padded"])
def test_dropout_drops_weights_and_scales_the_rest(variant: str):
    """400 equal weights on values of 1: each context is 1 on average, with variance p / (1 - p) / 400."""
    torch.manual_seed(0)
    q = torch.zeros(400, 2, 4)
    contexts = getattr(attention, variant)(q, q, torch.ones_like(q), Packing([400]), Rule(scale=1.0, dropout=0.5))
    assert contexts.shape == (400, 2, 4)
    each = contexts[..., 0]
    assert torch.equal(each, contexts[..., 3])  # a weight is dropped for all numbers of a head alike
    assert each.mean().item() == pytest.approx(1.0, abs=0.01)
    assert each.var().item() == pytest.approx(1 / 400, rel=0.2)
    assert not torch.allclose(each[:, 0], each[:, 1], atol=1e-3)  # and for each head apart


DECODERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
    "gemma2": {"sliding_window": 4, "head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "gemma3_text": {"sliding_window": 4, "head_dim": 8, "query_pre_attn_scalar": 8},
}


@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_stock_decoders_run_on_packed_rows(family: str):
    """Causal, grouped queries, windows and caps as the stock models ask for them: the same as each sequence alone."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=64, pad_token_id=0, attn_implementation="eager", **DECODERS[family],
    )  # fmt: skip
    net = AutoModel.from_config(config).eval()
    ids = torch.randint(1, 50, (sum(SIZES),), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(size) for size in SIZES])
    with attention.packed(net.config):
        together = net(
            input_ids=ids[None], position_ids=positions[None], packing=Packing(SIZES), use_cache=False
        ).last_hidden_state[0]
    alone = torch.cat([net(part[None], use_cache=False).last_hidden_state[0] for part in ids.split(SIZES)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert net.config._attn_implementation == "eager"
