"""Folders of adapter-hub/adapters: what that library computed is the truth (tests/assets/adapterhub/make.py made it)."""

from __future__ import annotations

import json
from pathlib import Path

import adapted
import pytest
import tiny_models
import torch
import transformers
from safetensors.torch import load_file

from understudy.adapters import extract, inject, put
from understudy.adapters.files import read_adapter, write_adapter
from understudy.base.errors import DataError, RecipeError
from understudy.recipe.adapter import BottleneckAdapter, LoraAdapter

ASSETS = Path(__file__).parents[2] / "assets" / "adapterhub"
CASES = sorted(path.name for path in (ASSETS / "theirs").iterdir())
IDS = torch.tensor([[2, 7, 11, 5, 29, 3], [2, 8, 1, 19, 6, 3]])


def model(case: str):
    """The model of a case, or of a family."""
    family = case.rpartition("-")[0] or case
    return transformers.AutoModelForSequenceClassification.from_pretrained(ASSETS / "models" / family).eval()


@pytest.fixture(scope="module")
def logits():
    return load_file(ASSETS / "logits.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_their_adapters_give_their_logits(case, logits):
    net = model(case)
    bare = net(input_ids=IDS).logits
    put(net, read_adapter(ASSETS / "theirs" / case, net))
    found = net(input_ids=IDS).logits
    assert (bare - logits[f"bare.{case.rpartition('-')[0]}"]).abs().max() < 1e-6
    assert (found - logits[f"theirs.{case}"]).abs().max() < 1e-6
    assert (found - bare).abs().max() > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_they_read(case, logits, tmp_path):
    """`ours` was loaded by that library and gave the same logits; what is written now is `ours` to the last bit."""
    net = model(case)
    adapter = read_adapter(ASSETS / "theirs" / case, net)
    put(net, adapter)
    write_adapter(tmp_path / "written", extract(net, head=True), net, layout="adapterhub", name=case)
    for name in ("adapter.safetensors", "model_head.safetensors"):
        now, then = load_file(tmp_path / "written" / name), load_file(ASSETS / "ours" / case / name)
        assert now.keys() == then.keys()
        assert all(torch.equal(now[key], then[key]) for key in then)
    for name in ("adapter_config.json", "head_config.json"):
        assert json.loads((tmp_path / "written" / name).read_text()) == json.loads((ASSETS / "ours" / case / name).read_text())
    assert (logits[f"ours.{case}"] - logits[f"theirs.{case}"]).abs().max() < 1e-6


def test_settings_are_read_as_they_were_given():
    net = model("bert")
    read = {case: read_adapter(ASSETS / "theirs" / case, net).config for case in CASES if case.startswith("bert-")}
    double, lora, parallel = read["bert-double_seq_bn"], read["bert-lora"], read["bert-par_bn"]
    assert isinstance(double, BottleneckAdapter) and isinstance(parallel, BottleneckAdapter) and isinstance(lora, LoraAdapter)
    assert (double.mh_adapter, double.ln_before, double.non_linearity, double.reduction_factor) == (True, True, "swish", 4.0)
    assert (parallel.is_parallel, parallel.scaling, parallel.mh_adapter) == (True, 4.0, False)
    assert (lora.r, lora.alpha, lora.targets) == (2, 6.0, ("query", "value", "up", "down"))


def test_gelu_of_files_without_a_version_is_the_approximation(tmp_path):
    source = ASSETS / "theirs" / "bert-seq_bn"
    config = json.loads((source / "adapter_config.json").read_text())
    config["config"]["non_linearity"] = "gelu"
    (tmp_path / "adapter.safetensors").write_bytes((source / "adapter.safetensors").read_bytes())
    for version, meant in ((config.pop("version"), "gelu"), (None, "gelu_new")):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **({"version": version} if version else {})}))
        assert read_adapter(tmp_path, model("bert")).config.non_linearity == meant


def test_kinds_that_are_not_known_are_refused(tmp_path):
    net = model("bert")
    source = ASSETS / "theirs" / "bert-seq_bn"
    config = json.loads((source / "adapter_config.json").read_text())
    (tmp_path / "adapter.safetensors").write_bytes((source / "adapter.safetensors").read_bytes())
    for change in ({"phm_layer": True}, {"architecture": "prefix_tuning"}, {"scaling": "learned"}):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "config": {**config["config"], **change}}))
        with pytest.raises(RecipeError, match="not supported"):
            read_adapter(tmp_path, net)


def test_a_pickle_that_is_more_than_data_is_not_run(tmp_path):
    class Opens:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    source = ASSETS / "theirs" / "bert-double_seq_bn"
    (tmp_path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    torch.save({"weight": Opens()}, tmp_path / "pytorch_adapter.bin")
    with pytest.raises(DataError, match="holds more than tensors"):
        read_adapter(tmp_path, model("bert"))
    assert not (tmp_path / "opened").exists()


def test_a_folder_that_is_damaged_or_none_is_said_to_be(tmp_path):
    net = model("bert")
    with pytest.raises(DataError, match="has no adapter_config.json"):
        read_adapter(tmp_path, net)
    source = ASSETS / "theirs" / "bert-seq_bn"
    (tmp_path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    with pytest.raises(DataError, match="no adapter weights"):
        read_adapter(tmp_path, net)
    (tmp_path / "adapter.safetensors").write_bytes((source / "adapter.safetensors").read_bytes()[:200])
    with pytest.raises(DataError, match="damaged"):
        read_adapter(tmp_path, net)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["pfeiffer", "houlsby", "parallel"])
def test_a_family_that_library_does_not_have_goes_there_and_back(kind, tmp_path):
    net, again = (tiny_models.tiny_net("modernbert", seed=3) for _ in range(2))
    bare = adapted.stock(net)
    inject(net, adapted.settings_of(f"{kind}[reduction_factor=4]"))
    adapted.shake(net)
    write_adapter(tmp_path / "written", extract(net), net)
    put(again, read_adapter(tmp_path / "written", again))
    assert torch.equal(adapted.stock(again), adapted.stock(net)) and not torch.allclose(adapted.stock(net), bare)
