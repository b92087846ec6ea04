"""Which tokens of two tokenizers belong together: those that stand for the same characters of the same text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.base.errors import DataError
from understudy.data.types import Example, Task

Pairs = list[tuple[np.ndarray, np.ndarray]]
"""For each example the positions in the teacher's tokens, and those in the student's, that belong together."""


def match_tokens(
    teacher: Any,
    student: Any,
    examples: Sequence[Example],
    task: Task,
    *,
    lengths: tuple[int, int],
    how: str,
    families: tuple[str, str],
) -> Pairs:
    """Pairs of positions, example by example.

    A text that both cut into the same tokens matches everywhere, special tokens included. Otherwise `offsets` pairs tokens
    over the same characters (spaces at their ends do not count; in pre-split text also of the same word), and `exact` pairs
    equal strings at equal positions, with SentencePiece written as WordPiece, as the released code does.

    Args:
        lengths: the longest input of each, as it was encoded for the forward pass.
        families: model types, which decide how `exact` reads a piece.

    Raises:
        DataError: no token at all matches.
    """
    ours, theirs = _encodings(student, examples, task, lengths[1]), _encodings(teacher, examples, task, lengths[0])
    found: Pairs = []
    for example, left, right in zip(examples, theirs, ours, strict=True):
        if left.tokens == right.tokens:
            everywhere = np.arange(len(left.tokens))
            found.append((everywhere, everywhere))
        elif how == "exact":
            one, other = _pieces(left.tokens, families[0]), _pieces(right.tokens, families[1])
            same = np.array([i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a == b], dtype=np.int64)
            found.append((same, same))
        else:
            places = {key: i for i, key in reversed(list(enumerate(_spans(left, example, task)))) if key is not None}
            both = [(places[key], i) for i, key in enumerate(_spans(right, example, task)) if key in places]
            found.append((np.array([i for i, _ in both], np.int64), np.array([i for _, i in both], np.int64)))
    if not any(len(one) for one, _ in found):
        advice = "Use method.token_match: offsets." if how == "exact" else "Give other rows, or align: none."
        raise DataError(f"The two tokenizers cut none of the {len(found)} texts into a token they share. {advice}")
    return found


def _encodings(tokenizer: Any, examples: Sequence[Example], task: Task, length: int) -> list[Any]:
    by_word = task.kind.by_word
    texts: list[Any] = [list(row.words or ()) if by_word else row.text or "" for row in examples]
    pairs = [row.pair or "" for row in examples] if task.pair else None
    return tokenizer(texts, pairs, truncation=True, max_length=length, padding=False, is_split_into_words=by_word).encodings


def _spans(encoding: Any, example: Example, task: Task) -> list[tuple[int, int, int, int] | None]:
    """(text, word, start, end) of each token; None for special tokens and empty ones."""
    spans: list[tuple[int, int, int, int] | None] = []
    for sequence, word, (start, end) in zip(encoding.sequence_ids, encoding.word_ids, encoding.offsets, strict=True):
        if sequence is None:
            spans.append(None)
            continue
        by_word = task.kind.by_word
        whole = example.text if sequence == 0 else example.pair
        text: str = example.words[word] if by_word and example.words else whole or ""
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        spans.append((sequence, word if by_word else -1, start, end) if end > start else None)
    return spans


def _pieces(tokens: list[str], family: str) -> list[str]:
    """The released normalisation: for RoBERTa and XLM-R a leading mark is dropped, and every other piece gets "##"."""
    if family not in ("roberta", "xlm-roberta"):
        return tokens
    return [token[1:] if token.startswith("▁") else f"##{token}" for token in tokens]
