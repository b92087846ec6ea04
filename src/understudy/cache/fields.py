"""The signals by name: `logits`, `feature-cls`, `hidden-3`, `cls-3`, `q-3`, `k-3`, `v-3`; and how they are written.

What a teacher says over a vocabulary is `head`, the input of its head, or `top-16-8`: its 16 most likely ids and 8 that are drawn
from all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from understudy.base.errors import RecipeError
from understudy.kinds import Kind
from understudy.losses.chunked import Head, Sparse
from understudy.models.needs import Needs, Signals

Unit = Literal["example", "token", "asked"]
"""What a field has one row for: the example, each of its tokens, or each token that is asked about."""


def fields_of(needs: Needs, head: str = "head") -> list[str]:
    """The fields that some needs ask for; `head`: the form in which a teacher's vocabulary is kept."""
    names = ["logits"] if needs.logits else []
    names += [head] if needs.head else []
    names += [f"feature-{needs.feature}"] if needs.feature else []
    names += [f"hidden-{i}" for i in needs.hidden] + [f"cls-{i}" for i in needs.cls]
    return names + [f"{part}-{i}" for i in needs.qkv for part in "qkv"]


def needs_of(fields: Sequence[str]) -> Needs:
    """The smallest needs that give these fields."""

    def layers(*names: str) -> tuple[int, ...]:
        return tuple(sorted({int(field.split("-")[1]) for field in fields if field.split("-")[0] in names}))

    feature = next((field.split("-", 1)[1] for field in fields if field.startswith("feature-")), None)
    head = any(field == "head" or field.startswith("top-") for field in fields)
    return Needs(
        logits="logits" in fields,
        head=head,
        feature=feature, hidden=layers("hidden"), cls=layers("cls"), qkv=layers("q", "k", "v")
    )


def unit_of(field: str, kind: Kind) -> Unit:
    """What a field of a model of this kind has one row for."""
    name = field.split("-")[0]
    if name in ("hidden", "q", "k", "v"):
        return "token"
    asks = name in ("head", "top") or (name == "logits" and kind.per_token) or (field == "feature-head_input" and kind.by_word)
    return "asked" if asks else "example"


def value_of(signals: Signals, field: str) -> Tensor:
    """One field of some signals: (rows, C), (rows, D), or (rows, H, d) for queries, keys and values."""
    name, _, rest = field.partition("-")
    if name in ("logits", "feature"):
        return getattr(signals, name)
    if name == "head":
        assert isinstance(signals.head, Head)
        return signals.head.hidden
    if name in ("hidden", "cls"):
        return getattr(signals, name)[int(rest)]
    return signals.qkv[int(rest)]["qkv".index(name)]


def signals_from(sizes: list[int], values: Mapping[str, Tensor]) -> Signals:
    """Signals of sequences of these sizes, put together from fields: the reverse of `value_of`."""
    signals = Signals(sizes=sizes)
    for field, value in values.items():
        name, _, rest = field.partition("-")
        if name in ("logits", "feature"):
            setattr(signals, name, value)
        elif name in ("hidden", "cls"):
            getattr(signals, name)[int(rest)] = value
        elif name == "q":
            signals.qkv[int(rest)] = (value, values[f"k-{rest}"], values[f"v-{rest}"])
    return signals


class Codec(Protocol):
    """How the rows of a field are written: as one or several arrays of as many rows."""

    name: str
    """Part of the store's key."""

    def encode(self, field: str, values: Tensor) -> dict[str, np.ndarray]:
        """(R, …) -> name of an array -> (R, …)."""
        ...

    def decode(self, arrays: Mapping[str, np.ndarray]) -> Tensor:
        """The reverse for any rows of these arrays, in fp32."""
        ...

    def bytes_per_row(self, width: int) -> int:
        """Of all arrays together, for rows of `width` numbers."""
        ...


class Dense:
    """Every number, in fp32, or in fp16 for half the space: off by at most one part in 2048 (numbers below 6e-5: by 3e-8)."""

    def __init__(self, dtype: str) -> None:
        self.name, self.dtype = dtype, np.dtype({"fp32": "<f4", "fp16": "<f2"}[dtype])

    def encode(self, field: str, values: Tensor) -> dict[str, np.ndarray]:
        """One array. Raises RecipeError if the numbers are too large for fp16."""
        array = values.numpy()
        largest = np.finfo(self.dtype).max
        if self.dtype.itemsize < 4 and bool((np.isfinite(array) & (np.abs(array) > largest)).any()):
            raise RecipeError(
                f"cache.dtype: the teacher's {field} holds numbers beyond {largest:,.0f}, which fp16 cannot; use fp32."
            )
        return {"": np.ascontiguousarray(array.astype(self.dtype))}

    def decode(self, arrays: Mapping[str, np.ndarray]) -> Tensor:
        return torch.from_numpy(arrays[""].astype(np.float32, copy=False))

    def bytes_per_row(self, width: int) -> int:
        return width * self.dtype.itemsize


class Top:
    """A record of the most likely ids: ids as numbers of as many bits as the vocabulary takes, their log-probabilities in fp16,
    and in fp32 the log of the mass on all others, the entropy, and the log-probability of the label."""

    def __init__(self, field: str, vocabulary: int) -> None:
        top, self.draws = map(int, field.split("-")[1:])
        self.top = min(top, vocabulary)
        self.draws = self.draws if self.top < vocabulary else 0
        self.bits = max(1, (vocabulary - 1).bit_length())

    def encode(self, record: Sparse) -> dict[str, np.ndarray]:
        """Three arrays of N rows."""
        ids = record.ids if record.draws is None else torch.cat([record.ids, record.draws], 1)
        bits = (ids.numpy()[:, :, None] >> np.arange(self.bits)).astype(np.uint8) & 1
        facts = torch.stack([record.rest, record.entropy, record.label_log_p], 1)
        return {
            "ids": np.packbits(bits.reshape(len(ids), -1), axis=1, bitorder="little"),
            "log_p": np.ascontiguousarray(record.log_p.numpy().astype("<f2")),
            "facts": np.ascontiguousarray(facts.numpy().astype("<f4")),
        }

    def decode(self, arrays: Mapping[str, np.ndarray]) -> Sparse:
        """The reverse for any rows. fp16 moved the stored probabilities a little: they are scaled to the mass that they have."""
        number = self.top + self.draws
        bits = np.unpackbits(arrays["ids"], axis=1, bitorder="little", count=number * self.bits)
        ids = torch.from_numpy((bits.reshape(-1, number, self.bits) << np.arange(self.bits, dtype=np.int64)).sum(-1))
        rest, entropy, label = torch.from_numpy(arrays["facts"].astype(np.float32, copy=False)).unbind(1)
        log_p = torch.from_numpy(arrays["log_p"].astype(np.float32))
        inside = (-rest.exp()).log1p() - log_p.logsumexp(1)
        draws = ids[:, self.top :] if self.draws else None
        return Sparse(ids[:, : self.top], log_p + inside[:, None], rest, entropy, label, draws)

    @property
    def bytes_per_row(self) -> int:
        return -(-(self.top + self.draws) * self.bits // 8) + 2 * self.top + 12
