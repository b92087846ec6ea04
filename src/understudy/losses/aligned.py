"""What a teacher with another tokenizer says about a student's next token.

Where both encodings of a text have a token end at the same byte, the teacher's distribution over its own tokens tau is one over
the student's tokens u:

    p(u) = sum of p(tau) over the tau with phi(tau) = u,     phi(tau) = the student's first token when it writes tau

The mass of a tau that the student cannot begin, and of what a record of the teacher does not hold, is one more class, the rest;
on the student's side it is the mass of all tokens without a p(u). Any divergence is taken over these classes.

Inside a teacher's token, after some of its bytes, the same holds for the tokens that continue these bytes, renormalised. A token
of the student that reaches beyond the teacher's first one has the product of the probabilities of all tokens that it consists of,
taken out of the class of the first one. With equal vocabularies all of this is the plain divergence.

Source: byte-prefix marginals of arXiv 2607.22334, where phi is the longest student token that tau begins with. Deviates: BPE does
not begin with the longest token, so its own first one is taken. `strict` keeps positions where both have the same token, over the
ids in common.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from understudy.losses.chunked import Head, Sparse, log_softmax_
from understudy.losses.divergences import Divergence

LEAST_REST = 1e-9
NOTHING, ELSEWHERE = -1, -2
"""In phi: no student token begins this teacher token; this teacher token does not continue what is written."""


class Vocabularies:
    """phi between two vocabularies.

    Args:
        teacher, student: id -> its bytes; None for special tokens, which stand for no text.
        same: special ids of the teacher -> of the student that mean the same, such as the end of a text.
        write: bytes -> the token that the student begins them with, None if it cannot tell; by default the longest that fits.

    >>> Vocabularies([b"the", b"then", b"x"], [b"th", b"the", b"n"], {}).phi(b"").tolist()
    [1, 1, -1]
    >>> Vocabularies([b"the", b"then", b"x"], [b"th", b"the", b"n", b"e"], {}).phi(b"th").tolist()
    [3, 3, -2]
    """

    def __init__(
        self,
        teacher: Sequence[bytes | None],
        student: Sequence[bytes | None],
        same: Mapping[int, int],
        write: Callable[[bytes], int | None] = lambda text: None,
    ) -> None:
        self.teacher, self.student, self.same, self.write = teacher, student, dict(same), write
        self._ids: dict[bytes, int] = {}
        for number, piece in enumerate(student):
            if piece:
                self._ids.setdefault(piece, number)
        self._longest = max(map(len, self._ids), default=0)
        self._sorted = sorted((piece, number) for number, piece in enumerate(teacher) if piece)
        self.phi = lru_cache(maxsize=512)(self._phi)

    def student_token(self, text: bytes) -> int:
        """The token that the student begins a text with, or NOTHING."""
        written = self.write(text)
        if written is not None and text.startswith(self.student[written] or b"\0"):
            return written
        for length in range(min(len(text), self._longest), 0, -1):
            if (found := self._ids.get(text[:length])) is not None:
                return found
        return NOTHING

    def continuing(self, written: bytes) -> list[int]:
        """Teacher tokens that begin with these bytes, the bytes themselves included."""
        found = []
        for piece, number in self._sorted[bisect_left(self._sorted, (written, -1)) :]:
            if not piece.startswith(written):
                break
            found.append(number)
        return found

    def _phi(self, written: bytes) -> Tensor:
        """(V_t,) the student's token for each teacher token of which `written` is there already."""
        phi = torch.full((len(self.teacher),), ELSEWHERE if written else NOTHING)
        for number in self.continuing(written):
            rest = (self.teacher[number] or b"")[len(written) :]
            if rest:
                phi[number] = self.student_token(rest)
        if not written:
            for theirs, ours in self.same.items():
                phi[theirs] = ours
        return phi

    @property
    def common(self) -> tuple[Tensor, Tensor]:
        """(teacher's ids, student's ids) of the tokens that both have."""
        pairs = [(number, self._ids[piece]) for number, piece in enumerate(self.teacher) if piece in self._ids]
        pairs += list(self.same.items())
        return torch.tensor([t for t, _ in pairs]), torch.tensor([s for _, s in pairs])


@dataclass(frozen=True)
class Aligned:
    """A teacher's word about N positions of a student with another tokenizer.

    Shapes: N positions of the student, M of the teacher that are needed for them.
    """

    teacher: Head | Sparse  # over M positions
    vocabularies: Vocabularies
    strict: bool
    written: Sequence[bytes]
    """What of a teacher's token may be written already: the groups."""
    group: Tensor  # (N,) the entry of `written` that holds at a position
    at: Tensor  # (N,) the teacher's position, -1 where it has nothing to say
    token: Tensor  # (N,) the teacher's token that follows there
    label: Tensor  # (N,) the student's token that follows
    beyond: Tensor  # (N,) log-probability of the rest of the label beyond that token; NaN where it reaches no further

    def map(self, change: Callable[[Tensor], Tensor]) -> Aligned:
        """The same with the tensors of N rows changed; the teacher's own positions are found by `at` and only moved."""
        columns = {name: change(getattr(self, name)) for name in ("group", "at", "token", "label", "beyond")}
        device = columns["at"].device
        return replace(self, teacher=self.teacher.map(lambda x: x.to(device)), **columns)

    def compare(self, rows: slice, log_q: Tensor, divergence: Divergence, temperature: float) -> tuple[Tensor, Tensor]:
        """As a teacher (see `chunked.Teaches`): 0 where it has nothing to say."""
        if temperature != 1.0:
            raise ValueError(
                "A teacher with another tokenizer teaches at temperature 1: its classes are sums of its tokens."
            )
        loss, gradient = log_q.new_zeros(len(log_q)), torch.zeros_like(log_q)
        known = (self.at[rows] >= 0).nonzero().squeeze(1)
        if len(known):
            compare = self._strict if self.strict else self._prefix
            loss[known], gradient[known] = compare(known + (rows.start or 0), log_q[known], divergence)
        return loss, gradient

    def _strict(self, places: Tensor, log_q: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
        theirs, ours = (ids.to(log_q.device) for ids in self.vocabularies.common)
        p, _ = _probabilities(self.teacher, self.at[places], len(self.vocabularies.teacher), log_q.dtype)
        loss, parts = divergence(log_softmax_(log_q[:, ours], 1.0), log_softmax_(p[:, theirs].log(), 1.0))
        return loss, torch.zeros_like(log_q).index_copy_(1, ours, parts)

    def _prefix(self, places: Tensor, log_q: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
        classes = self.classes(places, log_q.shape[1], log_q.dtype)
        there = classes[:, :-1] > 0
        others = log_q.masked_fill(there, -torch.inf).logsumexp(-1, keepdim=True)
        rest = torch.where(others > -torch.inf, classes[:, -1:].clamp_min(LEAST_REST), 0.0)
        q = torch.cat([log_q.masked_fill(~there, -torch.inf), others], 1)
        loss, gradient = divergence(q, torch.cat([classes[:, :-1], rest], 1).log_())
        spread = (log_q - others).exp_().mul_(gradient[:, -1:])
        return loss, torch.where(there, gradient[:, :-1], spread)

    def classes(self, places: Tensor, vocabulary: int, dtype: torch.dtype) -> Tensor:
        """(n, V_s + 1) the teacher's mass on the student's tokens and on the rest; each row sums to 1."""
        p, rest = _probabilities(self.teacher, self.at[places], len(self.vocabularies.teacher), dtype)
        classes = p.new_zeros(len(p), vocabulary + 1)
        group = self.group[places]
        for number in group.unique().tolist():
            here = (group == number).nonzero().squeeze(1)
            phi = self.vocabularies.phi(self.written[number]).to(p.device)
            continues = phi != ELSEWHERE
            mass = p[here].mul_(continues)
            left = rest[here] if not self.written[number] else torch.zeros_like(rest[here])
            whole = (mass.sum(1) + left).clamp_min(torch.finfo(dtype).tiny)
            mass.div_(whole[:, None])
            part = p.new_zeros(len(here), vocabulary + 1).index_add_(1, phi.masked_fill(phi < 0, vocabulary), mass)
            part[:, -1] += left / whole
            self._across(part, mass, phi, places[here], vocabulary)
            classes[here] = part
        return classes

    def _across(self, classes: Tensor, mass: Tensor, phi: Tensor, places: Tensor, vocabulary: int) -> None:
        """Labels that reach beyond the teacher's first token get their own class, out of that token's."""
        beyond = self.beyond[places]
        across = (~beyond.isnan()).nonzero().squeeze(1)
        if not len(across):
            return
        tokens = self.token[places][across, None]
        product = mass[across].gather(1, tokens) * beyond[across, None].exp().to(mass.dtype)
        first = phi[tokens.squeeze(1)]
        classes[across] = (
            classes[across]
            .scatter_add(1, first.masked_fill(first < 0, vocabulary)[:, None], -product)
            .scatter_add(1, self.label[places][across, None], product)
            .clamp_min_(0.0)
        )


def _probabilities(teacher: Head | Sparse, at: Tensor, vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(n, V_t) probabilities at some of the teacher's positions, and (n,) the mass on what is not known of them."""
    here = teacher.map(lambda x: x[at])
    if isinstance(here, Head):
        z = here.logits()[:, :vocabulary].to(dtype)  # without the rows that pad the head
        return log_softmax_(z, 1.0).exp_(), z.new_zeros(len(at))
    p = here.log_p.new_zeros(len(at), vocabulary).scatter_(1, here.ids, here.log_p.exp())
    return p.to(dtype), here.rest.exp().to(dtype)


def mass_of(teacher: Head | Sparse, at: Tensor, ids: Sequence[Sequence[int]], vocabulary: int) -> Tensor:
    """(n,) log of the teacher's mass on a set of its tokens at each of some positions."""
    found = []
    for start in range(0, len(at), 256):
        here = at[start : start + 256]
        p, _ = _probabilities(teacher, here, vocabulary, torch.float32)
        for place, (row, which) in enumerate(zip(p, ids[start : start + 256], strict=True)):
            if isinstance(teacher, Sparse) and len(which) == 1:  # the token that follows, which every record knows
                found.append(teacher.label_log_p[here[place]].exp())
            else:
                found.append(row[list(which)].sum())
    return torch.stack(found).clamp_min(torch.finfo(torch.float32).tiny).log() if found else torch.zeros(0)
