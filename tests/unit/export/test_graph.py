"""ONNX: the same logits for any number and length of rows, and files that need none of our packages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import inputs, pruned, run_hidden, student
from tiny_models import FAMILIES

from understudy.base.errors import RecipeError
from understudy.export import export_model, graph
from understudy.export.graph import graph_call, write_graph
from understudy.recipe.settings import LatencySettings
from understudy.students.share import share

pytest.importorskip("onnxruntime")
QUICK = LatencySettings(length=8, repeats=3)


def difference(model, path: Path, *, types: bool) -> float:
    """The largest over padded rows, one row, many rows and a row of one token."""
    call, worst = graph_call(path), 0.0
    every = [inputs(types=types)]
    every += [{k: v[:1, :1] for k, v in every[0].items()}, {k: v.repeat(4, 5) for k, v in every[0].items()}]
    for given in every:
        with torch.inference_mode():
            wanted = model.net(**given)[0].numpy()
        got = call({name: value.numpy() for name, value in given.items()})
        assert got.shape == wanted.shape
        real = given["attention_mask"].numpy() == 1
        far = np.abs(got - wanted)
        worst = max(worst, float(far[real].max() if far.shape[:2] == real.shape else far.max()))
    return worst


def test_a_pruned_student_runs_without_torch_transformers_and_us(tmp_path: Path):
    model = pruned(student(types=True))
    made = export_model(model, "onnx", out=tmp_path / "out", int8=True, latency=QUICK)
    folder = tmp_path / "out"
    assert difference(model, folder / "model.onnx", types=True) < 1e-5
    content = (folder / "model.onnx").read_bytes()
    assert b"site-packages" not in content and b".py" not in content  # no folders of this machine
    assert made["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    assert set(made["latency_ms"]) == set(made["size_mb"]) == {"student", "onnx", "int8"}
    assert made["size_mb"]["int8"] < made["size_mb"]["onnx"]
    (agreement,) = made["int8"]["agreement"].values()
    assert agreement["same"] > 0.9 and 0 < agreement["mean_abs_difference"] < 0.1

    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    assert len(code.splitlines()) == 7
    texts = ["my printer is on fire", "thanks"]
    code = (
        code.replace('["My printer is on fire.", "Thanks!"]', json.dumps(texts)) + "print(json.dumps(outputs.tolist()))"
    )
    done = run_hidden(code, folder, hidden=("torch", "transformers", "understudy"))
    assert done.returncode == 0, done.stderr
    named, logits = done.stdout.splitlines()
    with torch.inference_mode():
        wanted = model.net(**model.tokenizer(texts, padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose(json.loads(logits), wanted.numpy(), atol=1e-5)
    assert named == str([model.labels[i] for i in wanted.argmax(-1)])


def test_a_model_that_cannot_be_traced_is_refused(tmp_path: Path):
    model = student(num_hidden_layers=1)

    class Odd(torch.nn.Module):
        def forward(self, hidden):
            return hidden * float(hidden.sum().item() > 0) if hidden.sum().item() else hidden

    model.net.dropout = Odd()
    with pytest.raises(RecipeError, match="cannot turn this bert model into an ONNX graph.*--to hf, padded or exact"):
        export_model(model, "onnx", out=tmp_path / "out", latency=QUICK)
    assert not list(tmp_path.iterdir())


def test_the_configuration_says_what_the_outputs_mean():
    settings = graph.settings(student(kind="tokens"))
    assert settings["id2label"] == {"0": "O", "1": "B-X", "2": "I-X"} and settings["max_length"] == 40
    assert settings["output"] == "logits" and settings["inputs"] == ["input_ids", "attention_mask"]
    assert graph.settings(student(kind="hidden"))["output"] == "last_hidden_state"
    assert graph.settings(student("roberta"))["pad_token_id"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classification", "tokens", "text"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_pruned(family, kind, tmp_path: Path):
    model = pruned(student(family, kind))
    write_graph(model, tmp_path / "model.onnx")
    assert difference(model, tmp_path / "model.onnx", types=False) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_layers_are_stored_once(family, tmp_path: Path):
    model = student(family)
    write_graph(model, tmp_path / "once.onnx")
    twice = share(model, "cyclic")
    write_graph(twice, tmp_path / "twice.onnx")
    assert difference(twice, tmp_path / "twice.onnx", types=False) < 1e-5
    import onnx

    once, again = (
        sum(one.ByteSize() for one in onnx.load(tmp_path / f"{name}.onnx").graph.initializer)
        for name in ("once", "twice")
    )
    assert again < once + 1000  # ModernBERT: another norm, because its first layer has none


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "tokens", "text", "hidden"])
def test_the_code_of_every_kind_runs(kind, tmp_path: Path):
    model = student(kind=kind, num_hidden_layers=1)
    export_model(model, "onnx", out=tmp_path / "out", int8=True, latency=QUICK)
    code = re.search(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)[1]
    done = run_hidden(code, tmp_path / "out", hidden=("torch", "transformers", "understudy"))
    assert done.returncode == 0 and done.stdout, done.stderr
