"""Examples become token ids, packed: all rows end to end in one flat array, with no padding anywhere.

Teacher and student each encode the same examples with their own tokenizer; they are aligned by row, never by token.
Shapes: N examples, T sub-words of all of them, B rows of a batch, K labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from understudy.base.errors import DataError
from understudy.base.suggest import shown
from understudy.data.causal import encode_causal
from understudy.data.squad import encode_spans
from understudy.data.types import IGNORE, Example, Task

if TYPE_CHECKING:
    import torch

_CHUNK = 4096  # examples per call of the tokenizer: enough to keep its threads busy, little enough to hold in memory


@dataclass(frozen=True)
class Encoded:
    """Packed rows. Row i is `input_ids[offsets[i]:offsets[i + 1]]`.

    ids             N names, in the order of the examples
    input_ids       (T,) int32, special tokens included
    offsets         (N + 1,) int64
    token_type_ids  (T,) int8, or None where the tokenizer gives none
    labels          classification (N,) int64 · regression (N,) float32 · multilabel (N, K) float32; rows without a label hold
                    -100, or NaN · tokens (T,) int64:
                    the first sub-word of a word carries its tag, all else -100;
                    None where no row has a label, and for text until it is masked
    word_index      tokens: (T,) int32, the number of the word in its sentence, -1 for special tokens; else None
    num_words       tokens: (N,) int32, words of each sentence, those cut off included; else None
    per_token       whether labels are one per sub-word, rather than one per row
    cut             (N,) bool: rows that did not fit into max_length
    source          causal kinds and spans: (N,) int64, the example that a row is a window of; else None, and rows are examples
    chars           spans: (T, 2) int32, the characters of each token of the text, (0, 0) elsewhere; else None
    num_bytes       causal kinds: (N,) int64, UTF-8 bytes of the scored text, at the first window of an example
    lost_words      tokens: words of which no sub-word is left, because they were cut off or the tokenizer drops them
    lists           where each text of a row is read by itself and some rows have several: (E + 1,) int64, example e is the rows
                    from lists[e] to lists[e + 1]. Labels are then (N, 3) float32: the example's number; what it says of this
                    text, NaN where nothing, -inf for its first; and the text's number, the same for equal texts
    windows         where long texts are read in windows: (W,) int32 tokens of each, row i being those from firsts[i] to
                    firsts[i + 1], end to end; else None. pool: how their outputs become the row's
    left_out        (N,) int32: tokens at the beginning of each row that are not pooled (of a prompt), or None
    """

    ids: list[str]
    input_ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None = None
    labels: np.ndarray | None = None
    word_index: np.ndarray | None = None
    num_words: np.ndarray | None = None
    per_token: bool = False
    cut: np.ndarray | None = None
    lost_words: int = 0
    chars: np.ndarray | None = None
    lists: np.ndarray | None = None
    left_out: np.ndarray | None = None
    source: np.ndarray | None = None
    num_bytes: np.ndarray | None = None
    windows: np.ndarray | None = None
    firsts: np.ndarray | None = None
    pool: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """The rows of these examples, one behind the other."""
        if self.lists is None:
            return examples
        sizes = np.diff(self.lists)[examples]
        starts = np.cumsum(sizes) - sizes
        return np.arange(sizes.sum()) + np.repeat(self.lists[examples] - starts, sizes)

    @cached_property
    def tokens(self) -> np.ndarray:
        """(E,) int64: sub-words of each example."""
        return self.lengths if self.lists is None else np.add.reduceat(self.lengths, self.lists[:-1])

    @property
    def truncated(self) -> int:
        """How many rows did not fit into max_length."""
        return 0 if self.cut is None else int(self.cut.sum())

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64: sub-words of each row."""
        return np.diff(self.offsets)

    def words(self, i: int) -> tuple[int, np.ndarray] | None:
        """How many words row i has, and the word of each of its sub-words; None where rows are texts."""
        if self.word_index is None or self.num_words is None:
            return None
        return int(self.num_words[i]), self.word_index[self.offsets[i] : self.offsets[i + 1]]

    def key(self, i: int) -> bytes:
        """16 bytes that name the content of encoded row i, not its label: equal inputs have equal keys in every run."""
        rows = slice(self.offsets[i], self.offsets[i + 1])
        seen = hashlib.blake2b(self.input_ids[rows].astype("<i4").tobytes(), digest_size=16)
        if self.token_type_ids is not None:
            seen.update(b"types" + self.token_type_ids[rows].tobytes())
        if self.left_out is not None:
            seen.update(b"left out %d" % self.left_out[i])
        if self.windows is not None and self.firsts is not None:
            seen.update(self.pool.encode() + self.windows[self.firsts[i] : self.firsts[i + 1]].tobytes())
        return seen.digest()


@dataclass
class Batch:
    """Some rows as torch tensors, still packed. `lengths` (B,) lies beside `sizes`, the same numbers as a list."""

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor | None
    lengths: torch.Tensor
    sizes: list[int]
    labels: torch.Tensor | None
    indices: np.ndarray
    left_out: list[int] | None = None
    windows: list[list[int]] | None = None
    """Of each row, the tokens of its windows."""
    pool: str = ""

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: Any) -> Batch:
        """The same batch on a device."""

        def moved(tensor: torch.Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        ids, types, labels = moved(self.input_ids), moved(self.token_type_ids), moved(self.labels)
        return Batch(ids, types, moved(self.lengths), self.sizes, labels, self.indices, self.left_out, self.windows, self.pool)


class Prompts(Protocol):
    """What an embedding model puts before a text, by the text's role (`models.embedder.Layout`)."""

    @property
    def lower_case(self) -> bool: ...
    @property
    def pools_prompt(self) -> bool: ...
    def prompt(self, role: str | None) -> str: ...


def encode(
    examples: Sequence[Example], tokenizer: Any, task: Task, *, max_length: int, prompts: Prompts | None = None,
    learning: bool = False
) -> Encoded:
    """Tokenize and pack.

    Pairs are cut longest-first. For kind `tokens` the words are given to the tokenizer as they are split; a byte-level
    BPE tokenizer (RoBERTa, ModernBERT) must then have been loaded with `add_prefix_space=True`, or the first word of
    every sentence would be encoded as the inside of a word.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        max_length: longest row in sub-words, special tokens included.
        prompts: of an embedding model; every text of an example is then a row.
        learning: for causal kinds: to learn from, rather than to evaluate on (`causal.encode_causal`).

    Raises:
        DataError: a slow tokenizer, or one that cannot take split words; or `max_length` leaves no room for a text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"{type(tokenizer).__name__} is not a fast tokenizer; use a model with a tokenizer.json.")
    if task.kind.causal:
        return Encoded(**encode_causal(examples, tokenizer, task, max_length=max_length, learning=learning))
    if task.kind.spans:
        return Encoded(**encode_spans(examples, tokenizer, max_length=max_length))
    by_word = task.kind.by_word
    if by_word and not _takes_words(tokenizer):
        raise DataError(
            f"{type(tokenizer).__name__} marks words by the space before them; load it with add_prefix_space=True for "
            "token classification."
        )
    lists = of_lists = left_out = None
    if task.kind.apart is not None:
        examples, lists, of_lists = apart(examples, prompts, pairs=task.kind.apart == "pairs")
        if prompts is not None and not prompts.pools_prompt:
            left_out = np.array([_prompt_tokens(tokenizer, prompts.prompt(row.role)) for row in examples], dtype=np.int32)
    if not task.pair and (second := next((row for row in examples if row.pair is not None), None)) is not None:
        raise DataError(
            f"row '{second.id}' has a second text, which the task '{task.name}' does not read: give the task pairs (`pair=True`, "
            "task.columns.pair), or the rows one text."
        )
    room = max_length - tokenizer.num_special_tokens_to_add(pair=task.pair)
    if room < 1 + task.pair:
        raise DataError(f"task.max_length is {max_length}: special tokens leave no room for a text. Give a larger one.")

    pieces: list[list[int]] = []
    types: list[list[int]] = []
    word_numbers: list[list[int]] = []
    cut: list[bool] = []
    windows: list[list[int]] = []
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        if task.windows is not None:
            _into_windows(chunk, tokenizer, task, max_length, pieces, types, windows, cut)
            continue
        out = tokenized(chunk, tokenizer, task, truncation=True, max_length=max_length)
        pieces.extend(out["input_ids"])
        types.extend(out.get("token_type_ids") or [])
        cut.extend(bool(encoding.overflowing) for encoding in out.encodings)
        if by_word:
            word_numbers.extend([-1 if w is None else w for w in encoding.word_ids] for encoding in out.encodings)

    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    word_index = _flat(word_numbers, np.int32) if by_word else None
    num_words = np.array([len(row.words or ()) for row in examples], dtype=np.int32) if by_word else None
    first = None if word_index is None else _first_subwords(word_index, offsets)
    return Encoded(
        ids=[row.id for row in examples],
        input_ids=_flat(pieces, np.int32),
        offsets=offsets,
        token_type_ids=_flat(types, np.int8) if types else None,
        labels=of_lists if task.kind.apart is not None else _token_labels(examples, word_index, offsets, first) if by_word
        else _targets(examples, task),
        word_index=word_index,
        num_words=num_words,
        per_token=by_word,
        cut=np.array(cut, dtype=bool),
        lost_words=0 if first is None or num_words is None else int(num_words.sum() - first.sum()),
        lists=lists,
        left_out=left_out,
        windows=_flat(windows, np.int32) if task.windows else None,
        firsts=np.cumsum([0, *map(len, windows)]) if task.windows else None,
        pool=task.windows.pool if task.windows else "",
    )  # fmt: skip


def _into_windows(
    examples: Sequence[Example], tokenizer: Any, task: Task, max_length: int,
    pieces: list[list[int]], types: list[list[int]], windows: list[list[int]], cut: list[bool],
) -> None:  # fmt: skip
    """Append what the examples become: each window with its own special tokens, those of a row end to end. Of a pair the first
    text is cut into windows, and the second stands whole in each."""
    assert task.windows is not None
    room = max_length - tokenizer.num_special_tokens_to_add(pair=task.pair)
    if not 0 < task.windows.stride <= room:
        raise DataError(
            f"task.windows.stride is {task.windows.stride}, but a window of {max_length} tokens has room for {room} of a text: a "
            "larger stride would leave words out."
        )
    how = "only_first" if task.pair else True
    overlap = room - task.windows.stride
    if task.pair:  # what is left beside the longest second text must still hold more than the overlap
        seconds = tokenizer([row.pair or "" for row in examples], add_special_tokens=False, verbose=False)["input_ids"]
        left = room - max(map(len, seconds))
        if left < 2:
            raise DataError(
                f"task.windows: a second text of {max(map(len, seconds))} tokens leaves no room in a window of {max_length} (the "
                "first text is cut into windows, the second stands in each). Give a larger task.max_length."
            )
        overlap = max(0, min(overlap, left - 1))
    out = tokenized(
        examples, tokenizer, task, truncation=how, max_length=max_length, stride=overlap, return_overflowing_tokens=True
    )
    of_row: list[list[int]] = [[] for _ in examples]
    for window, row in enumerate(out["overflow_to_sample_mapping"]):
        of_row[row].append(window)
    for found in of_row:
        kept = found[: task.windows.most]
        pieces.append([token for window in kept for token in out["input_ids"][window]])
        if "token_type_ids" in out:
            types.append([token for window in kept for token in out["token_type_ids"][window]])
        windows.append([len(out["input_ids"][window]) for window in kept])
        cut.append(len(found) > len(kept))


def texts_of(row: Example) -> list[Example]:
    """Every text of an example as one of its own, with its role."""
    others = "document" if row.role == "query" else row.role
    further = [text for text in (row.pair, *row.more) if text is not None]
    alone = [Example(row.id, row.text, role=row.role)] if row.text is not None else []
    return [*alone, *(Example(f"{row.id}/{i}", text, role=others) for i, text in enumerate(further, 1))]


def read_of(task: Task, rows: Sequence[Example]) -> list[Example]:
    """What a model reads of examples with several texts: each text, or each pair, as an example without a label."""
    return apart(rows, pairs=task.kind.apart == "pairs")[0]


def apart(
    examples: Sequence[Example], prompts: Prompts | None = None, *, pairs: bool = False
) -> tuple[list[Example], np.ndarray | None, np.ndarray | None]:
    """Every text of the examples behind its prompt, `Encoded.lists` and `Encoded.labels`; these are None where no example has
    more than one text. `pairs`: the first text with each of the others."""
    if pairs:
        parts = [[Example(f"{row.id}/{i}", row.text, text) for i, text in enumerate(row.more, 1)] for row in examples]
    else:
        parts = [texts_of(row) for row in examples]
    texts = [text for part in parts for text in part]
    if prompts is not None:
        before = {role: prompts.prompt(role) for role in (None, "query", "document")}
        texts = [replace(one, text=before[one.role] + (one.text or "")) for one in texts]
        texts = [replace(one, text=(one.text or "").lower()) for one in texts] if prompts.lower_case else texts
    if len(texts) == len(examples) and not pairs:
        return texts, None, None
    labels = np.full((len(texts), 3), np.nan, dtype=np.float32)
    numbers: dict[str, int] = {}
    labels[:, 2] = [numbers.setdefault((one.pair if pairs else one.text) or "", len(numbers)) for one in texts]
    lists = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=lists[1:])
    for i, (row, start, end) in enumerate(zip(examples, lists[:-1], lists[1:], strict=True)):
        labels[start:end, 0] = i
        if not pairs:
            labels[start, 1] = -np.inf
        if isinstance(row.label, int | float):
            labels[start + 1 : end, 1] = row.label
        elif row.label is not None and row.more:  # beyond its passages stand the grades of those that it lacks
            labels[end - len(row.more) : end, 1] = row.label[: len(row.more)]
    return texts, lists, labels


def _prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt as it stands at the beginning of a text, the special ones before it included."""
    if not prompt:
        return 0
    ids = tokenizer(prompt, return_attention_mask=False)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)


def tokenized(examples: Sequence[Example], tokenizer: Any, task: Task, **options: Any) -> Any:
    """What a tokenizer makes of examples, with its `options` (none: nothing is cut).

    Raises:
        DataError: it cannot take a text; some give up in ways (a panic of their compiled part) that nobody else catches.
    """
    by_word = task.kind.by_word

    def call(rows: Sequence[Example]) -> Any:
        texts: list[Any] = [list(row.words or ()) if by_word else row.text or "" for row in rows]
        pairs = [row.pair or "" for row in rows] if task.pair else None
        return tokenizer(
            texts, pairs, padding=False, is_split_into_words=by_word, return_attention_mask=False, verbose=False, **options
        )  # fmt: skip

    try:
        return call(examples)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        for row in examples:
            try:
                call([row])
            except BaseException as reason:  # the same as above, for one row
                text = shown(row.text if row.text is not None else " ".join(row.words or ()))
                name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
                raise DataError(
                    f"the tokenizer of {name} cannot cut the text of row '{row.id}' ({text}): {str(reason).splitlines()[0]}. "
                    "Leave that row out, or use another model."
                ) from None
        raise


def has_label(labels: Any) -> Any:
    """(N,) bool: which rows of `Encoded.labels` (or of a batch of them) are labelled."""
    rows = labels if labels.ndim == 1 else labels[:, 0]
    numbers = rows.dtype.kind == "f" if isinstance(rows, np.ndarray) else rows.is_floating_point()
    return rows == rows if numbers else rows != IGNORE  # NaN differs from itself


def collate(encoded: Encoded, indices: Sequence[int] | np.ndarray) -> Batch:
    """The rows `indices` (B,), in that order, as one packed batch on the CPU."""
    import torch

    chosen = np.asarray(indices, dtype=np.int64)
    lengths = encoded.lengths[chosen]
    # position t of the batch comes from offsets[row] + (t - start of that row in the batch)
    starts = np.cumsum(lengths) - lengths
    flat = np.arange(lengths.sum()) + np.repeat(encoded.offsets[chosen] - starts, lengths)
    labels = None
    if encoded.labels is not None:
        labels = torch.from_numpy(encoded.labels[flat if encoded.per_token else chosen])
    types = None
    if encoded.token_type_ids is not None:
        types = torch.from_numpy(encoded.token_type_ids[flat].astype(np.int64))
    return Batch(
        input_ids=torch.from_numpy(encoded.input_ids[flat].astype(np.int64)),
        token_type_ids=types,
        lengths=torch.from_numpy(lengths),
        sizes=lengths.tolist(),
        labels=labels,
        indices=chosen,
        left_out=None if encoded.left_out is None else encoded.left_out[chosen].tolist(),
        windows=None if encoded.windows is None or encoded.firsts is None
        else [encoded.windows[encoded.firsts[i] : encoded.firsts[i + 1]].tolist() for i in chosen],
        pool=encoded.pool,
    )  # fmt: skip


def _takes_words(tokenizer: Any) -> bool:
    """False for a byte-level tokenizer that does not put a space before the first word."""
    before = tokenizer.backend_tokenizer.pre_tokenizer
    return not (type(before).__name__ == "ByteLevel" and not before.add_prefix_space)


def _flat(rows: list[list[int]], dtype: Any) -> np.ndarray:
    total = sum(map(len, rows))
    return np.fromiter((value for row in rows for value in row), dtype=dtype, count=total)


def _first_subwords(word_index: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(T,) bool: whether a sub-word is the first of its word."""
    first = np.ones(len(word_index), dtype=bool)
    first[1:] = word_index[1:] != word_index[:-1]
    first[offsets[:-1]] = True  # the last word of a row and the first of the next may have the same number
    return first & (word_index >= 0)


def _token_labels(
    examples: Sequence[Example], word_index: np.ndarray | None, offsets: np.ndarray, first: np.ndarray | None
) -> np.ndarray | None:
    if word_index is None or first is None or all(row.label is None for row in examples):
        return None
    labels = np.full(len(word_index), IGNORE, dtype=np.int64)
    for row, start, end in zip(examples, offsets[:-1], offsets[1:], strict=True):
        if row.label is None:
            continue
        tags = np.asarray(row.label, dtype=np.int64)
        here = first[start:end]
        labels[start:end][here] = tags[word_index[start:end][here]]
    return labels


def _targets(examples: Sequence[Example], task: Task) -> np.ndarray | None:
    labels = [row.label for row in examples]
    return None if all(label is None for label in labels) else task.kind.targets(labels, len(task.labels))
