"""What a training step must read off a model, and what it gets: two plain records, torch only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from understudy.losses.chunked import Teaches


@dataclass(frozen=True)
class Needs:
    """What to compute in a forward pass; layers are counted from 1, hidden state 0 is the embeddings.

    Unite needs with `|`: one forward pass then serves all. Nothing asked for costs nothing.
    """

    logits: bool = False
    head: bool = False  # in place of logits over a vocabulary: what the head reads at labelled positions, and the head
    strict: bool = False  # of a teacher's head with another tokenizer: only where both have the same token
    whole: bool = False  # of a teacher's head: what is kept of its most likely ids will not do (a temperature other than 1)
    feature: str | None = None  # head_input | cls | mean: one vector per example (per token for a token head's input)
    hidden: tuple[int, ...] = ()  # hidden states of every token
    cls: tuple[int, ...] = ()  # hidden states of the first token only
    qkv: tuple[int, ...] = ()  # queries, keys and values of a layer

    def __or__(self, other: Needs) -> Needs:
        """Both needs at once. Two different features in one pass are refused with ValueError."""
        if self.feature and other.feature and self.feature != other.feature:
            raise ValueError(
                f"One forward pass gives one feature; '{self.feature}' and '{other.feature}' were asked for."
            )
        return Needs(
            logits=self.logits or other.logits,
            head=self.head or other.head,
            strict=self.strict or other.strict,
            whole=self.whole or other.whole,
            feature=self.feature or other.feature,
            hidden=_union(self.hidden, other.hidden),
            cls=_union(self.cls, other.cls),
            qkv=_union(self.qkv, other.qkv),
        )

    def __bool__(self) -> bool:
        return self != Needs()


@dataclass
class Signals:
    """What a model said about one batch of B examples with T tokens in all, packed without padding.

    Shapes: C outputs, D width, H heads of width d. `sizes` are the B lengths in tokens and sum to T.
    """

    sizes: list[int]
    logits: Tensor | None = None  # (B, C); (T, C) for heads on tokens
    head: Teaches | None = None  # a `Head` over N labelled positions; of a teacher also what is kept of one
    feature: Tensor | None = None  # (B, D); (T, D) for the input of a head on tokens
    hidden: dict[int, Tensor] = field(default_factory=dict)  # layer -> (T, D)
    cls: dict[int, Tensor] = field(default_factory=dict)  # layer -> (B, D)
    qkv: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)  # layer -> three of (T, H, d)

    def map(self, change: Callable[[Tensor], Tensor]) -> Signals:
        """The same signals with every tensor changed."""
        return Signals(
            sizes=self.sizes,
            logits=None if self.logits is None else change(self.logits),
            head=None if self.head is None else self.head.map(change),
            feature=None if self.feature is None else change(self.feature),
            hidden={i: change(value) for i, value in self.hidden.items()},
            cls={i: change(value) for i, value in self.cls.items()},
            qkv={i: (change(q), change(k), change(v)) for i, (q, k, v) in self.qkv.items()},
        )


def _union(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*one, *other}))
