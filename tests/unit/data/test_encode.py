from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from understudy.base.errors import DataError
from understudy.data.encode import IGNORE, collate, encode
from understudy.data.masking import mask_inputs
from understudy.data.types import Example, Task

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "lamp",
    "##s",
    "##shade",
    "is",
    "on",
    "off",
    "door",
    "now",
]
CLS, SEP = 2, 3
CLASSES = Task("c", "classification", ("off", "on"), ("accuracy",), "accuracy")
PAIRS = Task("p", "classification", ("no", "yes"), ("accuracy",), "accuracy", pair=True)
TAGS = Task("t", "tokens", ("O", "B-X", "I-X"), ("f1",), "f1")
TEXT = Task("m", "text", (), ("loss",), "loss")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over fourteen pieces, BERT's template and segment ids."""
    core = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def ids(encoded, i: int) -> list[str]:
    return [PIECES[n] for n in encoded.input_ids[encoded.offsets[i] : encoded.offsets[i + 1]]]


def test_rows_are_packed_without_padding(tokenizer):
    rows = [
        Example("a", text="the lamps is on", label=1),
        Example("b", text="off", label=0),
        Example("c", text="", label=0),
    ]
    encoded = encode(rows, tokenizer, CLASSES, max_length=16)
    assert encoded.ids == ["a", "b", "c"] and len(encoded) == 3
    assert ids(encoded, 0) == ["[CLS]", "the", "lamp", "##s", "is", "on", "[SEP]"]
    assert encoded.lengths.tolist() == [7, 3, 2] and encoded.offsets.tolist() == [0, 7, 10, 12]
    assert encoded.input_ids.dtype == np.int32 and encoded.labels.dtype == np.int64
    assert encoded.labels.tolist() == [1, 0, 0] and encoded.truncated == 0 and not encoded.per_token


def test_pairs_are_cut_longest_first_and_counted(tokenizer):
    rows = [Example("a", text="the " * 9, pair="lamp door", label=1), Example("b", text="the", pair="door", label=0)]
    encoded = encode(rows, tokenizer, PAIRS, max_length=8)
    assert ids(encoded, 0) == ["[CLS]", "the", "the", "the", "[SEP]", "lamp", "door", "[SEP]"]
    assert encoded.token_type_ids[:8].tolist() == [0] * 5 + [1] * 3 and encoded.token_type_ids.dtype == np.int8
    assert encoded.truncated == 1


def test_more_rows_than_one_call_of_the_tokenizer(tokenizer, monkeypatch):
    rows = [Example(str(i), text="the " * (i % 5), label=i % 2) for i in range(23)]
    whole = encode(rows, tokenizer, CLASSES, max_length=16)
    monkeypatch.setattr("understudy.data.encode._CHUNK", 4)
    parts = encode(rows, tokenizer, CLASSES, max_length=16)
    assert np.array_equal(whole.input_ids, parts.input_ids) and np.array_equal(whole.offsets, parts.offsets)


def test_word_tags_go_to_first_subwords(tokenizer):
    rows = [
        Example("a", words=("the", "lampshade", "lamps"), label=(0, 1, 2)),
        Example("b", words=("door", "\u200b", "on"), label=(1, 0, 2)),
    ]
    encoded = encode(rows, tokenizer, TAGS, max_length=16)
    assert ids(encoded, 0) == ["[CLS]", "the", "lamp", "##shade", "lamp", "##s", "[SEP]"]
    assert encoded.word_index[:7].tolist() == [-1, 0, 1, 1, 2, 2, -1]
    assert encoded.labels[:7].tolist() == [IGNORE, 0, 1, IGNORE, 2, IGNORE, IGNORE]
    assert encoded.num_words.tolist() == [3, 3] and encoded.per_token


def test_words_that_are_cut_off_are_counted(tokenizer):
    rows = [Example("a", words=("the",) * 9, label=(1,) * 9), Example("b", words=("on",), label=(0,))]
    encoded = encode(rows, tokenizer, TAGS, max_length=6)
    assert encoded.lost_words == 5 and encoded.truncated == 1 and encoded.num_words.tolist() == [9, 1]
    assert (encoded.labels != IGNORE).sum() == 5


def test_neighbouring_words_with_one_number_stay_apart():
    """Without special tokens, word 0 of a row follows word 0 of the row before."""
    core = Tokenizer(models.WordLevel({"[UNK]": 0, "on": 1}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    bare = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    encoded = encode(
        [Example("a", words=("on",), label=(1,)), Example("b", words=("on",), label=(2,))], bare, TAGS, max_length=4
    )
    assert encoded.labels.tolist() == [1, 2] and encoded.token_type_ids is None
    assert collate(encoded, [1]).labels.tolist() == [2]


@pytest.mark.parametrize(
    ("kind", "labels", "dtype", "shape"),
    [("regression", (0.5, 2), np.float32, (2,)), ("multilabel", ((0, 1), (1, 1)), np.float32, (2, 2))],
)
def test_labels_of_other_kinds(tokenizer, kind, labels, dtype, shape):
    task = Task("x", kind, ("a", "b") if kind == "multilabel" else ())
    encoded = encode(
        [Example(str(i), text="on", label=label) for i, label in enumerate(labels)], tokenizer, task, max_length=8
    )
    assert encoded.labels.dtype == dtype and encoded.labels.shape == shape
    assert collate(encoded, [1, 0, 1]).labels.shape == (3, *shape[1:])


def test_unlabelled_rows(tokenizer):
    assert encode([Example("a", text="on")], tokenizer, CLASSES, max_length=8).labels is None
    assert encode([Example("a", words=("on",))], tokenizer, TAGS, max_length=8).labels is None


def test_collate_takes_rows_in_any_order(tokenizer):
    rows = [Example(str(i), text="the " * i, pair="on", label=i % 2) for i in range(6)]
    encoded = encode(rows, tokenizer, PAIRS, max_length=16)
    batch = collate(encoded, [4, 0, 4])
    assert batch.sizes == batch.lengths.tolist() == [8, 4, 8] and len(batch) == 3
    assert batch.input_ids.dtype == torch.int64 and len(batch.input_ids) == 20
    first, second, third = batch.input_ids.split(batch.sizes)
    assert torch.equal(first, third) and second.tolist() == [CLS, SEP, PIECES.index("on"), SEP]
    assert batch.token_type_ids.split(batch.sizes)[1].tolist() == [0, 0, 1, 1]
    assert batch.labels.tolist() == [0, 0, 0] and batch.indices.tolist() == [4, 0, 4]
    assert batch.to("cpu").sizes == batch.sizes


def test_keys_name_the_content_and_not_the_row(tokenizer):
    one = encode(
        [Example("a", text="on", label=0), Example("b", text="off", label=0)], tokenizer, CLASSES, max_length=8
    )
    other = encode([Example("c", text="off", label=1)], tokenizer, CLASSES, max_length=8)
    assert one.key(1) == other.key(0) != one.key(0) and len(one.key(0)) == 16
    swapped = [Example("a", text="on on", pair="off"), Example("b", text="on", pair="on off")]
    pairs = encode(swapped, tokenizer, PAIRS, max_length=16)
    assert pairs.key(0) != pairs.key(1)


def test_refusals(tokenizer):
    with pytest.raises(DataError, match=r"task\.max_length is 3: special tokens leave no room"):
        encode([Example("a", text="on", pair="off", label=0)], tokenizer, PAIRS, max_length=3)
    with pytest.raises(DataError, match="not a fast tokenizer"):
        encode([Example("a", text="on", label=0)], object(), CLASSES, max_length=8)


def test_byte_level_tokenizers_need_a_space_before_the_first_word():
    vocabulary = {"[UNK]": 0, "on": 1, "Ġon": 2, **{c: i for i, c in enumerate("onĠ", 3)}}

    def byte_level(space: bool) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.BPE(vocabulary, [("o", "n"), ("Ġ", "on")], unk_token="[UNK]"))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
        return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", add_prefix_space=space)

    rows = [Example("a", words=("on", "on"), label=(1, 2))]
    with pytest.raises(DataError, match="load it with add_prefix_space=True"):
        encode(rows, byte_level(False), TAGS, max_length=8)
    encoded = encode(rows, byte_level(True), TAGS, max_length=8)
    assert encoded.input_ids.tolist() == [2, 2] and encoded.labels.tolist() == [1, 2]


class TestMasking:
    @pytest.fixture(scope="class")
    def encoded(self, tokenizer):
        rows = [Example(str(i), text="the lamps is on the door is off now") for i in range(400)]
        return encode(rows, tokenizer, TEXT, max_length=32)

    def test_shares_and_labels(self, encoded, tokenizer):
        assert encoded.labels is None
        masked = mask_inputs(encoded, tokenizer, seed=0, variant=0, probability=0.3)
        chosen = masked.labels != IGNORE
        special = np.isin(encoded.input_ids, [CLS, SEP])
        assert not chosen[special].any() and masked.per_token
        assert chosen.sum() / (~special).sum() == pytest.approx(0.3, abs=0.03)
        assert np.array_equal(masked.labels[chosen], encoded.input_ids[chosen])
        assert np.array_equal(masked.input_ids[~chosen], encoded.input_ids[~chosen])
        hidden = masked.input_ids[chosen] == tokenizer.mask_token_id
        kept = masked.input_ids[chosen] == encoded.input_ids[chosen]
        assert hidden.mean() == pytest.approx(0.8, abs=0.04)
        assert kept.mean() == pytest.approx(0.1 + 0.1 / 9, abs=0.04)  # a random token may be the old one
        assert not np.isin(masked.input_ids[chosen & (masked.input_ids != 4)], [0, 1, 2, 3]).any()

    def test_a_function_of_seed_and_variant(self, encoded, tokenizer):
        def masks(seed: int, variant: int) -> list[int]:
            return mask_inputs(encoded, tokenizer, seed=seed, variant=variant, probability=0.15).input_ids.tolist()

        assert masks(0, 0) == masks(0, 0)
        assert masks(0, 1) != masks(0, 0) != masks(1, 0)

    def test_variants_have_keys_of_their_own(self, encoded, tokenizer):
        one, two = (mask_inputs(encoded, tokenizer, seed=0, variant=v, probability=0.3) for v in (0, 1))
        assert sum(one.key(i) == two.key(i) for i in range(len(one))) < 40

    def test_a_tokenizer_without_a_mask(self, encoded):
        core = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        bare = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
        with pytest.raises(DataError, match="no mask token"):
            mask_inputs(encoded, bare, seed=0, variant=0, probability=0.15)
