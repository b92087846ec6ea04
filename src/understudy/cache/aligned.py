"""A teacher with another tokenizer: which of its positions speak about which of the student's, by the bytes of the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from understudy.base.errors import DataError
from understudy.cache.signals import Teacher
from understudy.data.encode import IGNORE, Encoded
from understudy.data.surface import first_token, token_bytes
from understudy.losses.aligned import Aligned, Vocabularies, mass_of
from understudy.losses.chunked import Head, Sparse
from understudy.models.needs import Signals

_WHITE = b" \t"


def same_vocabulary(one: Any, other: Any) -> bool:
    """Whether the same ids stand for the same tokens; a head may have more rows than that."""
    return one.get_vocab() == other.get_vocab()


class Cut:
    """A teacher with the student's tokenizer whose head is padded to another size: both are read up to the last real id."""

    def __init__(self, teacher: Teacher, real: int) -> None:
        self.teacher, self.real = teacher, real

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        said = self.teacher.signals(indices)
        if isinstance(said.head, Head):
            said.head = said.head.first(self.real)
        return said


def between_vocabularies(teacher: Any, student: Any) -> Vocabularies:
    """phi between two tokenizers; the end of a text means the same to both."""
    ends = teacher.eos_token_id, student.eos_token_id
    same = {} if None in ends else {ends[0]: ends[1]}
    return Vocabularies(token_bytes(teacher), token_bytes(student), same, first_token(student))


class _Positions(NamedTuple):
    """The labelled positions of one example, by its windows: P positions."""

    start: np.ndarray  # (P,) where the label begins among the bytes of the text
    end: np.ndarray
    label: np.ndarray
    row: np.ndarray  # of the encoding
    asked: np.ndarray  # place among the labelled positions of that row
    text: bytes


class _Plan(NamedTuple):
    """What the teacher says about one position of the student."""

    label: int
    at: tuple[int, int] | None = None
    """The teacher's row and the place among its labelled positions; None where it has nothing to say."""
    token: int = 0
    """The teacher's token that follows there."""
    written: bytes = b""
    """How much of that token stands before the position."""
    after: tuple[tuple[tuple[int, int], Sequence[int]], ...] = ()
    """Where the label reaches beyond the token: positions of the teacher, and the tokens that go on like the label."""
    same: bool = False
    """Whether both have the same token here."""


class AlignedTeacher:
    """The teacher's word in the student's tokens (`losses.aligned`).

    Args:
        teacher: says what it thinks of its own rows, `theirs`.
        ours, theirs: both encodings of the same examples, to learn from: windows without overlap.
        vocabularies: of both.
        strict: only where both have the same token.

    Raises:
        DataError: more than half of the examples are other bytes to the one tokenizer than to the other.
    """

    def __init__(self, teacher: Teacher, ours: Encoded, theirs: Encoded, vocabularies: Vocabularies, *, strict: bool) -> None:
        self.teacher, self.vocabularies, self.strict = teacher, vocabularies, strict
        mine, said = (
            _positions(encoded, pieces)
            for encoded, pieces in ((ours, vocabularies.student), (theirs, vocabularies.teacher))
        )
        self.plans: list[list[_Plan]] = [[] for _ in range(len(ours))]
        """row of `ours` -> what to do at each of its labelled positions."""
        self.differ, self.asked = 0, _asked(theirs)
        for example, student in mine.items():
            other = said.get(example)
            plans = None if other is None else _plans(student, other, vocabularies, strict)
            if plans is None:
                self.differ += 1
                plans = [_Plan(label) for label in student.label.tolist()]
            for row, plan in zip(student.row.tolist(), plans, strict=True):
                self.plans[row].append(plan)
        if self.differ * 2 > len(mine):
            raise DataError(
                f"{self.differ} of {len(mine)} texts are other bytes to the student's tokenizer than to the teacher's: one of "
                "them changes or drops characters. Teach without `soft`, by the text alone."
            )

    @property
    def coverage(self) -> tuple[float, float, float]:
        """Shares of the student's labelled positions: where the teacher has a word, begins a token, and has the same token."""
        plans = [plan for row in self.plans for plan in row]
        number = max(1, len(plans))
        said = [plan for plan in plans if plan.at is not None]
        return len(said) / number, sum(not plan.written for plan in said) / number, sum(plan.same for plan in said) / number

    def in_words(self) -> str:
        """How the tokenizers meet, before training."""
        covered, begun, same = self.coverage
        how = "where both have the same token" if self.strict else "by the token with which the student begins each of its own"
        rest = "" if self.strict else (
            f" {self.residual(range(min(8, len(self.plans)))):.1%} of its mass there falls on no token of the student."
        )  # fmt: skip
        other = f" {self.differ} texts are other bytes to it." if self.differ else ""
        return (
            f"The teacher has another tokenizer and is read {how}: it speaks about {covered:.1%} of the student's tokens, "
            f"{begun:.1%} begin where one of its own begins, {same:.1%} are the same.{rest}{other}"
        )

    def residual(self, rows: Sequence[int] | np.ndarray) -> float:
        """The mean of the teacher's mass, at the positions of these rows, that falls on no token of the student."""
        said = self.signals(rows).head
        assert isinstance(said, Aligned)
        places = (said.at >= 0).nonzero().squeeze(1)
        return float(said.classes(places, len(self.vocabularies.student), torch.float32)[:, -1].mean()) if len(places) else 1.0

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        plans = [plan for row in indices for plan in self.plans[row]]
        rows = sorted({at[0] for plan in plans for at in ([plan.at] if plan.at else []) + [one for one, _ in plan.after]})
        said = self.teacher.signals(np.asarray(rows, np.int64)) if rows else None
        head = None if said is None else said.head
        if head is None:  # nothing of these rows is aligned: any row gives the shapes
            head = self.teacher.signals(np.asarray([0])).head
        assert isinstance(head, Head | Sparse)
        sizes = self.asked[rows]
        place = dict(zip(rows, (np.cumsum(sizes) - sizes).tolist(), strict=True))
        written = sorted({plan.written for plan in plans} | {b""})
        number = {text: i for i, text in enumerate(written)}
        device = (head.hidden if isinstance(head, Head) else head.ids).device

        def column(values: list, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        steps = [(place[at[0]] + at[1], ids) for plan in plans for at, ids in plan.after]
        at = column([at for at, _ in steps])
        masses = mass_of(head, at, [ids for _, ids in steps], len(self.vocabularies.teacher)).tolist()
        beyond, taken = [], 0
        for plan in plans:
            beyond.append(sum(masses[taken : taken + len(plan.after)]) if plan.after else float("nan"))
            taken += len(plan.after)
        aligned = Aligned(
            head, self.vocabularies, self.strict, written,
            group=column([number[plan.written] for plan in plans]),
            at=column([-1 if plan.at is None else place[plan.at[0]] + plan.at[1] for plan in plans]),
            token=column([plan.token for plan in plans]),
            label=column([plan.label for plan in plans]),
            beyond=column(beyond, torch.float32),
        )  # fmt: skip
        return Signals(sizes=[], head=aligned)


def _asked(encoded: Encoded) -> np.ndarray:
    """(N,) labelled positions of each row."""
    assert encoded.labels is not None
    before = np.concatenate([[0], np.cumsum(encoded.labels != IGNORE)])
    return before[encoded.offsets[1:]] - before[encoded.offsets[:-1]]


def _positions(encoded: Encoded, pieces: Sequence[bytes | None]) -> dict[int, _Positions]:
    """example -> its labelled positions. The windows of an example follow each other."""
    assert encoded.labels is not None and encoded.source is not None
    lengths = np.array([len(piece or b"") for piece in pieces], np.int64)
    found = {}
    rows_of: dict[int, list[int]] = {}
    for row, example in enumerate(encoded.source.tolist()):
        rows_of.setdefault(example, []).append(row)
    for example, rows in rows_of.items():
        text: list[bytes] = []
        size, parts = 0, []
        for place, row in enumerate(rows):
            span = slice(encoded.offsets[row], encoded.offsets[row + 1])
            ids, labels = encoded.input_ids[span], encoded.labels[span]
            text += [pieces[token] or b"" for token in ids]
            ends = size + np.cumsum(lengths[ids])
            asked = labels != IGNORE
            starts = ends[asked]
            number = len(starts)
            parts.append((starts, starts + lengths[labels[asked]], labels[asked], np.full(number, row), np.arange(number)))
            size = int(ends[-1])
            after = encoded.input_ids[encoded.offsets[rows[place + 1]]] if place + 1 < len(rows) else None
            if labels[-1] != IGNORE and labels[-1] != after:  # the end of a passage: read as a label alone
                text.append(pieces[labels[-1]] or b"")
                size += int(lengths[labels[-1]])
        starts, ends, ids, row_of, place_of = (np.concatenate(column) for column in zip(*parts, strict=True))
        found[example] = _Positions(starts, ends, ids, row_of, place_of, b"".join(text))
    return found


def _plans(ours: _Positions, theirs: _Positions, vocabularies: Vocabularies, strict: bool) -> list[_Plan] | None:
    """What the teacher says at each position of one example; None where the tokenizers read other bytes."""
    begins = 0
    if ours.text != theirs.text:  # SentencePiece puts a space before a text
        if ours.text == b" " + theirs.text:
            ours = ours._replace(start=ours.start - 1, end=ours.end - 1, text=theirs.text)
        elif theirs.text == b" " + ours.text:
            theirs = theirs._replace(start=theirs.start - 1, end=theirs.end - 1, text=ours.text)
        else:
            return None
        begins = 1  # the first token of one has a byte that the other's has not
    text, number = ours.text, len(theirs.label)
    starts, ends = theirs.start.tolist(), theirs.end.tolist()
    ids, places = theirs.label.tolist(), list(zip(theirs.row.tolist(), theirs.asked.tolist(), strict=True))
    specials = {start: j for j, (start, end) in enumerate(zip(starts, ends, strict=True)) if start == end}
    plans = []
    for start, end, label in zip(ours.start.tolist(), ours.end.tolist(), ours.label.tolist(), strict=True):
        plan = _Plan(label)
        if start == end:
            j = specials.get(start)
            if j is not None and vocabularies.same.get(ids[j]) == label:
                plan = _Plan(label, places[j], ids[j], same=True)
        elif start >= begins and not (end - start > 1 and not text[start:end].strip(_WHITE)):
            # Runs of blanks are left out: tokenizers split them in too many ways (the paper's 2607.22334 code results).
            j = bisect_right(starts, start) - 1
            while j >= 0 and ends[j] == starts[j]:
                j -= 1
            if j >= 0 and starts[j] <= start < ends[j] and starts[j] >= begins:
                same = (starts[j], ends[j]) == (start, end)
                after, k, complete = [], j + 1, True
                while complete and ends[k - 1] < end:
                    complete = k < number and starts[k] == ends[k - 1] and ends[k] > starts[k]
                    if complete:
                        on = [ids[k]] if ends[k] <= end else vocabularies.continuing(text[starts[k] : end])
                        after.append((places[k], on))
                        k += 1
                if complete and (same or not strict):
                    plan = _Plan(label, places[j], ids[j], text[starts[j] : start], tuple(after), same)
        plans.append(plan)
    return plans
