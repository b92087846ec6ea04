"""Every row of the anatomy against the stock forward: whatever is recomputed from the parts must be the same."""

from __future__ import annotations

import decoders
import pytest
import torch
from tiny_models import FAMILIES, tiny_ids, tiny_net
from torch import nn

from understudy.base.errors import RecipeError
from understudy.models.anatomy import FAMILIES as ROWS
from understudy.models.anatomy import anatomy, anatomy_of

FIRST_ONLY = [family for family in FAMILIES if ROWS[family].finish is not None]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)


def test_every_family_has_a_row_and_a_test():
    assert sorted(ROWS) == sorted([*FAMILIES, *decoders.FAMILIES])
    assert [family for family in FAMILIES if not ROWS[family].packs] == ["deberta-v2"]
    assert FIRST_ONLY == ["albert", "bert", "distilbert", "electra", "roberta", "xlm-roberta"]


def test_unknown_family_lists_the_rows():
    with pytest.raises(RecipeError, match="'gpt_neox'.*bert.*modernbert"):
        anatomy_of("gpt_neox")


@pytest.mark.parametrize("family", FIRST_ONLY)
@torch.no_grad()
def test_finish_from_attention_context_equals_the_layer(family: str):
    net = tiny_net(family)
    row = anatomy(net)
    hidden = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))
    layer = row.layers(net)[1]
    q, k, v = row.heads([project(hidden) for project in row.qkv(layer)], row.head_dim(net))
    assert q.shape == (1, 6, row.num_heads(net), row.head_dim(net))
    context = nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
    context = context.transpose(1, 2).flatten(-2)
    stock = layer(hidden, attention_mask=None)
    close(row.finish(layer, context, hidden), stock)
    # What the shortcut for the last layer does: the first token's row alone.
    close(row.finish(layer, context[:, 0], hidden[:, 0]), stock[:, 0])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_sequence_head(family: str):
    net, ids = tiny_net(family), tiny_ids()
    row = anatomy(net)
    stock = net(ids, output_hidden_states=True)
    last = stock.hidden_states[-1]
    close(row.final_linear(net)(row.pool(net, last)), stock.logits)
    close(row.final_linear(net)(row.pool(net, last[:, :1])), stock.logits)
    assert row.pool(net, last).shape == (2, row.final_linear(net).in_features)


@torch.no_grad()
def test_modernbert_that_pools_by_mean():
    net, ids = tiny_net("modernbert", classifier_pooling="mean"), tiny_ids()
    row = anatomy(net)
    stock = net(ids, output_hidden_states=True)
    assert row.pools_mean(net) and not row.pools_mean(tiny_net("modernbert", classifier_pooling="cls"))
    close(row.final_linear(net)(row.pool(net, stock.hidden_states[-1].mean(1, keepdim=True))), stock.logits)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_token_head(family: str):
    net, ids = tiny_net(family, "tokens", num_labels=5), tiny_ids()
    stock = net(ids, output_hidden_states=True)
    row = anatomy(net)
    close(row.final_linear(net)(row.tag_input(net, stock.hidden_states[-1])), stock.logits)
    assert row.final_linear(net).out_features == 5


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_masked_language_head(family: str):
    net, ids = tiny_net(family, "text"), tiny_ids()
    stock = net(ids, output_hidden_states=True)
    close(anatomy(net).fill(net, stock.hidden_states[-1]), stock.logits)


@torch.no_grad()
def test_masked_language_head_of_old_debertas():
    net, ids = tiny_net("deberta-v2", "text", legacy=True), tiny_ids()
    stock = net(ids, output_hidden_states=True)
    close(anatomy(net).fill(net, stock.hidden_states[-1]), stock.logits)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_projections_seen_by_hooks_in_a_padded_forward(family: str):
    """One token attends to itself alone: what enters the output projection is its value."""
    net, ids = tiny_net(family), tiny_ids(2, 1)
    row = anatomy(net)
    layer = row.layers(net)[0]
    inputs: dict[nn.Module, torch.Tensor] = {}
    outputs: dict[nn.Module, torch.Tensor] = {}

    def see(module, args, output) -> None:  # the first call only, see `Anatomy.qkv`
        inputs.setdefault(module, args[0])
        outputs.setdefault(module, output)

    for module in {*row.qkv(layer), row.out(layer), row.up(layer), row.down(layer)}:
        module.register_forward_hook(see)
    stock = net(ids, output_hidden_states=True)

    q, k, v = row.heads([outputs[m] for m in row.qkv(layer)], row.head_dim(net))
    assert q.shape == k.shape == v.shape == (2, 1, row.num_heads(net), row.head_dim(net))
    close(v.flatten(-2), inputs[row.out(layer)])
    attended = row.norms(layer)[0](stock.hidden_states[0]) if row.pre_norm else stock.hidden_states[0]
    close(inputs[row.qkv(layer)[0]], attended)
    assert outputs[row.out(layer)].shape == outputs[row.down(layer)].shape == (2, 1, row.width(net))
    assert outputs[row.up(layer)].shape == (2, 1, 48 * (2 if row.gated else 1))
    assert all(isinstance(norm, nn.LayerNorm | nn.Identity) for norm in row.norms(layer))


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes(family: str):
    net = tiny_net(family)
    row = anatomy(net)
    assert (row.num_layers(net), row.width(net), row.num_heads(net), row.head_dim(net)) == (3, 32, 4, 8)
    assert row.max_tokens(net) == (39 if "roberta" in family else 40)
    assert row.uses_token_types(net) is (family in ("albert", "bert", "electra"))
    assert isinstance(row.embeddings(net), nn.Module)
    assert row.backbone(row.backbone(net)) is row.backbone(net)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_dropout_is_active_in_training_only(family: str):
    key = {"distilbert": "attention_dropout", "modernbert": "attention_dropout"}
    net = tiny_net(family, **{key.get(family, "attention_probs_dropout_prob"): 0.25})
    layer = anatomy(net).layers(net)[0]
    assert anatomy(net).dropout(layer) == 0.0
    net.train()
    assert anatomy(net).dropout(layer) == 0.25


@torch.no_grad()
def test_albert_with_groups_of_several_layers():
    net, ids = tiny_net("albert", num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2), tiny_ids(1, 6)
    layers, seen = anatomy(net).layers(net), []
    for layer in {id(layer): layer for layer in layers}.values():
        layer.register_forward_pre_hook(lambda layer, args: seen.append(layer))
    net(ids)
    assert len(layers) == 8 and len({id(layer) for layer in layers}) == 4
    assert all(one is other for one, other in zip(seen, layers, strict=True))


def test_a_bare_backbone_has_no_final_linear():
    net = tiny_net("bert", "backbone")
    with pytest.raises(RecipeError, match="no head"):
        anatomy(net).final_linear(net)
