"""mKD as a run: three durable stages, a frozen base, folders a user can take away."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import pytest
import torch
import toys
import transformers
from adapted import is_adapters
from safetensors.torch import load_file

from understudy import cli
from understudy.adapters import extract, inject, put
from understudy.adapters.files import read_adapter, write_adapter
from understudy.adapters.transfer.command import transfer_folder
from understudy.base import disk
from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.models.load import load_model
from understudy.recipe.adapter import ADAPTERS, written_out
from understudy.recipe.load import recipe_from
from understudy.recipe.transfer import TransferSettings, transfer_settings
from understudy.run import evaluate_folder, predict, train, verify


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mkd")
    toys.save_csv(folder / "data", rows=96)
    long = {"max_position_embeddings": 64}
    checkpoints.save_checkpoint(folder / "large", "bert", num_hidden_layers=4, hidden_size=48, **long)
    checkpoints.save_checkpoint(folder / "small", "distilbert", dim=32, n_layers=2, seed=3, **long)
    return folder


def recipe(world: Path, adapter: str, **method):
    data = world / "data"
    return recipe_from({
        "task": {
            "name": "custom", "kind": "classification", "columns": {"text": "body", "label": "mood"}, "max_length": 32,
            "files": {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")},
        },
        "teacher": {"model": str(world / "large"), "finetune": {"epochs": 1, "evaluate_at": []}},
        "student": {"model": str(world / "small")},
        "method": {"name": "mkd", "topk": 40, **method},
        "train": {"adapter": adapter, "epochs": 1, "batch_size": 16, "lr": 1e-2, "precision": "fp32", "evaluate_at": [0, 2],
                  "checkpoint_steps": 4},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 16}},
    })  # fmt: skip


def test_lora_ends_as_a_stock_student_and_a_peft_folder(world, tmp_path, understudy_home):
    wanted = recipe(world, "lora[r=4]", soft_label_weight=0.5, teacher_lr=3e-3)
    assert exit_code(check(wanted, out=tmp_path / "run")) == 0
    result = train(wanted, tmp_path / "run")
    assert all(result[name]["metrics"] for name in ("teacher", "baseline", "student"))
    student = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
    assert student.config.model_type == "distilbert"
    base = load_model(str(world / "small"), task=None if student is None else _task(student), seed=0)
    adapter = read_adapter(tmp_path / "run" / "adapter", base.net)
    assert {role for _, role, _ in adapter.tensors} == {"query", "value"} and "pre_classifier.weight" in adapter.head
    # The base is what it was, but for what LoRA was merged into.
    before, after = base.net.state_dict(), student.state_dict()
    changed = {key.rpartition(".")[0].rpartition(".")[2] for key in before if not torch.equal(before[key], after[key])}
    assert "v_lin" in changed and changed <= {"q_lin", "v_lin", "pre_classifier", "classifier"}
    # And peft makes the same student of the base and the adapter.
    peft = pytest.importorskip("peft")
    about = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == str(world / "small")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(world / "small", num_labels=2)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "run" / "adapter").eval()
    ids = torch.tensor([[2, 9, 14, 30, 22, 3], [2, 41, 8, 17, 60, 3]])
    assert torch.allclose(theirs(input_ids=ids).logits, student.eval()(input_ids=ids).logits, atol=1e-5)
    metrics = (tmp_path / "run" / "steps" / "student" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics if "select" in line] == [0, 2, 6]
    shared = [path.read_text().splitlines() for path in understudy_home.glob("**/metrics.jsonl")]
    rates = {max(json.loads(line).get("lr", 0) for line in lines) for lines in shared}
    assert rates == {1e-2, 3e-3}  # of the baseline and the teacher
    stored = next((tmp_path / "run" / "steps" / "student").glob("step-*/model.safetensors"))
    assert all(is_adapters(key) or "classifier" in key for key in load_file(stored))
    assert verify(tmp_path / "run", replay=1)["replayed_steps"] >= 1
    notes = " ".join(json.loads((tmp_path / "run" / "details.json").read_text())["notes"])
    assert "student layer 1 <- teacher layer 2" in notes and "tokens matched" in notes


def _task(net):
    class Labels:
        kind = "classification"
        labels = tuple(net.config.id2label.values())

    return Labels()


def test_a_bottleneck_student_keeps_it(world, tmp_path, understudy_home):
    wanted = recipe(world, "pfeiffer[reduction_factor=4]")
    train(wanted, tmp_path / "run")
    student = load_model(str(tmp_path / "run" / "student"))
    assert student.net.config.model_type == "understudy-distilbert"
    base = load_file(world / "small" / "model.safetensors")
    after = {key.removeprefix("distilbert."): value for key, value in student.net.state_dict().items()}
    assert all(torch.equal(base[key], after[key]) for key in base)
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["student"]["metrics"]["test"]["accuracy"]["value"]
    assert evaluate_folder(tmp_path / "run", wanted)["metrics"]["test"]["accuracy"] == pytest.approx(scores)
    answers = list(predict(tmp_path / "run", str(world / "data" / "test.csv")))
    assert len(answers) == 24 and {answer["label"] for answer in answers} <= {"glad", "sad"}
    # And the adapter alone, moved once more from the command line to another model.
    report = transfer_folder(
        tmp_path / "run" / "adapter", teacher=str(world / "small"), student=str(world / "small"), out=tmp_path / "again",
        texts=None, settings=TransferSettings(),
    )  # fmt: skip
    assert report["align"] == "none" and (tmp_path / "again" / "transfer.json").exists()
    one, two = (read_adapter(folder, student.net) for folder in (tmp_path / "run" / "adapter", tmp_path / "again"))
    assert all(torch.equal(one.tensors[key], two.tensors[key]) for key in one.tensors)
    with pytest.raises(RecipeError, match="already exists"):
        transfer_folder(
            tmp_path / "again", teacher="x", student="y", out=tmp_path / "again", texts=None, settings=TransferSettings()
        )  # fmt: skip


def test_an_adapter_that_exists_is_taken(world, tmp_path, understudy_home):
    first = recipe(world, "lora[r=2]")
    train(first, tmp_path / "first")
    method = first.method.model_copy(update={"adapter": str(tmp_path / "first" / "adapter")})
    own = first.model_copy(update={"method": method})
    assert "remove `teacher.finetune`" in " ".join(str(finding) for finding in check(own, out=tmp_path / "x"))
    data = own.model_dump(mode="json")
    data["teacher"].update(model=str(world / "small"), finetune=None)
    data["method"].update(align="none")
    again = recipe_from(data)
    data["method"]["teacher_lr"] = 1e-3
    assert "remove `method.teacher_lr`" in " ".join(str(finding) for finding in check(recipe_from(data), out=tmp_path / "x"))
    result = train(again, tmp_path / "second")
    assert result["teacher"]["metrics"] and result["student"]["metrics"]


def with_adapter(world: Path, folder: Path, text: str, *, model: str = "large") -> Path:
    """An adapter of a model, as somebody else may have trained it, with a head."""
    net = load_model(str(world / model), task=_Moods(), seed=5).net
    settings = written_out(text)
    inject(net, ADAPTERS[settings["kind"]].model_validate(settings))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if is_adapters(name) or "classifier" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return write_adapter(folder, extract(net, head=True), net, base=model)


class _Moods:
    kind = "classification"
    labels = ("glad", "sad")


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.app([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_an_adapter_is_moved_and_trained_on_by_commands(world, tmp_path, understudy_home, capsys):
    adapter = with_adapter(world, tmp_path / "large", "pfeiffer[reduction_factor=4]")
    out = tmp_path / "moved"
    ends = ("--from", world / "large", "--to", world / "small", "--out", out)
    texts = ("--texts", world / "data" / "train.csv")
    assert command("transfer", adapter, *ends, *texts) == 3 and "say which holds the text with --text" in capsys.readouterr().err
    assert command("transfer", adapter, *ends, *texts, "--text", "body", "topk=20") == 0
    said = capsys.readouterr().err
    shown = ("student layer 1 <- teacher layer 2", "up.weight axis 0 by what it writes to", "tokens matched (100%",
             "head left to the student: transfer_head is never", "8 tensors of the adapter were put into 2 places")  # fmt: skip
    assert [said.find(line) for line in shown] == sorted(said.find(line) for line in shown) and said.find(shown[0]) >= 0, said
    report = json.loads((out / "transfer.json").read_text())
    assert report["settings"]["num_samples"] == 20 and len(report["tensors"]) == 8
    assert disk.problems(out) == [] and "transfer.json" in (out / "manifest.json").read_text()
    # The third command: any method goes on from it.
    data = recipe(world, "lora").model_dump(mode="json")
    data |= {"teacher": None, "method": {"name": "finetune"}, "student": {"model": str(world / "small"), "adapter": str(out)}}
    data["train"] |= {"only": "adapter", "adapter": None, "lr": 1e-5, "evaluate_at": []}
    wanted = recipe_from(data)
    findings = check(wanted, out=tmp_path / "run")
    assert exit_code(findings) == 0 and "its 8 tensors fit" in " ".join(str(finding) for finding in findings)
    assert train(wanted, tmp_path / "run")["student"]["metrics"]
    student = load_model(str(tmp_path / "run" / "student")).net
    before, after = (read_adapter(folder, student).tensors for folder in (out, tmp_path / "run" / "adapter"))
    assert all(torch.allclose(before[key], after[key], atol=1e-3) for key in before)
    assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("text", ["pfeiffer", "lora"])
def test_the_head_comes_along_by_command_where_it_is_asked_for(text, world, tmp_path):
    adapter = with_adapter(world, tmp_path / "large", text)
    checkpoints.save_checkpoint(tmp_path / "half", "bert", num_hidden_layers=2, hidden_size=48, seed=8)
    ends = {"teacher": str(world / "large"), "student": str(tmp_path / "half"), "texts": None}
    report = transfer_folder(
        adapter, **ends, out=tmp_path / "one", settings=TransferSettings(transfer_head="if_compatible")
    )  # fmt: skip
    assert report["head"] == "the teacher's"
    net = load_model(str(tmp_path / "half"), task=_Moods()).net
    found = read_adapter(tmp_path / "one", net)
    wanted = read_adapter(adapter, load_model(str(world / "large"), task=_Moods()).net).head
    assert wanted and all(torch.equal(found.head[key], wanted[key]) for key in wanted)
    put(net, found)
    report = transfer_folder(adapter, **ends, out=tmp_path / "two", settings=TransferSettings())
    assert "never" in report["head"] and not read_adapter(tmp_path / "two", net).head


def test_what_a_transfer_cannot_do_is_said_before_models_are_run(world, tmp_path, capsys):
    adapter = with_adapter(world, tmp_path / "large", "pfeiffer")
    ends = ("--from", world / "large", "--to", world / "small", "--out", tmp_path / "x")
    for arguments, error in (
        ((adapter, *ends), "name a file with --texts"),
        ((adapter, *ends, "layer_mop=skip"), "Did you mean 'layer_map'"),
        ((adapter, *ends, "--layout", "peft", "--texts", tmp_path / "none.txt"), "peft has no bottleneck"),
        ((adapter, *ends, "--layout", "zip", "--texts", tmp_path / "none.txt"), "no layout 'zip'"),
        ((tmp_path / "none", *ends), "is not the folder of an adapter"),
        ((adapter, *ends, "layer_map=[0,9]"), "one teacher layer, from 0 to 3"),
    ):
        assert command("transfer", *arguments) in (2, 3)
        said = capsys.readouterr().err
        assert error in said, said
        assert "Traceback" not in said and not (tmp_path / "x").exists()


def test_adapters_without_a_place_are_found_by_check(world, tmp_path):
    checkpoints.save_checkpoint(tmp_path / "modern", "modernbert")
    data = recipe(world, "lora").model_dump(mode="json")
    data["student"]["model"] = str(tmp_path / "modern")
    assert "modernbert has no linear map 'query'" in " ".join(str(finding) for finding in check(recipe_from(data)))
    data = recipe(world, "lora").model_dump(mode="json")
    data["method"]["adapter"] = str(with_adapter(world, tmp_path / "small", "lora", model="small"))
    data["teacher"]["finetune"] = None
    assert "not a linear map inside a layer of a bert model" in " ".join(str(finding) for finding in check(recipe_from(data)))
    for changes, error in (
        ({"student": {"model": str(world / "small"), "adapter": "x"}}, "mkd moves an adapter to the student by itself"),
        ({"student": {"model": str(world / "small"), "adapter": "x"}, "method": "finetune"}, "student.adapter` is for `train."),
        ({"method": "finetune"}, "train.adapter` is for `train.only: adapter`, and here it is `all`"),
    ):
        data = {**recipe(world, "lora").model_dump(mode="json"), **changes}
        data["train"] = {**data["train"], **({"adapter": None} if "student" in changes else {})}
        assert error in said_by_check(data)


def said_by_check(data: dict) -> str:
    try:
        return " ".join(str(finding) for finding in check(recipe_from(data)))
    except RecipeError as refused:
        return str(refused)


def test_what_cannot_work_is_said_before_anything_is_trained(world, tmp_path):
    wanted = recipe(world, "lora", layer_map=[0])
    assert "must name one teacher layer" in " ".join(str(finding) for finding in check(wanted, out=tmp_path / "x"))
    data = recipe(world, "lora").model_dump(mode="json")
    data["train"]["only"] = "all"
    assert "mkd trains an adapter" in " ".join(str(finding) for finding in check(recipe_from(data), out=tmp_path / "x"))
    with pytest.raises(RecipeError, match="layer_map"):
        transfer_settings(["layer_map=middle"])
