"""Networks with a structure on disk: each tensor once, read by the Auto classes and by us, refused by everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer

import understudy
from understudy.base.errors import DataError
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.restructure import cut, physical_layers, restructure
from understudy.models.save import save_model
from understudy.models.structure import Structure, structure_of
from understudy.students.share import share

AUTO = {
    "classification": transformers.AutoModelForSequenceClassification,
    "tokens": transformers.AutoModelForTokenClassification,
    "text": transformers.AutoModelForMaskedLM,
    "backbone": transformers.AutoModel,
}


def student(family: str = "bert", kind: str = "classification", *, cuts: bool = True) -> Model:
    labels = () if kind in ("text", "backbone") else ("yes", "no")
    model = Model(tiny_net(family, kind), tiny_tokenizer(), labels, "text" if kind == "backbone" else kind, "a net", None)
    model = share(model, "sps")
    if cuts:
        count = len(physical_layers(model.net))
        cut(model.net, heads=[[3, 0], [], [1]][:count], neurons=[[0, 9], [], list(range(48))][:count])
    return model


@pytest.mark.parametrize(
    "family, kind",
    [(family, "classification") for family in FAMILIES]
    + [(family, kind) for family in ("bert", "modernbert") for kind in ("tokens", "text", "backbone")],
)
@torch.no_grad()
def test_auto_classes_and_load_model_read_it(family: str, kind: str, tmp_path: Path):
    model, ids = student(family, kind), tiny_ids()
    folder = save_model(model, tmp_path / "compact")
    understudy.register()
    theirs = AUTO[kind].from_pretrained(folder).eval()
    expected, got = model.net(ids, output_hidden_states=True), theirs(ids, output_hidden_states=True)
    assert torch.equal(got[0], expected[0])
    assert len(got.hidden_states) == len(expected.hidden_states) == theirs.config.num_hidden_layers + 1
    assert digest(theirs) == digest(model.net)
    ours = load_model(str(folder))
    assert digest(ours.net) == digest(model.net) and structure_of(ours.net) == structure_of(model.net)
    assert ours.labels == model.labels


def test_each_tensor_is_stored_once(tmp_path: Path):
    model = student(cuts=False)
    folder = save_model(model, tmp_path / "compact")
    stored = load_file(folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == sum(p.numel() for p in model.net.parameters())
    assert {name.split(".")[3] for name in stored if ".layer." in name} == {"0", "1", "2"}
    assert set(stored) == set(model.net.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stock_class_refuses_it(family: str, tmp_path: Path):
    """Shared layers have the shapes a stock class expects, so something else must stop it."""
    model = student(family, cuts=False)
    folder = save_model(model, tmp_path / "shared")
    stock = type(model.net).__mro__[1]
    with pytest.raises(Exception, match=r"call understudy.register\(\) before loading"):
        stock.from_pretrained(folder)
    narrow = Model(tiny_net(family), tiny_tokenizer(), ("yes", "no"), "classification", "a net", None)
    cut(narrow.net, heads=[[0]] * len(physical_layers(narrow.net)))
    with pytest.raises(RuntimeError, match="mismatch"):
        stock.from_pretrained(save_model(narrow, tmp_path / "narrow"))


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_does_not_fit_together_is_refused(tmp_path: Path):
    def folder(name: str) -> Path:
        return save_model(student(cuts=False), tmp_path / name)

    unshuffled = folder("unshuffled")
    edit(unshuffled / "config.json", lambda config: config["understudy"].update(schedule=[[0, False], [1, False], [2, False]]))
    with pytest.raises(DataError, match=r"structure.json and config.json describe different structures"):
        load_model(str(unshuffled))

    fewer, changed = folder("fewer"), [[0, False], [1, False], [0, True]]
    edit(fewer / "config.json", lambda config: config["understudy"].update(schedule=changed))
    edit(fewer / "structure.json", lambda content: content["structure"].update(schedule=changed))
    with pytest.raises(DataError, match="holds weights that its structure has no place for"):
        load_model(str(fewer))

    more, changed = folder("more"), [[0, False], [1, False], [2, False], [3, False]]
    edit(more / "config.json", lambda config: config["understudy"].update(schedule=changed))
    edit(more / "structure.json", lambda content: content["structure"].update(schedule=changed))
    with pytest.raises(DataError, match="lacks weights"):
        load_model(str(more))

    nonsense = folder("nonsense")
    edit(nonsense / "config.json", lambda config: config["understudy"].update(schedule=[[0, "no"]]))
    with pytest.raises(DataError, match="schedule must be a list of"):
        load_model(str(nonsense))

    without = folder("without")
    edit(without / "config.json", lambda config: config.update(understudy=None, num_hidden_layers=3))
    (without / "structure.json").unlink()
    with pytest.raises(DataError, match="needs the key `understudy`"):
        load_model(str(without))

    lost = folder("lost")
    weights = load_file(lost / "model.safetensors")
    weights.pop("bert.encoder.layer.1.output.dense.bias")
    save_file(weights, lost / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="lacks weights"):
        load_model(str(lost))


def test_structure_json_tells_what_was_kept(tmp_path: Path):
    model = student()
    content = json.loads((save_model(model, tmp_path / "compact") / "structure.json").read_text())
    assert content["structure"]["heads"] == [[3, 0], [], [1]]
    assert content["uncut"] == {"heads": 4, "neurons": 48, "head_width": 8}
    assert content["layers"][0] == {"heads": 2, "neurons": 2} and content["virtual_layers"] == 6
    assert content["num_parameters"] == sum(p.numel() for p in model.net.parameters())
    save_model(Model(tiny_net("bert"), tiny_tokenizer(), ("a", "b"), "classification", "", None), tmp_path / "stock")
    assert not (tmp_path / "stock" / "structure.json").exists()


def test_the_digest_sees_the_structure():
    nets = [tiny_net("bert") for _ in range(3)]
    schedule = ((0, False), (1, False), (2, False), (0, False))
    restructure(nets[1], Structure(schedule=schedule))
    restructure(nets[2], Structure(schedule=(*schedule[:3], (0, True))))
    assert len({digest(net) for net in nets}) == 3


@pytest.mark.parametrize("first", ["understudy", pytest.param("transformers", marks=pytest.mark.slow)])
def test_a_fresh_process_reads_it_once_registered(first: str, tmp_path: Path):
    """In whatever order both are imported; and `import understudy` alone brings nothing heavy along."""
    folder = save_model(student(), tmp_path / "compact")
    code = f"""
import sys, {first}
assert {first!r} == "transformers" or not {{"torch", "transformers"}} & set(sys.modules)
import understudy
understudy.register()
understudy.register()
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
assert AutoConfig.from_pretrained({str(folder)!r}).num_hidden_layers == 6
AutoTokenizer.from_pretrained({str(folder)!r})
net, report = AutoModelForSequenceClassification.from_pretrained({str(folder)!r}, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"]
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
