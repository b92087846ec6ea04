"""What causal models read and are to predict: shifts, windows, prompt boundaries, masks of conversations, truncation."""

from __future__ import annotations

import json

import decoders
import numpy as np
import pytest

from understudy.base.errors import DataError
from understudy.data.encode import IGNORE, Encoded, encode
from understudy.data.surface import token_bytes
from understudy.data.types import Example, Task

BOS, EOS = 256, 257
EMPTY = "<think>\n\n</think>\n\n"
THINK = decoders.CHATML.replace("assistant\n{% endif %}", "assistant\n" + EMPTY + "{% endif %}").replace(
    "{{ m.content }}", "{% if m.role == 'assistant' %}" + EMPTY + "{% endif %}{{ m.content }}"
)
DROPS = (  # as Qwen3: earlier answers lose a part once others follow
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}(thought){% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NEXT_HEADER = (  # the token that ends a turn stands at the beginning of the next
    "{% for m in messages %}{% if not loop.first %}<|im_end|>{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_end|>[assistant]{% endif %}"
)
TAGGED = decoders.CHATML.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
TALK = [("user", "Hé?"), ("assistant", "Ja."), ("user", "Und?"), ("assistant", "Nöö")]


def task(kind: str) -> Task:
    return Task("t", kind)  # type: ignore[arg-type]


def encoded(
    kind: str, text: str, pair: str | None = None, *, length: int = 200, learning: bool = True, tokenizer=None
) -> Encoded:
    tokenizer = tokenizer or decoders.tokenizer()
    return encode([Example("a", text, pair)], tokenizer, task(kind), max_length=length, learning=learning)


def said(made: Encoded, tokenizer, row: int = 0) -> tuple[str, str]:
    """What a row reads and, of that, what is to be predicted, as text."""
    rows = slice(made.offsets[row], made.offsets[row + 1])
    labels = made.labels[rows]
    return tokenizer.decode(made.input_ids[rows]), tokenizer.decode(labels[labels != IGNORE])


def talk(turns=TALK) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})


def test_bytes_of_tokens_are_those_of_the_text() -> None:
    tokenizer = decoders.tokenizer()
    pieces, text = token_bytes(tokenizer), "Ä \n\u2028🙂 x"
    assert b"".join(pieces[i] or b"" for i in tokenizer(text, add_special_tokens=False)["input_ids"]) == text.encode()
    assert [pieces[i] for i in (BOS, EOS)] == [None, None]


def test_each_position_predicts_the_next_token_and_the_end_is_learnt() -> None:
    made = encoded("lm", "abc")
    a, b, c = decoders.tokenizer()("abc", add_special_tokens=False)["input_ids"]
    assert made.input_ids.tolist() == [BOS, a, b, c] and made.labels.tolist() == [a, b, c, EOS]
    assert made.num_bytes.tolist() == [3]


def test_without_a_token_for_the_beginning_the_first_one_is_not_scored() -> None:
    made = encoded("lm", "äbc", tokenizer=decoders.tokenizer(bos=False), learning=False)
    assert len(made.input_ids) == 3 and (made.labels != IGNORE).all() and made.num_bytes.tolist() == [3]  # of four bytes


@pytest.mark.parametrize("learning", [True, False])
def test_windows_score_every_token_once(learning: bool) -> None:
    text = "".join(chr(97 + i % 26) for i in range(23))
    made = encoded("lm", text, length=8, learning=learning)
    tokenizer = decoders.tokenizer()
    assert "".join(said(made, tokenizer, row)[1] for row in range(len(made))) == text + ("</s>" if learning else "")
    assert max(made.lengths) <= 8 and set(made.source.tolist()) == {0} and made.num_bytes.sum() == 23
    if not learning:  # half a window stands before what is scored
        for row in range(1, len(made)):
            assert (made.labels[made.offsets[row] :][:4] == IGNORE).all()
    assert made.ids[:2] == ["a", "a#2"]


def test_an_answer_is_scored_from_the_token_that_crosses_its_beginning() -> None:
    tokenizer = decoders.tokenizer()
    made = encoded("sft", "Q: ö?", " jä", tokenizer=tokenizer)
    read, scored = said(made, tokenizer)
    assert read == "<s>Q: ö? jä" and scored == " jä</s>" and made.num_bytes.tolist() == [4]


def test_a_merge_across_the_boundary_is_scored() -> None:
    from tokenizers import models

    tokenizer = decoders.tokenizer()
    vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    merged = models.BPE(vocab=vocabulary | {"ab": len(tokenizer)}, merges=[("a", "b")])
    tokenizer.backend_tokenizer.model = merged
    read, scored = said(encoded("sft", "xa", "bc", tokenizer=tokenizer), tokenizer)
    assert read == "<s>xabc" and scored == "abc</s>"


@pytest.mark.parametrize("template", [decoders.CHATML, TAGGED], ids=["plain", "tagged"])
def test_answers_of_a_conversation_are_scored_with_their_ends(template: str) -> None:
    tokenizer = decoders.tokenizer(template=template)
    read, scored = said(encoded("chat", talk(), tokenizer=tokenizer), tokenizer)
    assert scored == "Ja.<|im_end|>Nöö<|im_end|>" and not read.startswith("<s>")
    assert read.endswith("<|im_start|>assistant\nNöö")


def test_an_end_in_the_next_header_is_scored_and_the_last_answer_gets_one() -> None:
    tokenizer = decoders.tokenizer(template=NEXT_HEADER)
    assert said(encoded("chat", talk(), tokenizer=tokenizer), tokenizer)[1] == "Ja.<|im_end|>Nöö</s>"


def test_what_the_template_supplies_is_not_scored() -> None:
    tokenizer = decoders.tokenizer(template=THINK)
    assert said(encoded("chat", talk(), tokenizer=tokenizer), tokenizer)[1] == "Ja.<|im_end|>Nöö<|im_end|>"
    unasked = THINK.replace("assistant\n" + EMPTY, "assistant\n")
    tokenizer = decoders.tokenizer(template=unasked)
    assert said(encoded("chat", talk(), tokenizer=tokenizer), tokenizer)[1] == "Ja.<|im_end|>Nöö<|im_end|>"


def test_where_earlier_turns_change_each_answer_is_a_row() -> None:
    tokenizer = decoders.tokenizer(template=DROPS)
    made = encoded("chat", talk(), tokenizer=tokenizer)
    assert len(made) == 2 and made.source.tolist() == [0, 0]
    assert [said(made, tokenizer, row)[1] for row in (0, 1)] == ["(thought)Ja.<|im_end|>", "(thought)Nöö<|im_end|>"]


def test_one_token_begins_a_text_also_where_the_template_writes_it() -> None:
    tokenizer = decoders.tokenizer(template="<s>" + decoders.CHATML)
    assert said(encoded("chat", talk(), tokenizer=tokenizer), tokenizer)[0].count("<s>") == 1
    assert said(encoded("lm", "<s>abc"), decoders.tokenizer())[0].count("<s>") == 1


def test_padding_that_is_the_end_is_no_reason_to_forget_the_end() -> None:
    tokenizer = decoders.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    assert encoded("lm", "abc", tokenizer=tokenizer).labels[-1] == EOS


def test_a_long_prompt_loses_its_left_and_a_long_answer_its_right() -> None:
    tokenizer = decoders.tokenizer()
    assert said(encoded("sft", "0123456789", "ab", length=6, tokenizer=tokenizer), tokenizer) == ("<s>789ab", "ab</s>")
    read, scored = said(encoded("sft", "0123456789", "abcdefghij", length=6, tokenizer=tokenizer), tokenizer)
    assert read == "<s>abcde" and scored == "abcdef"
    made = encoded("chat", talk([("user", "0123456789" * 5), ("assistant", "Ja.")]), length=20, tokenizer=tokenizer)
    read, scored = said(made, tokenizer)
    assert scored == "Ja.<|im_end|>" and read.endswith("<|im_start|>assistant\nJa.") and len(made.input_ids) == 20


def test_rows_without_anything_to_predict_are_named(capsys) -> None:
    rows = [Example("short", "abc"), Example("empty", "")]
    made = encode(rows, decoders.tokenizer(bos=False), task("lm"), max_length=10)
    assert made.source.tolist() == [0] and "1 rows have nothing to be predicted" in capsys.readouterr().err
    with pytest.raises(DataError, match="no row has anything"):
        encode([rows[1]], decoders.tokenizer(bos=False), task("lm"), max_length=10)


def test_what_no_template_can_say_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match="row 'a': the model's tokenizer has no chat template"):
        encoded("chat", talk(), tokenizer=decoders.tokenizer(template=None))
    with pytest.raises(DataError, match="row 'a': the assistant speaks first"):
        encoded("chat", talk([("assistant", "Hi.")]))
    with pytest.raises(DataError, match="row 'a': the chat template refuses it: no system"):
        refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + decoders.CHATML
        encoded("chat", talk([("system", "x"), *TALK]), tokenizer=decoders.tokenizer(template=refuses))


def test_bytes_of_a_cut_answer_are_those_of_its_scored_tokens() -> None:
    made = encoded("sft", "0123456789", "abcdefghij", length=6)
    assert made.num_bytes.tolist() == [6] and np.array_equal(made.lengths, [6])
