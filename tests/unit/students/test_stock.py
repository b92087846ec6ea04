"""Students of stock shape: what is cut leaves no trace where it did nothing, the folder is one of transformers alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer

from understudy.base.errors import RecipeError
from understudy.data.encode import encode
from understudy.data.types import Example, Task
from understudy.kinds import kind
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.restructure import num_units, physical_layers
from understudy.models.save import save_model
from understudy.students.allocation import Scores
from understudy.students.importance import channel_importance
from understudy.students.stock import StockScores, complete_sizes, cut_to_sizes

KINDS = ("classification", "tokens", "text")
AUTO = {"classification": transformers.AutoModelForSequenceClassification, "tokens": transformers.AutoModelForTokenClassification,
        "text": transformers.AutoModelForMaskedLM}  # fmt: skip


def teacher(family: str, asked: str = "classification", **changes) -> Model:
    net = tiny_net(family, asked, **({} if asked == "text" else {"num_labels": 3}), **changes)
    return Model(net, tiny_tokenizer(), () if asked == "text" else ("a", "b", "c"), asked, "a teacher", None)


def scores(net, *, seed: int = 0) -> StockScores:
    draw = np.random.default_rng(seed)
    heads, neurons = num_units(net)
    units = Scores(tuple(draw.random(n) for n in heads), tuple(draw.random(n) for n in neurons))
    width = anatomy(net).width(net)
    return StockScores(units, draw.random(width), draw.random(width))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_heads_and_neurons_that_do_nothing_go_without_a_trace(family: str, tmp_path: Path):
    """The cut of heads and neurons alone (twice as wide heads keep the width) equals the whole model with them at zero."""
    whole = teacher(family)
    row, told = anatomy(whole.net), scores(whole.net)
    for layer, neurons in zip(physical_layers(whole.net), told.units.neurons, strict=True):
        gone = np.argsort(-neurons, kind="stable")[24:]
        row.down(layer).weight[:, gone] = 0
    small = cut_to_sizes(whole, {"intermediate_size": 24}, told)
    save_model(small, tmp_path / "student")
    stock = AUTO["classification"].from_pretrained(tmp_path / "student").eval()
    assert type(stock) is type(whole.net) and stock.config.model_type == family
    ids = tiny_ids(3, 9)
    torch.testing.assert_close(stock(ids).logits, whole.net(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("asked", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_tensor_is_cut_along_the_same_channels(family: str, asked: str, tmp_path: Path):
    """Beside a literal version: the whole model with zeros where channels, heads and neurons went, its norms over the others."""
    whole = teacher(family, asked, **({"embedding_size": 12} if family == "electra" else {}))
    row, told = anatomy(whole.net), scores(whole.net)
    if asked == "text":
        told = StockScores(told.units, told.channels, told.channels)
    small = cut_to_sizes(whole, {"hidden_size": 16, "intermediate_size": 24}, told)
    save_model(small, tmp_path / "student")
    stock = AUTO[asked].from_pretrained(tmp_path / "student").eval()
    assert (stock.config.hidden_size, stock.config.num_attention_heads) == (16, 2)
    ids = tiny_ids(3, 9)
    torch.testing.assert_close(stock(ids).logits, masked(whole, told)(ids).logits, rtol=1e-4, atol=1e-5)
    assert row.head_dim(stock) == row.head_dim(whole.net)


def masked(whole: Model, told: StockScores):
    """The whole network with zeros for what a cut to half takes away, and norms that look at the kept channels alone."""
    net = copy.deepcopy(whole.net)
    row, width = anatomy(net), anatomy(net).head_dim(net)
    kept = torch.zeros(row.width(net), dtype=torch.bool)
    kept[np.argsort(-told.channels, kind="stable")[:16].copy()] = True
    pooled = torch.zeros(row.width(net), dtype=torch.bool)
    pooled[np.argsort(-told.pooled, kind="stable")[:16].copy()] = True
    backbone = {id(module) for module in row.backbone(net).modules()}
    for layer, heads, neurons in zip(physical_layers(net), told.units.heads, told.units.neurons, strict=True):
        for head in np.argsort(-heads, kind="stable")[2:]:
            row.out(layer).weight[:, head * width : (head + 1) * width] = 0
        row.down(layer).weight[:, np.argsort(-neurons, kind="stable")[24:].copy()] = 0
    for module in net.modules():
        if isinstance(module, torch.nn.LayerNorm) and module.weight.shape[0] == 32:
            mine = kept if id(module) in backbone or whole.kind.on_vocabulary else pooled

            def over_kept(x, module=module, mine=mine):
                made = torch.zeros_like(x)
                bias = None if module.bias is None else module.bias[mine]
                made[..., mine] = torch.nn.functional.layer_norm(x[..., mine], (16,), module.weight[mine], bias, module.eps)
                return made

            module.forward = over_kept
    inside = {id(module) for layer in row.layers(net) for module in layer.modules()}
    last = row.final_linear(net)
    for module in net.modules():
        outside = isinstance(module, torch.nn.Linear) and module is not last and id(module) not in inside
        if outside and module.weight.shape[0] == 32:  # a pooler, or what widens narrow embeddings
            mine = kept if whole.kind.on_vocabulary or module.weight.shape[1] < 32 else pooled
            for parameter in module.parameters():
                parameter[~mine] = 0  # and stays zero through tanh, relu and gelu
    if getattr(net.config, "conv_kernel_size", 0):
        net.deberta.encoder.conv.conv.weight[~kept] = 0
        net.deberta.encoder.conv.conv.bias[~kept] = 0
    return net


@pytest.mark.parametrize("family", FAMILIES)
def test_importance_of_channels_is_the_slope_of_the_loss(family: str):
    """Against autograd of the stock forward with a mask for each row, one row at a time."""
    whole = teacher(family)
    task = Task("toy", kind("classification"), labels=("a", "b", "c"))
    texts = ["my printer is on fire please help", "the laptop will not start", "thanks a lot the screen is broken again"]
    rows = [Example(id=str(i), text=text, label=i) for i, text in enumerate(texts)]
    channels, pooled = channel_importance(whole, encode(rows, whole.tokenizer, task, max_length=40))
    net, row = whole.net.double(), anatomy(whole.net)
    expected, behind = np.zeros(32), np.zeros(32)
    for example in rows:
        mask, last = (torch.ones(32, dtype=torch.float64, requires_grad=True) for _ in range(2))
        norms = {id(norm): norm for layer in physical_layers(net) for norm in row.norms(layer)}.values()
        hooks = [norm.register_forward_hook(lambda m, i, out, mask=mask: out * mask) for norm in norms]
        if row.embeddings(net)(torch.tensor([[5]])).shape[-1] == 32:
            hooks.append(row.embeddings(net).register_forward_hook(lambda m, i, out, mask=mask: out * mask))
        hooks.append(row.final_linear(net).register_forward_pre_hook(lambda m, inputs, last=last: (inputs[0] * last,)))
        inputs = whole.tokenizer(example.text, return_tensors="pt")
        logits = net(**{name: value for name, value in inputs.items() if name != "token_type_ids"}).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([example.label]))
        for total, slope in zip((expected, behind), torch.autograd.grad(loss, (mask, last)), strict=True):
            total += slope.abs().numpy()
        for hook in hooks:
            hook.remove()
    np.testing.assert_allclose(channels, expected, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(pooled, behind, rtol=2e-3, atol=1e-5)


def test_sizes_follow_each_other_and_what_does_not_fit_is_said():
    net = tiny_net("bert")
    assert complete_sizes(net, {"hidden_size": 16}) == {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 48}
    assert complete_sizes(net, {"num_attention_heads": 3})["hidden_size"] == 24
    for sizes, message in (
        ({"hidden_size": 20}, "heads are 8 wide"),
        ({"hidden_size": 16, "num_attention_heads": 4}, "that are 2 heads"),
        ({"hidden_size": 64}, "the teacher has 32"),
        ({"vocab_size": 9}, "vocab_size cannot be"),
    ):
        with pytest.raises(RecipeError, match=message):
            complete_sizes(net, sizes)
    narrow = teacher("electra", embedding_size=16)
    with pytest.raises(RecipeError, match="no place for electra.embeddings_project"):
        cut_to_sizes(narrow, {"hidden_size": 16}, scores(narrow.net))
