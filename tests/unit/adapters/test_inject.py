"""Adapters in models of every family: both forwards agree, copies and folders are whole, the base stays what it was."""

from __future__ import annotations

import copy

import pytest
import tiny_models
import torch
import torch.nn.functional as F
import toys
from adapted import IDS, is_adapters, packed, settings_of, shake, stock

import understudy
from understudy.adapters import activate, active, extract, freeze, inject, installed, merge, mergeable, put, remove
from understudy.base.errors import RecipeError
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.save import save_model
from understudy.recipe.adapter import written_out
from understudy.students.share import share


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@pytest.mark.parametrize("text", ["pfeiffer[reduction_factor=4]", "houlsby[reduction_factor=4, ln_before=true]",
                                  "parallel[mh_adapter=true]", "lora[r=3]", "ia3"])  # fmt: skip
def test_every_kind_in_every_family(family, text):
    if family == "modernbert" and text in ("lora[r=3]", "ia3"):
        text = {"lora[r=3]": "lora[r=3, targets=[qkv, down]]", "ia3": "ia3[targets=[qkv]]"}[text]
    net = tiny_models.tiny_net(family)
    base, named = stock(net), digest(net)
    inject(net, settings_of(text))
    shake(net)
    adapted = stock(net)
    assert (adapted - base).abs().max() > 1e-3
    assert torch.allclose(packed(net), adapted, atol=1e-5)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if is_adapters(key):
                parameter.zero_()
    assert torch.equal(stock(twin), adapted)  # the copy has parts of its own
    activate(twin, None)
    assert torch.equal(stock(twin), base)
    activate(twin, "task")
    adapter = extract(twin)
    remove(net, "task")
    assert torch.equal(stock(net), base) and digest(net) == named
    put(net, adapter)
    assert torch.equal(stock(net), adapted)
    if mergeable(adapter.config):
        merge(net)
        assert type(net) is type(tiny_models.tiny_net(family))
        assert torch.allclose(stock(net), adapted, atol=1e-5)
    else:
        with pytest.raises(RecipeError, match="cannot be merged"):
            merge(net)


def test_a_pfeiffer_adapter_is_its_equation():
    net = tiny_models.tiny_net("bert", num_hidden_layers=1)
    inject(net, settings_of("pfeiffer[reduction_factor=4, non_linearity=gelu, scaling=2.0]"))
    shake(net)
    layer = net.bert.encoder.layer[0]
    part = layer.output.LayerNorm.adapters["task"]
    with torch.no_grad():
        attended = layer.attention(net.bert.embeddings(IDS))[0]
        h = layer.output.dense(layer.intermediate(attended))
        norm = layer.output.LayerNorm
        x = F.layer_norm(h + attended, (32,), norm.weight, norm.bias, norm.eps)
        up = F.linear(F.gelu(F.linear(x, part.down.weight, part.down.bias)), part.up.weight, part.up.bias) * 2
        last = F.layer_norm(h + up + attended, (32,), norm.weight, norm.bias, norm.eps)
        assert torch.allclose(stock(net), net.classifier(net.bert.pooler(last)), atol=1e-6)


def test_several_by_name():
    net = tiny_models.tiny_net("bert")
    base = stock(net)
    found = {}
    for name, text in (("one", "pfeiffer"), ("two", "lora[r=2]")):
        inject(net, settings_of(text), name=name)
        shake(net, name)
        found[name] = stock(net)
    assert list(installed(net)) == ["one", "two"] and active(net) == "two"
    activate(net, "one")
    assert torch.equal(stock(net), found["one"]) and not torch.equal(found["one"], found["two"])
    with pytest.raises(RecipeError, match="already has an adapter 'one'"):
        inject(net, settings_of("lora"), name="one")
    with pytest.raises(RecipeError, match="no adapter 'three'; there are: one, two"):
        activate(net, "three")
    remove(net, "two")
    assert torch.equal(stock(net), found["one"])
    remove(net, "one")
    assert torch.equal(stock(net), base)


@pytest.mark.parametrize("text", ["houlsby[reduction_factor=4]", "lora[r=2, dropout=0.1]"])
def test_a_saved_model_keeps_its_adapter_and_stock_classes_refuse_it(text, tmp_path):
    import transformers

    net = toys.bert()
    inject(net, settings_of(text))
    shake(net)
    save_model(Model(net, toys.tokenizer(), ("glad", "sad"), "classification", "toy", None), tmp_path / "saved")
    back = load_model(str(tmp_path / "saved"))
    assert torch.equal(stock(back.net), stock(net)) and digest(back.net) == digest(net)
    understudy.register()
    automatic = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(stock(automatic), stock(net))
    assert transformers.AutoConfig.from_pretrained(tmp_path / "saved").model_type == "understudy-bert"


@pytest.mark.parametrize("text", ["pfeiffer", "lora[r=2, targets=[query, down]]", "ia3"])
def test_a_layer_that_is_used_again_has_its_adapter_there_too(text):
    """Merged, it changes weights that both uses share: acting in one of them alone would compute something else."""
    model = share(Model(tiny_models.tiny_net("bert"), toys.tokenizer(), ("a", "b"), "classification", "toy", None), "sps")
    net = model.net.eval()
    base, named = stock(net), digest(net)
    inject(net, settings_of(text))
    shake(net)
    adapted = stock(net)
    assert torch.allclose(packed(net), adapted, atol=1e-5) and not torch.allclose(adapted, base, atol=1e-4)
    twin = copy.deepcopy(net)
    remove(net, "task")
    assert torch.equal(stock(net), base) and digest(net) == named
    if mergeable(installed(twin)["task"]):
        merge(twin)
        assert torch.allclose(stock(twin), adapted, atol=1e-5)


def test_what_was_frozen_stays_frozen_when_an_adapter_comes():
    net = tiny_models.tiny_net("bert")
    freeze(net, adapter=None)
    before = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    inject(net, settings_of("lora"))
    assert {name for name, parameter in net.named_parameters() if parameter.requires_grad and not is_adapters(name)} == before
    with pytest.raises(RecipeError, match="lora and ia3 cannot be combined in one model"):
        inject(net, settings_of("ia3"), name="other")


def test_only_the_adapter_and_the_head_are_trained():
    for family, head in (("bert", {"classifier"}), ("distilbert", {"pre_classifier", "classifier"})):
        net = tiny_models.tiny_net(family)
        inject(net, settings_of("pfeiffer"))
        freeze(net, adapter="task")
        trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        assert {name.partition(".")[0] for name in trained if ".adapters." not in name} == head
        assert {name for name, _ in net.named_parameters() if ".adapters." in name} <= trained
        freeze(net, adapter=None)
        assert not any(".adapters." in name for name, parameter in net.named_parameters() if parameter.requires_grad)


def test_places_a_family_does_not_have():
    with pytest.raises(RecipeError, match="modernbert has no linear map 'query'; it has qkv, out, up, down"):
        inject(tiny_models.tiny_net("modernbert"), settings_of("lora"))
    with pytest.raises(RecipeError, match="counted from 0 to 2"):
        inject(tiny_models.tiny_net("bert"), settings_of("lora[layers=[3]]"))
    with pytest.raises(RecipeError, match="norm before the block"):
        inject(tiny_models.tiny_net("modernbert"), settings_of("pfeiffer[original_ln_after=false]"))


@pytest.mark.parametrize(("text", "error"), [
    ("pfeiffer[r=8]", "pfeiffer has no setting r. The width is set by reduction_factor"),
    ("pfeifer", "Did you mean 'pfeiffer'|There are pfeiffer"),
    ("lora[r]", "written key=value"),
    ("lora r=8", "does not name an adapter"),
])  # fmt: skip
def test_strings_that_mean_nothing(text, error):
    with pytest.raises(ValueError, match=error):
        written_out(text)


def test_names_of_the_original_command_lines():
    assert written_out("pfeiffer[reduction_factor=8]") == written_out("seq_bn[reduction_factor=8]")
    assert written_out("double_seq_bn") == written_out("houlsby") and written_out("par_bn") == written_out("parallel")
    assert written_out("lora[r=4, targets=[query, out], dropout=0.1]") == {
        "kind": "lora", "r": 4, "targets": ["query", "out"], "dropout": 0.1,
    }  # fmt: skip
