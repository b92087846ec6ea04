"""Word embeddings of low rank: the nearest there are, saved as they are, and folded into a stock model without a difference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_structured, tiny_tokenizer

from understudy.base.errors import RecipeError
from understudy.export.stock import to_hf, to_padded
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.restructure import lower_rank
from understudy.models.save import save_model
from understudy.students.share import unroll
from understudy.students.vocabulary import parts, trim, with_rank

WIDE = [family for family in FAMILIES if family not in ("albert", "electra")]


def model(family: str, structure: str = "stock") -> Model:
    net = tiny_structured(family, structure, num_labels=3)
    return Model(net, tiny_tokenizer(), ("a", "b", "c"), "classification", "a teacher", None)


@pytest.mark.parametrize("structure", ["stock", "cut", "shared"])
@pytest.mark.parametrize("family", WIDE)
@torch.no_grad()
def test_saved_read_and_folded_it_says_the_same(family: str, structure: str, tmp_path: Path):
    whole = model(family, structure)
    small = with_rank(whole, 5)
    ids = tiny_ids(3, 9)
    said = small.net(ids).logits
    assert not torch.allclose(said, whole.net(ids).logits, atol=1e-3)
    saved = 24 * 32 - 24 * 5 - 5 * 32
    assert parts(whole.net)["embeddings"] - parts(small.net)["embeddings"] == saved
    save_model(small, tmp_path / "small")
    back = load_model(str(tmp_path / "small"))
    assert digest(back.net) == digest(small.net)
    torch.testing.assert_close(back.net(ids).logits, said)
    stock = (to_padded if structure == "cut" else to_hf)(small)
    save_model(stock, tmp_path / "stock")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock").eval()
    assert plain.config.model_type == family
    torch.testing.assert_close(plain(ids).logits, said, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unroll(small).net(ids).logits, said, rtol=1e-4, atol=1e-5)
    assert with_rank(small, 5) is small


def test_it_starts_as_the_nearest_table_of_that_rank():
    net = tiny_net("bert")
    table = net.get_input_embeddings().weight.detach().double().clone()
    lower_rank(net, 7)
    left = torch.linalg.svdvals(table)[7:].norm()
    distance = (net.get_input_embeddings().whole().double() - table).norm()
    torch.testing.assert_close(distance, left, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_its_vocabulary_can_be_trimmed(monkeypatch: pytest.MonkeyPatch):
    """Of a narrow table the same rows go as of a wide one; the tokenizer is not what is looked at here."""
    monkeypatch.setattr("understudy.students.vocabulary.trimmed_tokenizer", lambda tokenizer, kept: tokenizer)
    small = with_rank(model("bert"), 6)
    kept = [0, 1, 2, 3, 4, 7, 9, 20]
    ids = torch.tensor([[2, 5, 6, 3]])
    before = small.net(torch.tensor([[kept[token] for token in ids[0]]])).logits
    torch.testing.assert_close(trim(small, kept).net(ids).logits, before)


@pytest.mark.parametrize(
    ("family", "head", "rank", "message"),
    [
        ("albert", "classification", 4, "a width of its own, 16"),
        ("bert", "classification", 32, "less than the width, 32"),
        ("bert", "text", 4, "head shares its embeddings"),
    ],
)
def test_what_cannot_be_lowered_is_refused(family: str, head: str, rank: int, message: str):
    with pytest.raises(RecipeError, match=message):
        lower_rank(tiny_net(family, head), rank)
