"""`understudy trim`: the folder of a model with fewer tokens, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from typer.testing import CliRunner

from understudy.base.errors import RecipeError
from understudy.cli import app
from understudy.export.trim import trim_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from tokenizers import BertWordPieceTokenizer

    core = BertWordPieceTokenizer()
    core.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 5 + ["zebras graze calmly"] * 5, vocab_size=200,
                             show_progress=False)  # fmt: skip
    folder = tmp_path / "model"
    folder.mkdir()
    core.save_model(str(folder))
    transformers.BertTokenizer.from_pretrained(str(folder)).save_pretrained(folder)
    config = transformers.BertConfig(vocab_size=core.get_vocab_size(), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=32)  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_from_a_folder_and_texts_to_a_folder(model: Path, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("id,body\n1,the quick fox\n2,the lazy dog\n")
    arguments = ["trim", model, "--texts", tmp_path / "rows.csv", "--text", "body", "--out", tmp_path / "small", "--json"]
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert ended.exit_code == 0, ended.output
    made = json.loads(ended.stdout)
    before, after = made["tokens"]
    assert made["parts"]["embeddings"][0] - made["parts"]["embeddings"][1] == 16 * (before - after) > 0
    assert made["size_mb"][1] == pytest.approx(made["size_mb"][0] - 4e-6 * 16 * (before - after))
    old, new = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (model, tmp_path / "small"))
    assert len(new) == after and new.tokenize("the quick fox") == old.tokenize("the quick fox") == ["the", "quick", "fox"]
    assert old.tokenize("zebras") == ["zebras"] and "".join(new.tokenize("zebras")).replace("##", "") == "zebras"
    nets = [transformers.AutoModel.from_pretrained(folder).eval() for folder in (model, tmp_path / "small")]
    outputs = [net(**tokenizer("the lazy dog", return_tensors="pt")) for net, tokenizer in zip(nets, (old, new), strict=True)]
    torch.testing.assert_close(outputs[0].last_hidden_state, outputs[1].last_hidden_state)


def test_what_cannot_be_done_is_said(model: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match="Which tokens stay"):
        trim_folder(str(model), texts=[], out=tmp_path / "small")
    with pytest.raises(RecipeError, match="already exists"):
        trim_folder(str(model), texts=[], out=model)
