"""Embedding models are those of sentence-transformers: read, run and written so that it finds no difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import embedders
import numpy as np
import pytest
import toys

from understudy.base.errors import DataError, RecipeError, SafetyError
from understudy.data.encode import encode
from understudy.data.types import Example, Task
from understudy.evaluate.predict import outputs
from understudy.kinds import kind
from understudy.models.anatomy import anatomy
from understudy.models.embedder import Layout
from understudy.models.load import load_model
from understudy.models.model import Handover, digest
from understudy.models.save import save_model

TEXTS = [text for text, _ in toys.sentences(7, seed=3)] + ["", "good", "lamp 😀 good"]
TASK = Task("vectors", kind("embedding"))


def vectors(folder: Path | str, texts: list[str], *, role: str | None = None, together: bool = True) -> np.ndarray:
    model = load_model(str(folder))
    layout = Layout.of(model.net.config)
    assert layout.max_length is not None
    rows = [Example(str(i), text, role=role) for i, text in enumerate(texts)]
    encoded = encode(rows, model.tokenizer, TASK, max_length=layout.max_length, prompts=layout)
    return np.stack(outputs(model, encoded, max_tokens=8192 if together else 1))


def theirs(folder: Path, **options: Any) -> Any:
    library = pytest.importorskip("sentence_transformers")
    return library.SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)


def saved(folder: Path, target: Path, **options: Any) -> Path:
    return save_model(load_model(str(folder)), target, **options)


@pytest.mark.parametrize("way", embedders.WAYS)
def test_each_way_of_pooling_gives_their_vectors(way: str, tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", modules=[[way]])
    np.testing.assert_allclose(vectors(folder, TEXTS), theirs(folder).encode(TEXTS), atol=1e-6)


def test_several_ways_a_dense_layer_and_normalising_give_their_vectors(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", modules=[["mean", "cls"], 12, "normalize"])
    ours = vectors(folder, TEXTS)
    np.testing.assert_allclose(ours, theirs(folder).encode(TEXTS), atol=1e-6)
    assert ours.shape == (len(TEXTS), 12)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("included", [True, False])
def test_prompts_stand_before_texts_by_their_role(included: bool, tmp_path: Path) -> None:
    prompts = {"query": "the good ", "document": "this lamp: "}
    folder = embedders.save(tmp_path / "model", prompts=prompts, include_prompt=included)
    model = theirs(folder)
    for role, encode_theirs in (("query", model.encode_query), ("document", model.encode_document), (None, model.encode)):
        np.testing.assert_allclose(vectors(folder, TEXTS[:7], role=role), encode_theirs(TEXTS[:7]), atol=1e-6)
    assert not np.allclose(vectors(folder, TEXTS[:7], role="query"), vectors(folder, TEXTS[:7]), atol=1e-3)


def test_a_text_has_one_vector_whatever_it_is_computed_with(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model")
    alone = vectors(folder, TEXTS, together=False)
    np.testing.assert_allclose(vectors(folder, TEXTS), alone, atol=1e-6)
    assert np.isfinite(vectors(folder, ["good " * 10_000])).all()


@pytest.mark.parametrize(
    "modules", [[["mean"], "normalize"], [["max", "lasttoken"], 12, 8], [["weightedmean"]], [["cls"], "normalize"]]
)
def test_a_folder_written_again_says_and_does_the_same(modules: list[Any], tmp_path: Path) -> None:
    prompts = {"query": "the good ", "document": ""} if len(modules) == 3 else None
    folder = embedders.save(tmp_path / "model", modules=modules, prompts=prompts)
    again = saved(folder, tmp_path / "again")
    library = pytest.importorskip("sentence_transformers")
    first, second = (library.SentenceTransformer(str(one), device="cpu", local_files_only=True) for one in (folder, again))
    np.testing.assert_array_equal(first.encode(TEXTS), second.encode(TEXTS))
    assert [type(one) for one in first] == [type(one) for one in second] and first.prompts == second.prompts
    assert first.max_seq_length == second.max_seq_length and first.similarity_fn_name == second.similarity_fn_name
    for path in sorted(path.relative_to(folder) for path in folder.rglob("*.json") if "tokenizer" not in path.name):
        before, after = (json.loads((one / path).read_text(encoding="utf-8")) for one in (folder, again))
        if path.name == "config_sentence_transformers.json":
            before.pop("__version__"), after.pop("__version__")
        if path.name == "config.json" and "Pooling" in str(path):  # what is not pooled by need not be said
            before = {key: value for key, value in before.items() if value is not False}
            after = {key: value for key, value in after.items() if value is not False}
        if path.name == "config.json" and path.parent == Path("."):
            before, after = ({**one, "transformers_version": None} for one in (before, after))
        assert after == before, path


def test_what_their_newest_version_writes_is_read(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", modules=[["mean", "cls"], 12, "normalize"], prompts={"query": "the "})
    theirs(folder).save(str(tmp_path / "new"))
    assert "pooling_mode" in json.loads((tmp_path / "new" / "1_Pooling" / "config.json").read_text())
    np.testing.assert_allclose(vectors(tmp_path / "new", TEXTS), vectors(folder, TEXTS), atol=1e-6)
    again = saved(tmp_path / "new", tmp_path / "old")
    said = json.loads((again / "1_Pooling" / "config.json").read_text())
    if "pooling_mode" not in said:  # an order that only the new layout can say stays in it
        assert said["pooling_mode_mean_tokens"] and said["pooling_mode_cls_token"]
    np.testing.assert_allclose(theirs(again).encode(TEXTS), theirs(folder).encode(TEXTS), atol=1e-6)


def test_servers_find_the_keys_they_stop_without(tmp_path: Path) -> None:
    """text-embeddings-inference asks for these, and serves a BERT without them by its first token."""
    folder = saved(embedders.save(tmp_path / "model"), tmp_path / "again", handover=Handover(24))
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True and pooling["pooling_mode_cls_token"] is False
    assert json.loads((folder / "sentence_bert_config.json").read_text()) == {"max_seq_length": 24, "do_lower_case": False}
    assert (folder / "2_Normalize" / "config.json").is_file()
    about = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert about["__version__"]["sentence_transformers"] == "2.2.2"


def test_stored_padding_and_truncation_are_ignored(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", length=16)
    before = vectors(folder, [*TEXTS, "good " * 40])
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer["padding"] = {
        "strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    embedders.write(folder / "tokenizer.json", tokenizer)
    np.testing.assert_array_equal(vectors(folder, [*TEXTS, "good " * 40]), before)
    again = json.loads((saved(folder, tmp_path / "again") / "tokenizer.json").read_text())
    assert again["truncation"] is None and again["padding"] is None


def test_without_modules_it_is_said_what_is_assumed(tmp_path: Path) -> None:
    folder = toys.save_checkpoint(tmp_path / "bare")
    model = load_model(str(folder), task=TASK)
    assert "mean pooling without normalising is assumed" in model.notes[0]
    assert Layout.of(model.net.config).modules == ({"pool": ["mean"], "include_prompt": True},)
    assert not model.fresh_head and not model.bare


def test_the_modules_are_part_of_what_a_model_is(tmp_path: Path) -> None:
    digests = {
        digest(load_model(str(embedders.save(tmp_path / str(i), modules=modules, prompts=prompts))).net)
        for i, (modules, prompts) in enumerate(
            [([["mean"]], None), ([["cls"]], None), ([["mean"], "normalize"], None), ([["mean"]], {"query": "the "})]
        )
    }
    assert len(digests) == 4


def test_what_is_not_known_is_refused_by_its_name(tmp_path: Path) -> None:
    with_other = embedders.save(tmp_path / "other")
    listed = json.loads((with_other / "modules.json").read_text())
    for kind_of, path, error, part in (
        ("sentence_transformers.models.LSTM", "2_LSTM", RecipeError, "LSTM"),
        ("my_code.Normalize", "2_Normalize", RecipeError, "my_code.Normalize"),
        ("sentence_transformers.models.Normalize", "../../2_Normalize", SafetyError, "leaves the folder"),
    ):
        embedders.write(with_other / "modules.json", [*listed[:2], listed[2] | {"type": kind_of, "path": path}])
        with pytest.raises(error, match=part):
            load_model(str(with_other), task=TASK)
    embedders.write(with_other / "modules.json", {"0": "Transformer"})
    with pytest.raises(DataError, match="not a list of modules"):
        load_model(str(with_other), task=TASK)


@pytest.mark.parametrize(("change", "part"), [
    ({"activation_function": None}, "takes for Tanh"),
    ({"activation_function": "my_code.Swish"}, "my_code.Swish"),
    ({"use_residual": True}, "residual"),
    ({"module_input_name": "token_embeddings"}, "token_embeddings"),
])  # fmt: skip
def test_a_dense_layer_that_is_not_understood_is_refused(change: dict[str, Any], part: str, tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", modules=[["mean"], 12])
    embedders.change(folder / "2_Dense" / "config.json", **change)
    with pytest.raises(RecipeError, match=part):
        load_model(str(folder))


def test_a_dense_layer_in_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", modules=[["mean"], 12])
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(SafetyError, match="2_Dense"):
        load_model(str(folder))


def test_an_unknown_way_of_pooling_is_refused(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model")
    embedders.write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": ["mean", "median"]})
    with pytest.raises(RecipeError, match="median"):
        load_model(str(folder))


def test_the_longest_input_is_found_where_each_version_keeps_it(tmp_path: Path) -> None:
    folder = embedders.save(tmp_path / "model", length=20)
    assert Layout.of(load_model(str(folder)).net.config).max_length == 20
    (folder / "sentence_bert_config.json").unlink()
    embedders.change(folder / "tokenizer_config.json", model_max_length=28)
    assert Layout.of(load_model(str(folder)).net.config).max_length == 28
    assert anatomy(load_model(str(folder)).net).max_tokens(load_model(str(folder)).net) == 64
