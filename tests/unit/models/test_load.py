"""The one door for weights: what fits is loaded exactly, what does not is refused with the reason."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer

from understudy.base.errors import DataError, RecipeError, SafetyError
from understudy.models import source as source_module
from understudy.models.load import _open_tokenizer, load_model
from understudy.models.model import digest
from understudy.models.source import resolve


@dataclass(frozen=True)
class TaskStub:
    kind: str = "classification"
    labels: tuple[str, ...] = ("anger", "joy", "fear")


TASK = TaskStub()


def checkpoint(folder: Path, family: str = "bert", head: str = "classification", *, names=None, **changes) -> Path:
    """A saved model of three outputs; `names` are its labels."""
    net = tiny_net(family, head, **{"num_labels": 3, **changes})
    if names:
        net.config.id2label = dict(enumerate(names))
        net.config.label2id = {name: i for i, name in enumerate(names)}
    net.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


# -- heads and labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["classification", "tokens"])
@torch.no_grad()
def test_outputs_are_put_into_the_tasks_order_by_name(family: str, kind: str, tmp_path: Path):
    folder = checkpoint(tmp_path, family, kind, names=("joy", "fear", "anger"))
    stock = tiny_net(family, kind, num_labels=3)
    model = load_model(str(folder), task=TaskStub(kind))
    ids = tiny_ids()
    torch.testing.assert_close(model.net(ids).logits, stock(ids).logits[..., [2, 0, 1]], atol=1e-6, rtol=1e-5)
    assert model.labels == TASK.labels and model.kind == kind
    assert model.net.config.id2label == {0: "anger", 1: "joy", 2: "fear"}
    assert model.net.config.label2id == {"anger": 0, "joy": 1, "fear": 2}
    assert "reordered from joy, fear, anger to anger, joy, fear" in model.notes[0]
    assert not model.net.training


def test_labels_in_order_need_no_note(tmp_path: Path):
    model = load_model(str(checkpoint(tmp_path, names=TASK.labels)), task=TASK)
    assert model.notes == ()


def test_label_names_forgive_capitals_and_separators(tmp_path: Path):
    folder = checkpoint(tmp_path, names=("Not_Same", "SAME ", "un-sure"))
    model = load_model(str(folder), task=TaskStub(labels=("same", "not same", "Un sure")))
    assert model.net.config.id2label[0] == "same"
    assert "SAME  = same" in model.notes[0] and "reordered" in model.notes[1]


def test_names_that_differ_only_in_capitals_are_not_confused(tmp_path: Path):
    folder = checkpoint(tmp_path, names=("a", "A", "b"))
    model = load_model(str(folder), task=TaskStub(labels=("A", "a", "b")))
    assert "reordered from a, A, b to A, a, b" in model.notes[0]


def test_generic_names_are_taken_by_position_and_said(tmp_path: Path):
    model = load_model(str(checkpoint(tmp_path)), task=TASK)
    assert model.labels == TASK.labels
    assert "LABEL_0, LABEL_1, LABEL_2" in model.notes[0] and "order of the task" in model.notes[0]


@pytest.mark.parametrize("names", [("joy", "fear", "surprise"), ("joy", "joy", "fear"), ("LABEL_0", "LABEL_1", "joy")])
def test_other_labels_are_refused_naming_both_sets(names, tmp_path: Path):
    with pytest.raises(DataError, match=r"teacher\.model: .*'joy'.*'anger', 'joy', 'fear'") as caught:
        load_model(str(checkpoint(tmp_path, names=names)), task=TASK, key="teacher.model")
    assert caught.value.exit_code == 3


@torch.no_grad()
@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_of_a_head_that_knows_more_the_tasks_outputs_are_kept_on_request(kind: str, tmp_path: Path):
    """Its probabilities are the old ones among the labels that stay, renormalised."""
    folder = checkpoint(tmp_path, head=kind, names=("joy", "fear", "anger"))
    with pytest.raises(DataError, match=r"\[joy, fear, anger\], or leave its others out .*: \[Anger, joy\]"):
        load_model(str(folder), task=TaskStub(kind, labels=("Anger", "joy")))
    model = load_model(str(folder), task=TaskStub(kind, labels=("Anger", "joy")), among=True)
    whole = tiny_net("bert", kind, num_labels=3)(tiny_ids()).logits.softmax(-1)[..., [2, 0]]
    torch.testing.assert_close(model.net(tiny_ids()).logits.softmax(-1), whole / whole.sum(-1, keepdim=True))
    assert model.labels == ("Anger", "joy") and model.net.config.id2label == {0: "Anger", 1: "joy"}
    assert "knows more labels than task.labels" in model.notes[0] and "without fear" in model.notes[0]
    with pytest.raises(DataError, match="'joy', 'shame'"):  # one that it does not know: never guessed
        load_model(str(folder), task=TaskStub(kind, labels=("joy", "shame")), among=True)
    unnamed = checkpoint(tmp_path / "unnamed", head=kind, num_labels=3)
    with pytest.raises(DataError, match="LABEL_2"):  # no names, and not as many: positions are not guessed
        load_model(str(unnamed), task=TaskStub(kind, labels=("joy", "fear")), among=True)


def test_another_number_of_generic_labels_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"\(4\)"):
        load_model(str(checkpoint(tmp_path, num_labels=4)), task=TASK)


def test_a_fresh_head_on_request_ignores_the_labels(tmp_path: Path):
    folder = checkpoint(tmp_path, names=("x", "y", "z"))
    model = load_model(str(folder), task=TaskStub(labels=("p", "q")), fresh_head=True)
    assert model.net.config.id2label == {0: "p", 1: "q"} and model.net.classifier.weight.shape == (2, 32)
    assert "a fresh one was made" in model.notes[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_checkpoint_gets_a_head_that_depends_on_the_seed_alone(family: str, tmp_path: Path):
    folder = str(checkpoint(tmp_path, family, "backbone"))
    torch.manual_seed(1)
    one = load_model(folder, task=TASK, seed=7)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two, three = load_model(folder, task=TASK, seed=7), load_model(folder, task=TASK, seed=8)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert digest(one.net) == digest(two.net) != digest(three.net)
    assert "a fresh one was made" in one.notes[0]
    assert one.net.config.num_labels == 3 and one.net.config.problem_type == "single_label_classification"
    stock = tiny_net(family, "backbone", num_labels=3)
    body = one.net.base_model.state_dict()
    for name, tensor in stock.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(tensor, body[name]), name


def test_another_tasks_head_of_the_same_shape_is_not_taken_for_ours(tmp_path: Path):
    folder = checkpoint(tmp_path, head="tokens", names=("O", "B", "I"))
    model = load_model(str(folder), task=TASK)
    assert not torch.equal(model.net.classifier.weight, tiny_net("bert", "tokens", num_labels=3).classifier.weight)
    assert "a fresh one was made" in model.notes[0]


def test_regression_and_multilabel_heads(tmp_path: Path):
    score = checkpoint(tmp_path / "score", num_labels=1, problem_type="regression")
    model = load_model(str(score), task=TaskStub("regression", ()))
    assert (model.labels, model.kind, model.notes) == ((), "regression", ())
    with pytest.raises(DataError, match="3 outputs"):
        load_model(str(checkpoint(tmp_path / "classes")), task=TaskStub("regression", ()))
    with pytest.raises(DataError, match="trained for regression, but the task is multilabel"):
        load_model(str(score), task=TaskStub("multilabel", ("a",)))
    many = load_model(str(checkpoint(tmp_path / "many", names=TASK.labels)), task=TaskStub("multilabel"))
    assert many.net.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_text_keeps_the_head_on_the_vocabulary(family: str, tmp_path: Path):
    model = load_model(str(checkpoint(tmp_path, family, "text")), task=TaskStub("text", ()))
    torch.testing.assert_close(model.net(tiny_ids()).logits, tiny_net(family, "text", num_labels=3)(tiny_ids()).logits)
    assert model.notes == ()


def test_text_without_such_a_head_is_the_bare_backbone(tmp_path: Path):
    model = load_model(str(checkpoint(tmp_path, head="backbone")), task=TaskStub("text", ()))
    assert type(model.net).__name__ == "BertModel" and "no head on the vocabulary" in model.notes[0]


def test_without_a_task_the_checkpoint_says_what_it_is(tmp_path: Path):
    classes = load_model(str(checkpoint(tmp_path / "a", names=("x", "y", "z"))))
    assert (classes.kind, classes.labels) == ("classification", ("x", "y", "z"))
    tags = load_model(str(checkpoint(tmp_path / "b", head="tokens", names=("O", "B-X", "I-X"))))
    assert (tags.kind, tags.labels) == ("tokens", ("O", "B-X", "I-X"))
    score = load_model(str(checkpoint(tmp_path / "c", num_labels=1)))
    assert (score.kind, score.labels) == ("regression", ())
    many = load_model(str(checkpoint(tmp_path / "d", problem_type="multi_label_classification")))
    assert many.kind == "multilabel"


# -- weights -----------------------------------------------------------------------------------------------------------


def test_the_dtype_is_the_one_asked_for(tmp_path: Path):
    tiny_net("bert", num_labels=3).half().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert {p.dtype for p in load_model(str(tmp_path), task=TASK).net.parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(str(tmp_path), task=TASK, dtype="bfloat16").net.parameters()} == {
        torch.bfloat16
    }
    with pytest.raises(RecipeError, match="float64"):
        load_model(str(tmp_path), dtype="float64")


def test_unused_weights_are_reported(tmp_path: Path):
    model = load_model(str(checkpoint(tmp_path, head="text")), task=TASK)
    assert any("were not used (cls.predictions." in note for note in model.notes)


def test_missing_encoder_weights_are_an_error(tmp_path: Path):
    folder = checkpoint(tmp_path, names=TASK.labels)
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lacks weights .*layer\.1\.output\.dense\.weight"):
        load_model(str(folder), task=TASK)


def test_a_promised_head_that_is_missing_is_an_error(tmp_path: Path):
    folder = checkpoint(tmp_path, names=TASK.labels)
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"lacks weights .*classifier"):
        load_model(str(folder), task=TASK)


def test_weights_of_another_shape_are_an_error(tmp_path: Path):
    folder = checkpoint(tmp_path)
    edit(folder / "config.json", intermediate_size=64)
    with pytest.raises(DataError, match=r"do not fit its config\.json"):
        load_model(str(folder), task=TASK)


@pytest.mark.parametrize("damage", ["truncated", "header", "garbage", "empty"])
def test_damaged_weights_are_an_error(damage: str, tmp_path: Path):
    folder = checkpoint(tmp_path)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[:-100],
            "header": (2**63).to_bytes(8, "little") + data[8:],
            "garbage": b"garbage" * 9,
            "empty": b"",
        }[damage]
    )
    with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
        load_model(str(folder), task=TASK)


def test_sharded_weights(tmp_path: Path):
    net = tiny_net("bert", num_labels=3)
    net.save_pretrained(tmp_path, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists() and len(list(tmp_path.glob("model-*.safetensors"))) > 1
    model = load_model(str(tmp_path), task=TASK)
    assert torch.equal(model.net(tiny_ids()).logits, net(tiny_ids()).logits)


def test_the_revision_of_a_folder_is_a_digest_of_its_weights(tmp_path: Path):
    folder = checkpoint(tmp_path / "a")
    one, two = load_model(str(folder)).revision, load_model(str(checkpoint(tmp_path / "b"))).revision
    assert one == two and len(one) == 32
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert load_model(str(folder)).revision != one


# -- what is refused for safety ----------------------------------------------------------------------------------------


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "tf_model.h5"])
def test_pickles_are_never_opened(name: str, tmp_path: Path):
    folder = checkpoint(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(SafetyError, match=rf"{name}.*can run code.*convert it once.*save_pretrained") as caught:
        load_model(str(folder), task=TASK)
    assert caught.value.exit_code == 4
    with pytest.raises(SafetyError, match="can run code"):
        load_model(str(folder / name))
    assert not (tmp_path / "exploded").exists()


def test_pickles_beside_safetensors_are_left_alone(tmp_path: Path):
    folder = checkpoint(tmp_path / "model", names=TASK.labels)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert load_model(str(folder), task=TASK).notes == ()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "setting",
    [
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"nested": [{"deep": {"auto_map": {"AutoConfig": "evil.Config"}}}]},
        {"text_config": {"trust_remote_code": True}},
        {"_attn_implementation_internal": "somebody/kernel"},
        {"inner": {"_attn_implementation_internal": "sdpa"}},
        {"_attn_implementation": "somebody/kernel"},
        {"attn_implementation": {"text": "somebody/kernel"}},
    ],
)
def test_settings_that_name_code_are_refused(name: str, setting: dict, tmp_path: Path):
    folder = checkpoint(tmp_path)
    edit(folder / name, **setting)
    (folder / "evil.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(SafetyError, match=name):
        load_model(str(folder), task=TASK)


def test_attention_tricks_are_refused_even_when_code_is_trusted(tmp_path: Path):
    folder = checkpoint(tmp_path)
    edit(folder / "config.json", _attn_implementation_internal="somebody/kernel")
    with pytest.raises(SafetyError, match="CVE-2026-4372"):
        load_model(str(folder), task=TASK, trust_remote_code=True)


def test_code_runs_when_it_is_asked_for(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    folder = checkpoint(tmp_path / "model", names=TASK.labels)
    edit(folder / "config.json", auto_map={"AutoModelForSequenceClassification": "mine.Mine"})
    (folder / "mine.py").write_text(
        "from transformers import BertForSequenceClassification\n\n\n"
        "class Mine(BertForSequenceClassification):\n    mark = 'mine'\n"
    )
    with pytest.raises(SafetyError, match="trust_remote_code: true"):
        load_model(str(folder), task=TASK)
    model = load_model(str(folder), task=TASK, trust_remote_code=True)
    assert model.net.mark == "mine"
    assert torch.equal(model.net(tiny_ids()).logits, tiny_net("bert", num_labels=3)(tiny_ids()).logits)


@pytest.mark.parametrize(
    "name",
    [
        "../secret/x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "~/x.safetensors",
        "x\0.safetensors",
        "x.bin",
        "",
        "..",
    ],
)
def test_an_index_that_names_paths_is_refused(name: str, tmp_path: Path):
    secret = tmp_path / "secret"
    checkpoint(secret)
    (secret / "model.safetensors").rename(secret / "x.safetensors")
    folder = checkpoint(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"bert.pooler.dense.bias": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SafetyError, match="weights are not read from anywhere else"):
        load_model(str(folder), task=TASK)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}'])
def test_an_empty_index_is_refused(content: str, tmp_path: Path):
    folder = checkpoint(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(DataError, match="no weight map"):
        load_model(str(folder), task=TASK)


def test_an_index_with_a_missing_shard_names_it(tmp_path: Path):
    folder = checkpoint(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    with pytest.raises(DataError, match=r"model-1\.safetensors, which is missing"):
        load_model(str(folder), task=TASK)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_links_out_of_the_folder_are_refused(name: str, tmp_path: Path):
    folder = checkpoint(tmp_path / "model")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(SafetyError, match="link out of its folder"):
        load_model(str(folder), task=TASK)


def test_links_inside_the_folder_and_to_the_folder_are_fine(tmp_path: Path):
    folder = checkpoint(tmp_path / "model", names=TASK.labels)
    (folder / "model.safetensors").rename(folder / "real.safetensors")
    (folder / "model.safetensors").symlink_to("real.safetensors")
    (tmp_path / "alias").symlink_to(folder)
    assert load_model(str(tmp_path / "alias"), task=TASK).notes == ()


def test_the_hubs_own_cache_may_link_to_its_blobs_but_nowhere_else(tmp_path: Path):
    snapshot = checkpoint(tmp_path / "models--o--n" / "snapshots" / "abc", names=TASK.labels)
    blobs = tmp_path / "models--o--n" / "blobs"
    blobs.mkdir()
    (snapshot / "model.safetensors").rename(blobs / "123")
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/123"))
    assert load_model(str(snapshot), task=TASK).notes == ()
    (blobs / "123").rename(tmp_path / "123")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(Path("../../../123"))
    with pytest.raises(SafetyError, match="link out of its folder"):
        load_model(str(snapshot), task=TASK)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b"\xff\xfe\x00",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_unreadable_configurations(content: bytes, tmp_path: Path):
    folder = checkpoint(tmp_path)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(DataError, match=r"config\.json"):
        load_model(str(folder), task=TASK)


def test_a_configuration_of_absurd_size_is_not_read(tmp_path: Path):
    folder = checkpoint(tmp_path)
    with (folder / "config.json").open("r+b") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(DataError, match="larger than 64 MB"):
        load_model(str(folder), task=TASK)


# -- what is not a usable model ----------------------------------------------------------------------------------------


def test_unknown_families_adapters_and_quantized_models(tmp_path: Path):
    folder = checkpoint(tmp_path)
    edit(folder / "config.json", model_type="gpt_neox")
    with pytest.raises(RecipeError, match=r"'gpt_neox'.*bert, roberta"):
        load_model(str(folder), task=TASK)
    edit(folder / "config.json", model_type="bert", quantization_config={"bits": 4})
    with pytest.raises(RecipeError, match="quantized"):
        load_model(str(folder), task=TASK)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(RecipeError, match="Merge it"):
        load_model(str(folder), task=TASK)


def test_a_configuration_transformers_refuses(tmp_path: Path):
    folder = checkpoint(tmp_path)
    edit(folder / "config.json", hidden_size="wide")
    with pytest.raises(DataError, match=r"config\.json is not usable"):
        load_model(str(folder), task=TASK)


@pytest.mark.parametrize(
    "ref, message",
    [
        ("./nowhere", "no folder './nowhere'"),
        ("/nowhere/at/all", "no folder '/nowhere/at/all'"),
        ("runs/mrpc/student", "no folder 'runs/mrpc/student'"),
        ("~/nowhere", "no folder"),
        ("not a name", "possible Hub name"),
        ("a\0b", "names no model"),
        ("", "names no model"),
        ("package:no_such_package_here/model", "not installed"),
        ("package:../../etc", "not installed"),
    ],
)
def test_references_to_nothing(ref: str, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        load_model(ref, key="teacher.model")
    assert str(caught.value).startswith("teacher.model: ")


def test_a_hub_name_without_a_connection_says_so(monkeypatch):
    with pytest.raises(DataError, match=r"student\.model: 'owner/name' .*HF_HUB_OFFLINE is set.*Give the path"):
        load_model("owner/name", key="student.model")
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)
    with pytest.raises(DataError, match="the Hub cannot be reached"):  # the suite has no network
        load_model("owner/name", key="student.model")


def test_a_hub_name_in_the_cache_is_loaded_offline(monkeypatch, tmp_path: Path):
    """A snapshot as the Hub client lays it out; its folder name is the commit."""
    repo = tmp_path / "hub" / "models--owner--name"
    commit = "0123456789abcdef0123456789abcdef01234567"
    checkpoint(repo / "snapshots" / commit, names=TASK.labels)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("hf_hub_download", "snapshot_download"):
        import huggingface_hub

        original = getattr(huggingface_hub, name)
        monkeypatch.setattr(
            f"huggingface_hub.{name}",
            lambda *args, original=original, **kwargs: original(*args, cache_dir=tmp_path / "hub", **kwargs),
        )
    model = load_model("owner/name", task=TASK)
    assert (model.source, model.revision, model.notes) == ("owner/name", commit, ())
    with pytest.raises((RecipeError, DataError), match="owner/name"):
        load_model("owner/name", task=TASK, revision="no-such-branch")


def hub_of(monkeypatch, complete: Path, snapshot: Path) -> list[list[str]]:
    """A Hub that answers, holding `complete`; files arrive in `snapshot` as they are asked for. Returns the requests."""
    requests: list[list[str]] = []

    def give(patterns: list[str]) -> Path:
        requests.append(patterns)
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in complete.iterdir():
            if any(path.match(pattern) for pattern in patterns):
                shutil.copy(path, snapshot / path.name)
        return snapshot

    monkeypatch.setattr("understudy.models.hub.hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda ref, name, **_: str(give([name]) / name))
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda ref, *, allow_patterns, **_: str(give(allow_patterns))
    )
    return requests


def test_a_hub_model_is_judged_before_its_weights_are_fetched(monkeypatch, tmp_path: Path):
    complete = checkpoint(tmp_path / "hub")
    edit(complete / "config.json", auto_map={"AutoModel": "evil.Model"})
    requests = hub_of(monkeypatch, complete, tmp_path / "snapshots" / "c0ffee")
    with pytest.raises(SafetyError, match="auto_map"):
        load_model("owner/name", task=TASK)
    assert requests == [["config.json"]]


def test_a_hub_model_is_judged_again_when_it_is_complete(monkeypatch, tmp_path: Path):
    complete = checkpoint(tmp_path / "hub")
    edit(complete / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    hub_of(monkeypatch, complete, tmp_path / "snapshots" / "c0ffee")
    with pytest.raises(SafetyError, match=r"tokenizer_config\.json.*auto_map"):
        load_model("owner/name", task=TASK)


def test_only_what_is_read_is_fetched_from_the_hub(monkeypatch, tmp_path: Path):
    complete = checkpoint(tmp_path / "hub", names=TASK.labels)
    for name in ("pytorch_model.bin", "model.fp16.safetensors", "code.py"):
        (complete / name).write_bytes(b"x")
    snapshot = tmp_path / "snapshots" / "c0ffee"
    hub_of(monkeypatch, complete, snapshot)
    resolve("owner/name", weights=False)
    assert not (snapshot / "model.safetensors").exists()
    assert load_model("owner/name", task=TASK).revision == "c0ffee"
    assert {path.name for path in snapshot.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize(
    "error, kind, message",
    [
        ("RepositoryNotFoundError", RecipeError, "neither a folder here nor a model on the Hub"),
        ("GatedRepoError", RecipeError, "is gated"),
        ("RevisionNotFoundError", RecipeError, "no revision 'v9'"),
        ("RemoteEntryNotFoundError", RecipeError, r"no config\.json"),
        ("HfHubHTTPError", DataError, "cannot be reached"),
    ],
)
def test_what_the_hub_says_in_words(error: str, kind: type, message: str, monkeypatch, tmp_path: Path):
    import huggingface_hub.errors as errors

    def refuse(*args, **kwargs):
        kind_of_error = getattr(errors, error)
        raise kind_of_error.__new__(kind_of_error)  # without the HTTP answer its constructor wants

    hub_of(monkeypatch, tmp_path, tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)
    with pytest.raises(kind, match=rf"teacher\.model: 'owner/name' .*{message}"):
        load_model("owner/name", key="teacher.model", revision="v9")


def test_files_and_folders_that_are_not_models(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"no config\.json"):
        load_model(str(tmp_path))
    folder = checkpoint(tmp_path / "model")
    with pytest.raises(RecipeError, match="is a file; name the folder"):
        load_model(str(folder / "model.safetensors"))
    with pytest.raises(RecipeError, match="no revision"):
        load_model(str(folder), revision="main")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SafetyError, match=r"no model\.safetensors"):
        load_model(str(folder))


def test_packages(monkeypatch, tmp_path: Path):
    package = tmp_path / "tiny_package_of_models"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('packages are not imported')")
    checkpoint(package / "model", names=TASK.labels)
    checkpoint(tmp_path / "outside")
    monkeypatch.syspath_prepend(str(tmp_path))
    ref = "package:tiny_package_of_models/model"
    model = load_model(ref, task=TASK)
    assert model.source == ref and model.notes == ()
    assert not isinstance(sys.modules.get("tiny_package_of_models"), ModuleType)
    with pytest.raises(SafetyError, match="leaves the package"):
        load_model("package:tiny_package_of_models/../outside")
    with pytest.raises(RecipeError, match="no folder 'other'"):
        load_model("package:tiny_package_of_models/other")


# -- tokenizers --------------------------------------------------------------------------------------------------------


def byte_level(folder: Path, family: str = "roberta") -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, RobertaTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    if family == "roberta":
        RobertaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    else:
        core = Tokenizer(models.BPE(vocabulary, []))
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    return folder


def tokenizer_of(folder: str, *, words: bool = False) -> Any:
    """A tokenizer alone, of a folder without weights."""
    return _open_tokenizer(resolve(folder, weights=False), key="model", words=words, trust_remote_code=False)


@pytest.mark.parametrize("family", ["roberta", "sequence"])
def test_words_of_byte_level_tokenizers_get_their_space(family: str, tmp_path: Path):
    folder = str(byte_level(tmp_path / "one", family))
    plain, words = tokenizer_of(folder), tokenizer_of(folder, words=True)
    assert "Ġ" not in plain.tokenize("ab")[0]
    tokens = words.convert_ids_to_tokens(
        words(["ab", "c"], is_split_into_words=True, add_special_tokens=False).input_ids
    )
    assert tokens == ["Ġ", "a", "b", "Ġ", "c"]
    words.save_pretrained(tmp_path / "two")
    (tmp_path / "two" / "config.json").write_text('{"model_type": "roberta"}')
    again = tokenizer_of(str(tmp_path / "two"))
    assert again(["ab"], is_split_into_words=True).input_ids == words(["ab"], is_split_into_words=True).input_ids


def test_a_missing_padding_token_is_replaced_by_one_the_vocabulary_has(tmp_path: Path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    loaded = tokenizer_of(str(tmp_path))
    assert loaded.pad_token == "[SEP]" and len(loaded) == len(tiny_tokenizer())


def test_missing_and_damaged_tokenizers(tmp_path: Path):
    folder = checkpoint(tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"no usable tokenizer.*tokenizer\.json"):
        load_model(str(folder), task=TASK)
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        load_model(str(folder), task=TASK)


def test_a_tokenizer_larger_than_the_embeddings_is_of_another_model(tmp_path: Path):
    folder = checkpoint(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["unheard", "of"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(DataError, match="files of two models"):
        load_model(str(folder), task=TASK)


def test_loading_prints_nothing(tmp_path: Path, capfd):
    load_model(str(checkpoint(tmp_path, head="text")), task=TASK)
    capfd.readouterr()
    load_model(str(tmp_path), task=TASK)
    assert capfd.readouterr() == ("", "")


# -- digests -----------------------------------------------------------------------------------------------------------


def test_digest_sees_every_weight_and_setting_that_computes():
    net = tiny_net("bert")
    seen = {digest(net)}
    assert digest(tiny_net("bert")) in seen
    seen.add(digest(tiny_net("bert", num_attention_heads=8)))  # the same shapes
    seen.add(digest(tiny_net("bert", hidden_act="relu")))
    seen.add(digest(tiny_net("bert").to(torch.bfloat16)))
    for parameter in (net.classifier.bias, net.bert.embeddings.LayerNorm.weight):
        with torch.no_grad():
            parameter[0] = torch.nextafter(parameter[0], torch.tensor(9.0))
        seen.add(digest(net))
    assert len(seen) == 6


def test_digest_does_not_see_names_and_places():
    net = tiny_net("bert", num_labels=2)
    before = digest(net)
    net.config.id2label = {0: "x", 1: "y"}
    net.config.problem_type = "single_label_classification"
    net.config.name_or_path = "/somewhere"
    assert digest(net) == before


def test_the_module_that_resolves_asks_the_hub_once(monkeypatch):
    """Offline is decided without any request."""
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("a request was made"))
    assert source_module.hub_reachable() is False
