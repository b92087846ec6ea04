"""Which tokens of two tokenizers belong together (section 2.4 of the method, and what is done instead)."""

from __future__ import annotations

import checkpoints
import numpy as np
import pytest
import tiny_models
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from understudy.adapters import extract, inject, put
from understudy.adapters.transfer import plan, transfer
from understudy.adapters.transfer.match import match_tokens
from understudy.base.errors import DataError
from understudy.data.types import Example, Task
from understudy.models.model import Model
from understudy.recipe.adapter import ADAPTERS, written_out
from understudy.recipe.transfer import TransferSettings

TEXTS = Task("toy", "text")
TAGS = Task("toy", "tokens", labels=("O",))
PAIRS = Task("toy", "classification", labels=("no", "yes"), pair=True)
FAMILIES = ("xlm-roberta", "bert")


def finished(core: Tokenizer, begin: str, end: str) -> PreTrainedTokenizerFast:
    ids = [(name, core.token_to_id(name)) for name in (begin, end)]
    core.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=f"{begin} $A {end} $B {end}", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", cls_token=begin, sep_token=end, model_max_length=64
    )


def wordpiece() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<unk>", "[CLS]", "[SEP]", "my", "print", "##er", "is", "bro", "##ken", "a"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return finished(core, "[CLS]", "[SEP]")


def sentencepiece() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<unk>", "<s>", "</s>", "▁my", "▁print", "er", "▁is", "▁broken", "▁a"]
    core = Tokenizer(models.Unigram([(word, -float(i)) for i, word in enumerate(words)], unk_id=1))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return finished(core, "<s>", "</s>")


def byte_level() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<unk>", "<s>", "</s>", "Ġ", "m", "y", "i", "s", "Ġm", "Ġmy"]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("Ġ", "m"), ("Ġm", "y")], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return finished(core, "<s>", "</s>")


def matched(teacher, student, example, *, how="offsets", task=TEXTS, families=FAMILIES):
    found = match_tokens(teacher, student, [example], task, lengths=(64, 64), how=how, families=families)
    return list(zip(*(side.tolist() for side in found[0]), strict=True))


def test_wordpiece_and_sentencepiece_meet_at_the_same_characters():
    """<s> ▁broken ▁print er ▁is ▁my </s>  and  [CLS] bro ##ken print ##er is my [SEP]"""
    example = Example("one", text="broken printer is my")
    assert matched(sentencepiece(), wordpiece(), example) == [(2, 3), (3, 4), (4, 5), (5, 6)]
    assert matched(wordpiece(), sentencepiece(), example, families=FAMILIES[::-1]) == [(3, 2), (4, 3), (5, 4), (6, 5)]
    assert matched(wordpiece(), wordpiece(), example) == [(i, i) for i in range(8)]  # the special tokens as well


def test_pairs_and_words_meet_in_the_same_text_and_word():
    pair = Example("one", text="broken printer", pair="printer is")
    assert matched(sentencepiece(), wordpiece(), pair, task=PAIRS) == [(2, 3), (3, 4), (5, 6), (6, 7), (7, 8)]
    words = Example("one", words=("broken", "printer", "my", "my"))
    assert matched(sentencepiece(), wordpiece(), words, task=TAGS) == [(2, 3), (3, 4), (4, 5), (5, 6)]


def test_byte_level_pieces_meet_others_where_they_cut_alike():
    """<s> Ġ i s Ġmy </s>  and  [CLS] is my [SEP]: a space does not count, and alone it stands for nothing."""
    assert byte_level().tokenize("is my") == ["Ġ", "i", "s", "Ġmy"]
    assert matched(byte_level(), wordpiece(), Example("one", text="is my"), families=("roberta", "bert")) == [(4, 2)]
    assert matched(checkpoints.letters(), wordpiece(), Example("one", text="is a my")) == [(3, 2)]


def literal(teacher: list[str], student: list[str], families: tuple[str, str]) -> list[tuple[int, int]]:
    """The released rule, one position at a time: normalised strings at the same index are equal."""
    pairs = []
    for i in range(min(len(teacher), len(student))):
        one, other = teacher[i], student[i]
        if families[0] == "xlm-roberta":
            one = one[1:] if one[0] == "▁" else "##" + one
        if families[1] == "xlm-roberta":
            other = other[1:] if other[0] == "▁" else "##" + other
        if one == other:
            pairs.append((i, i))
    return pairs


def test_exact_is_the_released_rule():
    teacher, student = sentencepiece(), wordpiece()
    for text in ("my printer is broken", "my my broken printer my", "is a printer my printer"):
        tokens = [tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) for tokenizer in (teacher, student)]
        wanted = literal(*tokens, FAMILIES)
        assert wanted and matched(teacher, student, Example("one", text=text), how="exact") == wanted
    # After the first difference the positions no longer agree: two of five words are left, of which offsets finds four.
    drifting = Example("one", text="my my broken printer my")
    assert len(matched(teacher, student, drifting, how="exact")) == 2 < len(matched(teacher, student, drifting))


def test_no_shared_token_is_an_error_with_advice():
    example = Example("one", text="broken printer is my")
    with pytest.raises(DataError, match="none of the 1 texts.*token_match: offsets"):
        matched(sentencepiece(), wordpiece(), example, how="exact")
    with pytest.raises(DataError, match="none of the 1 texts.*other rows, or align: none"):
        matched(checkpoints.letters(), wordpiece(), Example("one", text="printer is"))


def test_an_adapter_moves_between_tokenizers():
    draw = np.random.default_rng(0)
    words = ["my", "printer", "is", "broken", "a"]
    rows = [Example(f"{i}", text=" ".join(draw.choice(words, 5))) for i in range(40)]
    made = []
    for family, tokenizer, seed in (("xlm-roberta", sentencepiece(), 0), ("bert", wordpiece(), 1)):
        net = tiny_models.tiny_net(family, seed=seed, vocab_size=len(tokenizer), **({} if seed else {"hidden_size": 48}))
        made.append(Model(net, tokenizer, (), "classification", family, None))
    settings = written_out("pfeiffer[reduction_factor=4]")
    inject(made[0].net, ADAPTERS[settings["kind"]].model_validate(settings))
    adapter = extract(made[0].net)
    how = plan(made[0].net.config, made[1].net.config, adapter.config, TransferSettings())
    found = transfer(made[0], made[1], adapter, how, rows=rows, task=TEXTS)
    tokens = [len(tokenizer(row.text)["input_ids"]) for tokenizer in (wordpiece(),) for row in rows]
    shared = sum(len(row.text.replace("printer", "print er").split()) - row.text.split().count("broken") for row in rows)
    assert found.report["matched_tokens"] == {"tokens": shared, "share_of_student": shared / sum(tokens)}
    put(made[1].net, found.adapter)
