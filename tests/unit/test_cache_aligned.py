"""A teacher with another tokenizer: classes against a slow count of what each token's bytes say, and equal tokenizers exactly."""

import math

import numpy as np
import pytest
import torch

from understudy.base.errors import DataError
from understudy.cache.aligned import AlignedTeacher
from understudy.data.encode import Encoded
from understudy.losses.aligned import Aligned, Vocabularies
from understudy.losses.chunked import Head, Sparse
from understudy.losses.divergences import divergence
from understudy.models.needs import Signals

TEACHER = [None, None, b"a", b"b", b"c", b" ", b"ab", b"abc", b" a", b"bc", b"ca"]
STUDENT = [None, b"c", b"b", b"a", b"bc", b" ab", b" ", b"cab", b"ac", None]
BOTH_END = {1: 9}  # the end of a text
WORDS = Vocabularies(TEACHER, STUDENT, BOTH_END)


def encoded(texts):
    """Token ids of each text; every token but the first is to be predicted."""
    rows = [np.array(text) for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(row) - 1 for row in rows])])
    return Encoded(
        [f"row-{i}" for i in range(len(rows))], np.concatenate([row[:-1] for row in rows]).astype(np.int32), offsets,
        labels=np.concatenate([row[1:] for row in rows]), per_token=True, source=np.arange(len(rows)),
    )  # fmt: skip


class Says:
    """A teacher with random outputs, always the same ones for a row."""

    def __init__(self, encoded, vocabulary, record=None):
        torch.manual_seed(0)
        self.encoded, self.record = encoded, record
        self.weight = torch.randn(vocabulary, 6, dtype=torch.float64)
        self.hidden = torch.randn(len(encoded.labels), 6, dtype=torch.float64)

    def signals(self, indices):
        at, places = self.encoded.offsets, []
        for row in indices:
            places += range(at[row], at[row + 1])
        head = Head(self.hidden[places], self.weight)
        labels = torch.from_numpy(self.encoded.labels[places])
        return Signals([], head=head if self.record is None else Sparse.of(head, labels, self.record))


def pieces(vocabulary, ids):
    return [vocabulary[i] for i in ids]


# "abcab a" and the end: the teacher reads abc|ab|" a"|end, the student a|bc|a|b|" "|a|end (and the second text other pieces)
THEIRS = encoded([[0, 7, 6, 8, 1], [0, 2, 9, 2, 3, 8, 3, 1]])
OURS = encoded([[0, 3, 4, 3, 2, 6, 3, 9], [0, 3, 2, 7, 5, 9]])


def aligned(strict=False, record=None):
    return AlignedTeacher(Says(THEIRS, len(TEACHER), record), OURS, THEIRS, WORDS, strict=strict)


def slow_classes(teacher_rows, ours, theirs):
    """Each position's classes by walking over the bytes, with dictionaries and Python floats."""
    says = Says(theirs, len(TEACHER))
    found = []
    for row in teacher_rows:
        their_ids = [
            *theirs.input_ids[theirs.offsets[row] : theirs.offsets[row + 1]],
            theirs.labels[theirs.offsets[row + 1] - 1],
        ]
        our_ids = [*ours.input_ids[ours.offsets[row] : ours.offsets[row + 1]], ours.labels[ours.offsets[row + 1] - 1]]
        p = says.signals([row]).head.logits().softmax(-1).tolist()
        text = b"".join(TEACHER[i] or b"" for i in their_ids)
        at = 0
        for label in our_ids[1:]:
            piece = STUDENT[label] or b""
            start, j = 0, 0  # the teacher's token over byte `at`
            while start + len(TEACHER[their_ids[j + 1]] or b"") <= at and TEACHER[their_ids[j + 1]]:
                start += len(TEACHER[their_ids[j + 1]])
                j += 1
            written = text[start:at]
            whole = sum(
                x
                for x, t in zip(p[j], TEACHER, strict=True)
                if not written or (t and t != written and t.startswith(written))
            )
            classes = {}

            def class_of(t, written=written):
                fitting = [i for i, s in enumerate(STUDENT) if s and t[len(written) :].startswith(s)]
                return max(fitting, key=lambda i: len(STUDENT[i])) if fitting else "rest"

            for i, t in enumerate(TEACHER):
                if t is None and not written:
                    key = BOTH_END.get(i, "rest")
                elif t and t.startswith(written) and t != written:
                    key = class_of(t)
                else:
                    continue
                classes[key] = classes.get(key, 0.0) + p[j][i] / whole
            token = TEACHER[their_ids[j + 1]]
            if token and at + len(piece) > start + len(token):
                product, k, end = p[j][their_ids[j + 1]] / whole, j + 1, start + len(token)
                while end < at + len(piece):
                    left = text[end : at + len(piece)]
                    step = TEACHER[their_ids[k + 1]]
                    product *= p[k][their_ids[k + 1]] if len(step) <= len(left) else sum(
                        x for x, t in zip(p[k], TEACHER, strict=True) if t and t.startswith(left)
                    )  # fmt: skip
                    end, k = end + len(step), k + 1
                key = class_of(token)
                classes[key] = classes.get(key, 0.0) - product
                classes[label] = classes.get(label, 0.0) + product
            found.append(classes)
            at += len(piece)
    return found


def test_classes_are_those_of_a_slow_count():
    said = aligned().signals([0, 1]).head
    assert isinstance(said, Aligned) and (said.at >= 0).all()
    ours = said.classes(torch.arange(len(said.at)), len(STUDENT), torch.float64)
    for row, classes in zip(ours.tolist(), slow_classes([0, 1], OURS, THEIRS), strict=True):
        assert math.isclose(sum(row), 1.0) and math.isclose(sum(classes.values()), 1.0)
        wanted = [classes.get(i, 0.0) for i in range(len(STUDENT))] + [classes.get("rest", 0.0)]
        assert row == pytest.approx(wanted, abs=1e-6)


def test_any_order_of_rows_says_the_same():
    together, apart = aligned().signals([1, 0]).head, [aligned().signals([row]).head for row in (1, 0)]
    every = lambda said: said.classes(torch.arange(len(said.at)), len(STUDENT), torch.float64)  # noqa: E731
    torch.testing.assert_close(every(together), torch.cat([every(one) for one in apart]))


def log_q(rows):
    return torch.randn(rows, len(STUDENT), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd"])
def test_the_gradient_over_classes_is_that_of_autograd(name):
    said, z = aligned().signals([0, 1]).head, log_q(12).requires_grad_()
    loss, gradient = said.compare(slice(0, 12), z.detach().log_softmax(-1), divergence(name), 1.0)
    classes = said.classes(torch.arange(12), len(STUDENT), torch.float64)
    there = classes[:, :-1] > 0
    q = z.softmax(-1)
    q = torch.cat([q * there, (q * ~there).sum(-1, keepdim=True)], 1)
    p = torch.cat([classes[:, :-1], classes[:, -1:].clamp_min(1e-9)], 1)
    kl = lambda a, b: (a * ((a + (a == 0)) / (b + (b == 0))).log()).sum(-1)  # noqa: E731
    m = (p + q) / 2
    wanted = {"forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": (kl(p, m) + kl(q, m)) / 2}[name]
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), z)[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["forward_kl", "skew_kl", "tvd"])
def test_equal_tokenizers_give_the_plain_loss(name, strict):
    vocabulary = Vocabularies(TEACHER, TEACHER, {0: 0, 1: 1})
    says = Says(THEIRS, len(TEACHER))
    said = AlignedTeacher(says, THEIRS, THEIRS, vocabulary, strict=strict)
    assert said.coverage == (1.0, 1.0, 1.0) and said.residual([0, 1]) < 1e-7
    z = torch.randn(11, len(TEACHER), dtype=torch.float64).log_softmax(-1)
    plain = says.signals([0, 1]).head.compare(slice(None), z, divergence(name), 1.0)
    ours = said.signals([0, 1]).head.compare(slice(0, 11), z, divergence(name), 1.0)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_strict_is_the_divergence_over_common_tokens_where_both_have_the_same_one():
    teacher = aligned(strict=True)
    said, z = teacher.signals([0, 1]).head, log_q(12).log_softmax(-1)
    loss, gradient = said.compare(slice(0, 12), z, divergence("forward_kl"), 1.0)
    same = said.at >= 0
    assert 0 < same.sum() < 12 and not loss[~same].any() and not gradient[~same].any()
    theirs, ours = WORDS.common
    assert {(TEACHER[t], STUDENT[s]) for t, s in zip(theirs.tolist(), ours.tolist(), strict=True)} == {
        (piece, piece) for piece in TEACHER if piece in STUDENT
    } | {(None, None)}  # fmt: skip
    p = said.teacher.map(lambda x: x[said.at[same]]).logits()[:, theirs].log_softmax(-1)
    q = z[same][:, ours].log_softmax(-1)
    torch.testing.assert_close(loss[same], (p.exp() * (p - q)).sum(-1))


def test_a_record_of_the_most_likely_ids_serves_another_tokenizer():
    whole, kept = aligned().signals([0, 1]).head, aligned(record=len(TEACHER)).signals([0, 1]).head
    for said in (whole, kept):
        said.classes(torch.arange(12), len(STUDENT), torch.float64)
    every = lambda said: said.classes(torch.arange(12), len(STUDENT), torch.float64)  # noqa: E731
    torch.testing.assert_close(every(kept), every(whole), rtol=1e-6, atol=1e-6)
    few = every(aligned(record=4).signals([0, 1]).head)
    torch.testing.assert_close(few.sum(-1), torch.ones(12, dtype=torch.float64))


def test_texts_of_other_bytes_are_counted_and_too_many_are_refused():
    other = encoded([[0, 7, 6, 8, 1], [0, 2, 9, 2, 1]])
    teacher = AlignedTeacher(Says(other, len(TEACHER)), OURS, other, WORDS, strict=False)
    assert teacher.differ == 1 and teacher.coverage[0] == pytest.approx(7 / 12)
    loss, gradient = teacher.signals([1]).head.compare(
        slice(0, 5), log_q(5).log_softmax(-1), divergence("forward_kl"), 1.0
    )
    assert not loss.any() and not gradient.any()
    with pytest.raises(DataError, match="2 of 2 texts are other bytes"):
        AlignedTeacher(Says(other, len(TEACHER)), OURS, encoded([[0, 2, 1], [0, 3, 1]]), WORDS, strict=False)


def test_a_space_that_sentencepiece_puts_before_a_text_is_no_byte_of_it():
    theirs = encoded([[0, 8, 9, 1]])  # " a" "bc"
    ours = encoded([[0, 3, 4, 9]])  # "a" "bc"
    teacher = AlignedTeacher(Says(theirs, len(TEACHER)), ours, theirs, WORDS, strict=False)
    assert (teacher.signals([0]).head.at >= 0).tolist() == [False, True, True]


def test_a_bpe_tokenizer_does_not_begin_with_the_longest_token():
    """ "abcd" is written ab|cd by these merges, though abc is a token too: the class is that of ab."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from understudy.data.surface import first_token, token_bytes

    pieces = ["a", "b", "c", "d", "ab", "cd", "abc", "Ġ"]
    merges = [("a", "b"), ("c", "d"), ("ab", "c")]
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    student = PreTrainedTokenizerFast(tokenizer_object=core)
    words = Vocabularies([b"abcd", b" ab", b"abc"], token_bytes(student), {}, first_token(student))
    assert [pieces[i] for i in student("abcd")["input_ids"]] == ["ab", "cd"]
    assert [pieces[i] for i in words.phi(b"").tolist()] == ["ab", "Ġ", "abc"]
    assert words.phi(b"ab").tolist() == [pieces.index("cd"), -2, pieces.index("c")]
    plain = Vocabularies([b"abcd"], token_bytes(student), {})
    assert [pieces[i] for i in plain.phi(b"").tolist()] == ["abc"]
