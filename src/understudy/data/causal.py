"""Examples for models that predict the next token, packed as `Encoded`: what is read, what is to be predicted where.

A row is a window of an example. `labels[t]` is the token that position t has to predict, -100 where nothing is scored, so a row
has a position less than the text has tokens, and the windows of a long document score each token exactly once.

    learning     windows follow each other without overlap, and the end-of-text token is learnt
    evaluating   windows overlap by half, so that every token has at least half a window before it; the end is left out

Shapes: N rows, T positions of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from understudy.base.errors import DataError
from understudy.base.progress import say
from understudy.data.surface import surfaces
from understudy.data.types import IGNORE, Example, Task

_CHUNK = 1024  # examples per call of the tokenizer


def encode_causal(
    examples: Sequence[Example], tokenizer: Any, task: Task, *, max_length: int, learning: bool = False
) -> dict[str, Any]:
    """Tokenize, say what is scored, cut into windows: the fields of an `Encoded`.

    A text begins with the token for the beginning of a text, where the tokenizer puts it there by itself. What is too long for
    its prompt loses the prompt's left side first, then the answer's own end. What has nothing to be scored is left out and named.

    Raises:
        DataError: an example that cannot be put into words, or nothing is left.
    """
    pieces = surfaces(tokenizer)
    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    source: list[int] = []
    num_bytes: list[int] = []
    dropped: list[str] = []
    for number, tokens, scored, size, header in _tokens(examples, tokenizer, task, pieces, learning):
        if header is not None and len(tokens) > max_length + 1:
            tokens, scored = _shortened(tokens, scored, max_length + 1, header)
            size = sum(len(pieces[token]) for token in tokens[scored])
        if not scored[1:].any():
            dropped.append(examples[number].id)
            continue
        targets = np.where(scored[1:], tokens[1:], IGNORE)
        for place, (start, first, end) in enumerate(_windows(len(targets), max_length, overlap=not learning)):
            window = targets[start:end].copy()
            window[: first - start] = IGNORE
            ids.append(tokens[start:end])
            labels.append(window)
            source.append(number)
            num_bytes.append(0 if place else size)
    if dropped:
        shown = ", ".join(dropped[:5]) + (", …" if len(dropped) > 5 else "")
        say(f"{len(dropped)} rows have nothing to be predicted within {max_length} tokens and are left out: {shown}.")
    if not ids:
        raise DataError(f"{task.name}: no row has anything to be predicted within {max_length} tokens. Raise task.max_length.")
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in ids], out=offsets[1:])
    counted: dict[int, int] = {}
    names = []
    for number in source:
        counted[number] = counted.get(number, 0) + 1
        names.append(examples[number].id + (f"#{counted[number]}" if counted[number] > 1 else ""))
    return {
        "ids": names,
        "input_ids": np.concatenate(ids).astype(np.int32),
        "offsets": offsets,
        "labels": np.concatenate(labels).astype(np.int64),
        "per_token": True,
        "source": np.array(source, np.int64),
        "num_bytes": np.array(num_bytes, np.int64),
    }


def _tokens(
    examples: Sequence[Example], tokenizer: Any, task: Task, pieces: Sequence[bytes], learning: bool
) -> Iterator[tuple[int, np.ndarray, np.ndarray, int, int | None]]:
    """For each passage of each example: its place, its tokens, which of them are scored, the bytes of what is scored, and the
    tokens of its answer's header; None for a document, which has no prompt that could be cut."""
    bos, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    begun = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    for begin in range(0, len(examples), _CHUNK):
        passages = []
        for number, example in enumerate(examples[begin : begin + _CHUNK], begin):
            try:
                found = task.kind.passages(example.text or "", example.pair, tokenizer)
            except ValueError as error:
                raise DataError(f"{task.name}, row '{example.id}': {error}") from None
            passages += [(number, one) for one in found]
        if not passages:
            continue
        encoded = tokenizer([one.text for _, one in passages], add_special_tokens=False, verbose=False)["input_ids"]
        for (number, passage), found in zip(passages, encoded, strict=True):
            tokens = np.array(found, np.int64)
            scored = _within(tokens, passage, tokenizer, pieces)
            size = sum(len(passage.text[a:b].encode()) for a, b in passage.spans)
            if bos is not None and begun and passage.begins and tokens[:1].tolist() != [bos]:
                tokens, scored = np.append(bos, tokens), np.append(False, scored)
            elif len(tokens) and scored[0]:  # nothing stands before the first token, so it cannot be predicted
                size, scored[0] = size - len(pieces[tokens[0]]), False
            if passage.ends and end is not None and learning:
                tokens, scored = np.append(tokens, end), np.append(scored, True)
            header = passage.header
            if header:
                before = passage.text[: passage.spans[0][0]]
                header = len(tokenizer(before[len(before) - header :], add_special_tokens=False, verbose=False)["input_ids"])
            yield number, tokens, scored, max(size, 0), header


def _within(tokens: np.ndarray, passage: Any, tokenizer: Any, pieces: Sequence[bytes]) -> np.ndarray:
    """(T,) bool: the tokens of which a byte lies in a span. A token across the beginning of a span is scored; one that begins
    at its end is not."""
    if list(passage.spans) == [(0, len(passage.text))]:
        return np.ones(len(tokens), dtype=bool)
    ends = np.cumsum([len(pieces[token]) for token in tokens])
    starts = np.concatenate([[0], ends[:-1]])

    def reach(characters: int) -> int:
        """Bytes of the tokens of the beginning of the text; not of the text itself, which normalisers change."""
        before = tokenizer(passage.text[:characters], add_special_tokens=False, verbose=False)["input_ids"]
        return sum(len(pieces[token]) for token in before)

    scored = np.zeros(len(tokens), dtype=bool)
    for a, b in passage.spans:
        scored |= (ends > reach(a)) & (starts < reach(b))
    return scored


def _shortened(tokens: np.ndarray, scored: np.ndarray, room: int, header: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens cut to `room`: first the prompt's left side, but for the very first token and the answer's header, then the right
    side."""
    prompt = int(np.argmax(scored)) if scored.any() else len(tokens)
    too_many = min(len(tokens) - room, max(0, prompt - 1 - header))
    kept = np.r_[0:1, 1 + too_many : len(tokens)][:room]
    return tokens[kept], scored[kept]


def _windows(length: int, size: int, *, overlap: bool) -> Iterator[tuple[int, int, int]]:
    """(start, first scored position, end) of each window over so many positions."""
    step = max(1, size // 2) if overlap else size
    yield 0, 0, min(size, length)
    end = size
    while end < length:
        start, first = end - size + step, end
        end = min(start + size, length)
        yield start, first, end
