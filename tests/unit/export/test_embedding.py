"""The ONNX export of an embedding model: its folder, with the graph of the backbone where sentence-transformers looks for it."""

from __future__ import annotations

from pathlib import Path

import embedders
import numpy as np
import pytest
import torch
import toys

from understudy.export import export_folder
from understudy.models.embedder import Layout
from understudy.models.load import load_model


def test_the_graph_lies_beside_the_modules_and_gives_the_same_vectors(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    folder = embedders.save(tmp_path / "model", prompts={"query": "the good "})
    export_folder(folder, "onnx", out=tmp_path / "out")
    assert (tmp_path / "out" / "modules.json").is_file() and (tmp_path / "out" / "1_Pooling" / "config.json").is_file()
    session = runtime.InferenceSession(str(tmp_path / "out" / "onnx" / "model.onnx"))
    model = load_model(str(tmp_path / "out"))
    assert Layout.of(model.net.config).prompts == {"query": "the good "}
    texts = [text for text, _ in toys.sentences(5, seed=2)]
    inputs = dict(model.tokenizer(texts, padding=True, return_tensors="np"))
    states = session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})[0]
    mask = inputs["attention_mask"][..., None]
    pooled = (states * mask).sum(1) / mask.sum(1)
    vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    library = pytest.importorskip("sentence_transformers")
    with torch.inference_mode():
        theirs = library.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True).encode(texts)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)
