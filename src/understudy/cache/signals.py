"""The live teacher, the pass that fills a store with what it says, and the teacher that reads it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from understudy.base import disk, seeds
from understudy.base.circumstances import circumstances, other_circumstances
from understudy.base.errors import ResourceError, VerifyError
from understudy.base.progress import duration, progress, say
from understudy.cache.fields import Dense, Top, fields_of, needs_of, signals_from, unit_of, value_of
from understudy.cache.store import KEYS, Store
from understudy.data.encode import IGNORE, Encoded, collate
from understudy.kinds import Kind
from understudy.losses.chunked import Head, Sparse
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.needs import Needs, Signals
from understudy.models.signals import forward, vocabulary_head

FORMAT = 5
PART = 512
"""Examples that are committed together: what a killed process loses, and what several processes divide."""
TOKENS = {"cpu": 256}
MORE_TOKENS = 4096
"""About so many tokens are computed at once, on a CPU and elsewhere. Few, because every length has batches of its own, and
the last one of each is filled up: with 512 on a CPU a pass over 320 rows of MRPC computes 1.6 times what was asked for, with
256 1.2 times, and matrix products of 200 rows are within a tenth as quick as those of 800."""
_WAIT = 0.2
"""Seconds between two looks at what other processes are computing."""
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Teacher(Protocol):
    """Whatever can say what the teacher thinks of some examples."""

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals: ...


class StopRequest(Protocol):
    """The process's signal handler, as far as this file knows it."""

    received: int | None

    def interruption(self, saved: str) -> Exception: ...


def content_digest(encoded: Encoded) -> str:
    """What models and losses see of encoded examples, in order: tokens, types and labels."""
    seen = hashlib.blake2b(digest_size=16)
    for name in ("input_ids", "offsets", "token_type_ids", "labels", "word_index", "num_words", "lists", "left_out", "windows"):
        array = getattr(encoded, name)
        if array is not None:
            seen.update(f"{name}{array.dtype}{array.shape}".encode())
            seen.update(np.ascontiguousarray(array).tobytes())
    seen.update(encoded.pool.encode())
    return seen.hexdigest()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The arithmetic of a forward pass: half precision where asked for, fp32 otherwise."""
    dtype = _PRECISIONS[precision]
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "fp32" else dtype, enabled=precision != "fp32")


@dataclass
class LiveTeacher:
    """Runs the teacher whenever it is asked: nothing on disk, the same signals."""

    model: Model
    encoded: Encoded
    needs: Needs
    precision: str
    count: Callable[[int], None]
    """Told on how many examples the teacher was run."""

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        """What the teacher says about these rows of `encoded`, in fp32, on the teacher's device."""
        net = self.model.net.eval()
        device = next(net.parameters()).device
        batch = collate(self.encoded, indices).to(device)
        self.count(len(indices))
        with torch.inference_mode(), autocast(device, self.precision):
            said = forward(net, batch, self.needs, kind=self.model.kind)
        signals = said.map(lambda value: value.float().clone())  # a tensor of inference mode could not be learnt from
        if self.model.kind.by_word:
            # Words are what two tokenizers have in common: a token head speaks about the first sub-word of each.
            assert batch.labels is not None
            asked = batch.labels != IGNORE
            if signals.logits is not None:
                signals.logits = signals.logits[asked]
            if signals.feature is not None and self.needs.feature == "head_input":
                signals.feature = signals.feature[asked]
        return signals


class SignalCache:
    """The stored signals of one teacher about some examples.

    Args:
        root: where stores live; shared by all runs.
        model: the teacher. Never changed, never trained.
        encoded: the examples in the teacher's own tokens.
        precision: fp32, bf16 or fp16: the arithmetic of the teacher's forward.
        dtype: what numbers are on disk, fp32 or fp16 (`fields.Dense`). In memory and in losses they are fp32 again.
        head: how a vocabulary is kept (`fields`).
    """

    def __init__(
        self, root: Path, *, model: Model, digest: str, encoded: Encoded, precision: str, dtype: str = "fp32", head: str = "head"
    ) -> None:
        self.head = head
        self.model, self.encoded, self.precision, self.codec = model, encoded, precision, Dense(dtype)
        device = next(model.net.parameters()).device.type
        self.tokens = TOKENS.get(device, MORE_TOKENS)
        self.about = {
            "format": FORMAT,
            "teacher": digest,
            "precision": precision,
            "dtype": self.codec.name,
            "tokens": self.tokens,
            "device": device,
        }
        self.key = hashlib.blake2b(json.dumps(self.about, sort_keys=True).encode(), digest_size=16).hexdigest()
        self.store = Store(root / self.key)

    @property
    def folder(self) -> Path:
        return self.store.folder

    # -- the examples --------------------------------------------------------------------------------------------------

    @cached_property
    def keys(self) -> np.ndarray:
        """(N,) what names each example: all that a teacher reads, and the tokens it is asked about. Not its label."""
        names = [self.encoded.key(i) for i in range(len(self.encoded))]
        if self.model.kind.per_token:
            marks, at = self._asked.astype(np.uint8), self.encoded.offsets
            if self.model.kind.causal:  # what is kept of the most likely ids tells the label's probability too
                assert self.encoded.labels is not None
                marks = self.encoded.labels.astype("<i4")
            names = [
                hashlib.blake2b(name + marks[at[i] : at[i + 1]].tobytes(), digest_size=16).digest()
                for i, name in enumerate(names)
            ]
        return np.frombuffer(b"".join(names), KEYS)

    @property
    def _asked(self) -> np.ndarray:
        """(T,) bool: the tokens that a teacher of a kind per token is asked about."""
        assert self.encoded.labels is not None
        return self.encoded.labels != IGNORE

    @cached_property
    def sizes(self) -> dict[str, np.ndarray]:
        """unit -> (N,) rows that a field of that unit has for each example."""
        lengths = np.asarray(self.encoded.lengths, np.int64)
        found = {"example": np.ones_like(lengths), "token": lengths}
        if self.model.kind.per_token:
            before = np.concatenate([[0], np.cumsum(self._asked)])
            found["asked"] = before[self.encoded.offsets[1:]] - before[self.encoded.offsets[:-1]]
        return found

    def rows(self, field: str) -> np.ndarray:
        """(N,) rows of a field for each example."""
        return self.sizes[unit_of(field, self.model.kind)]

    @cached_property
    def plan(self) -> list[np.ndarray]:
        """Each example once, the longest first, in the parts that are computed and committed: their places in `encoded`."""
        _, first = np.unique(self.keys, return_index=True)  # in the order of their keys
        order = first[np.argsort(-self.sizes["token"][first], kind="stable")]
        return [order[start : start + PART] for start in range(0, len(order), PART)]

    def batches(self, examples: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """What is computed at once: some examples of one length, the last batch of a length filled up by repetition; and how
        many of them are no repetition. Their number depends on their length alone (see the docstring of the package)."""
        lengths = self.sizes["token"][examples]
        found = []
        for length in sorted(set(lengths.tolist()), reverse=True):
            alike = examples[lengths == length]
            # A power of two: threads that share out an odd number of rows round those at their borders otherwise.
            number = 1 << max(0, (self.tokens // max(1, length)).bit_length() - 1)
            parts = [alike[start : start + number] for start in range(0, len(alike), number)]
            found += [(np.resize(part, number), len(part)) for part in parts]
        return found

    def bytes_needed(self, needs: Needs) -> int:
        """Disk space of everything `needs` asks for, whatever of it is there already."""
        row, net = anatomy(self.model.net), self.model.net
        vector = {"logits": net.head.width, "feature-head_input": net.head.width} if self.model.kind.pooled else {}
        widths = vector or {"logits": row.final_linear(net).out_features if needs.logits else 0}
        layers = row.layers(net)
        widths |= {f"{part}-{i}": row.out(layers[i - 1]).in_features for i in needs.qkv for part in "qkv"}
        examples = np.concatenate(self.plan) if self.plan else np.empty(0, np.int64)

        def per_row(field: str) -> int:
            return top.bytes_per_row if (top := self.top(field)) else self.codec.bytes_per_row(widths.get(field, row.width(net)))

        return sum(int(self.rows(field)[examples].sum()) * per_row(field) for field in fields_of(needs, self.head))

    def in_words(self, needs: Needs, size: int) -> str:
        """What is kept of the teacher's vocabulary, how much that is, and how long it takes, before anything is written."""
        positions = int(self.sizes["asked"].sum())
        kept = "the input of its head"
        if top := self.top(self.head):
            tail = f"and {top.draws} drawn from the others" if top.draws else "the others as one class"
            kept = f"its {top.top} most likely ids, {tail}"
        middle = np.argsort(self.sizes["token"], kind="stable")[len(self.encoded) // 2 : len(self.encoded) // 2 + 1]
        batch, _ = self.batches(middle)[0]
        live, began = LiveTeacher(self.model, self.encoded, needs, self.precision, lambda _: None), time.perf_counter()
        live.signals(batch)
        per_token = (time.perf_counter() - began) / max(1, int(self.sizes["token"][batch].sum()))
        return (
            f"The teacher's outputs at {positions:,} positions: {kept}, {size / max(1, positions):,.0f} bytes "
            f"each, {size / 1e6:,.1f} MB in all; about {duration(per_token * int(self.sizes['token'].sum()))} where nothing is "
            "stored yet."
        )

    def top(self, field: str) -> Top | None:
        """How a field is written that holds the most likely ids; None for any other field."""
        return Top(field, vocabulary_head(self.model.net).weight.shape[0]) if field.startswith("top-") else None

    # -- filling the store ---------------------------------------------------------------------------------------------

    def fill(self, needs: Needs, count: Callable[[int], None], stop: StopRequest | None = None) -> None:
        """Compute what is missing, together with every other process that does so. Interrupted at any moment, or by any of
        them, it continues with the parts that nobody has finished.

        Args:
            count: told on how many examples this process ran the teacher.
            stop: asked between two parts whether a signal wants the process to end.
        """
        self._note_circumstances()
        missing = _Missing(self, fields_of(needs, self.head))
        store = self.store
        store.new_parts()
        missing.found(list(store.parts.values()))
        missing.check()
        total = missing.examples()
        if not total:
            return
        with progress(total, "teacher outputs") as bar:
            while missing.examples():
                with ExitStack() as claimed:
                    with store.locked():
                        # Claims first: who finishes between the two looks is seen in the second.
                        others = store.claims()
                        missing.found(store.new_parts())
                        examples, fields = missing.free(others)
                        if len(examples):
                            claimed.enter_context(store.claim(self.keys[examples], fields))
                    bar.advance(total - missing.examples() - bar.done)
                    if len(examples):
                        self._compute(examples, fields, count)
                    elif missing.examples():
                        time.sleep(_WAIT)
                if stop is not None and stop.received is not None:
                    raise stop.interruption("the teacher's outputs so far are saved.")

    def _note_circumstances(self) -> None:
        """Beside the store: what it is, and with what it was begun; not part of its key, but said when it differs."""
        path = self.folder / "about.json"
        with suppress(OSError):  # it is there for the first time, or may be read only
            os.utime(path)  # when it was last asked for: `understudy clean` keeps what is used
        try:
            made_with = disk.read_json(path).get("made_with")
        except (FileNotFoundError, VerifyError):
            disk.write_json(path, {**self.about, "made_with": circumstances()})
            return
        if differs := other_circumstances(made_with):
            say(f"teacher outputs: stored by another run with {differs}. Made here they could differ in the last bits.")

    def _compute(self, examples: np.ndarray, fields: list[str], count: Callable[[int], None]) -> None:
        """Some fields of some examples, as a part of the store."""
        needs = needs_of(fields)
        if needs.logits or needs.head or needs.feature:
            # The last layer as a whole, even if first tokens would do: the shortcut rounds differently, and what is
            # stored must not depend on what else was asked for, or still missing, when it was computed.
            needs |= Needs(hidden=(anatomy(self.model.net).num_layers(self.model.net),))
        teacher = LiveTeacher(self.model, self.encoded, needs, self.precision, lambda _: None)
        values: dict[str, list[Any]] = {field: [] for field in fields}
        order = []
        for batch, real in self.batches(examples):
            signals = teacher.signals(batch)
            for field, parts in values.items():
                here = slice(int(self.rows(field)[batch[:real]].sum()))
                if top := self.top(field):
                    assert isinstance(signals.head, Head)
                    parts.append(top.encode(self._record(signals.head.map(lambda x, here=here: x[here]), batch[:real], top)))
                else:
                    parts.append(value_of(signals, field)[here].cpu())
            order.append(batch[:real])
            count(real)
        rows = np.concatenate(order)
        sizes = {unit: each[rows] for unit, each in self.sizes.items()}
        written = {
            field: {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            if self.top(field)
            else self.codec.encode(field, torch.cat(parts))
            for field, parts in values.items()
        }
        self.store.write(self.keys[rows], sizes, written)

    def _record(self, head: Head, examples: np.ndarray, top: Top) -> Sparse:
        """What is kept of the teacher's distributions. Draws are a function of the example and the position in it."""
        labels = collate(self.encoded, examples).labels
        assert labels is not None
        uniform = None
        if top.draws:
            each = zip(self.keys[examples], self.sizes["asked"][examples], strict=True)
            uniform = torch.from_numpy(np.concatenate([seeds.numpy_rng(0, "draws", key.hex()).random(n) for key, n in each]))
            uniform = uniform.to(head.hidden.device)
        record = Sparse.of(head, labels[labels != IGNORE].to(head.hidden.device), top.top, uniform, top.draws)
        return record.map(Tensor.cpu)


class _Missing:
    """Which fields of which examples of a request are in no part of the store yet."""

    def __init__(self, cache: SignalCache, fields: Sequence[str]) -> None:
        self.cache, self.fields = cache, list(fields)
        self.order = np.concatenate(cache.plan) if cache.plan else np.empty(0, np.int64)
        keys = cache.keys[self.order]
        self._by_key = np.argsort(keys)
        self._sorted = keys[self._by_key]
        self.mask = np.ones((len(self.order), len(fields)), bool)
        """(examples in the order of the plan, fields): True where something is missing."""

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """Those of the request's examples that these keys name, by their place in the plan."""
        if not len(self._sorted):
            return np.empty(0, np.int64)
        near = np.searchsorted(self._sorted, keys).clip(max=len(self._sorted) - 1)
        return self._by_key[near[self._sorted[near] == keys]]

    def _columns(self, fields: Sequence[str] | frozenset[str]) -> np.ndarray:
        return np.flatnonzero([field in fields for field in self.fields])

    def found(self, parts: Sequence[Any]) -> None:
        """These parts are there."""
        for part in parts:
            self.mask[np.ix_(self._places(part.keys), self._columns(part.fields))] = False

    def check(self) -> None:
        """Every part that the request needs is as it was written; what is not is missing again."""
        store = self.cache.store
        used = [p for p in store.parts.values() if p.fields & set(self.fields) and len(self._places(p.keys))]
        damaged = [(part, wrong[0]) for part in used if (wrong := disk.problems(part.path))]
        for part, wrong in damaged:
            store.take_away(part.path, wrong)
        if damaged:
            self.mask[:] = True
            self.found(list(store.parts.values()))

    def examples(self) -> int:
        """How many examples lack something."""
        return int(self.mask.any(axis=1).sum())

    def free(self, others: Sequence[tuple[np.ndarray, list[str]]]) -> tuple[np.ndarray, list[str]]:
        """Something to do that nobody is doing: examples of one part of the plan, which lack the same fields."""
        mask = self.mask.copy()
        for keys, fields in others:
            mask[np.ix_(self._places(keys), self._columns(fields))] = False
        open_rows = np.flatnonzero(mask.any(axis=1))
        if not len(open_rows):
            return np.empty(0, np.int64), []
        start = open_rows[0] // PART * PART
        lacks = mask[open_rows[0]]
        alike = (mask[start : start + PART] == lacks).all(axis=1)
        return self.order[start : start + PART][alike], [self.fields[i] for i in np.flatnonzero(lacks)]


class CachedTeacher:
    """Reads a filled store; never runs the teacher. What it reads is memory-mapped."""

    def __init__(self, cache: SignalCache, needs: Needs) -> None:
        self.cache = cache
        cache.store.new_parts()
        known: dict[Any, tuple[np.ndarray, np.ndarray]] = {}  # most fields lie in the same parts
        self.places = {field: self._places(field, known) for field in fields_of(needs, cache.head)}

    def _places(self, field: str, known: dict[Any, Any]) -> tuple[dict[int, dict[str, np.ndarray]], np.ndarray, np.ndarray]:
        """The arrays of the parts in use, by their numbers; for each example the number of its part, and where its rows
        begin and end there: (N,), (N, 2)."""
        cache = self.cache
        parts = [part for part in cache.store.parts.values() if field in part.fields]
        unit = unit_of(field, cache.model.kind)
        about = (unit, *(part.path.name for part in parts))
        if about not in known:
            keys = np.concatenate([np.empty(0, KEYS), *(part.keys for part in parts)])
            order = np.argsort(keys, kind="stable")
            at = np.searchsorted(keys, cache.keys, sorter=order)
            at = order[at.clip(max=len(keys) - 1)] if len(keys) else at
            if len(cache.keys) and not (len(keys) and (keys[at] == cache.keys).all()):
                raise ResourceError(f"Stored outputs of the teacher vanished from {cache.folder}. Repeat the command.")
            part_of = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
            begins = [np.cumsum(part.sizes[unit], dtype=np.int64) - part.sizes[unit] for part in parts]
            begin = np.concatenate([np.empty(0, np.int64), *begins])[at]
            known[about] = part_of[at], np.stack([begin, begin + cache.rows(field)], axis=1)
        part_of, ends = known[about]
        return {i: parts[i].arrays(field) for i in np.unique(part_of).tolist()}, part_of, ends

    def _take(self, field: str, indices: np.ndarray) -> Any:
        arrays, part_of, ends = self.places[field]
        places = [(arrays[part], rows) for part, rows in zip(part_of[indices].tolist(), ends[indices].tolist(), strict=True)]
        names = next(iter(arrays.values()))
        return (self.cache.top(field) or self.cache.codec).decode(
            {name: np.concatenate([of[name][begin:end] for of, (begin, end) in places]) for name in names}
        )

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        chosen = np.asarray(indices, np.int64)
        sizes = self.cache.sizes["token"][chosen].tolist()
        values = {field: self._take(field, chosen) for field in self.places}
        said = values.pop(self.cache.head, None)
        signals = signals_from(sizes, values)
        signals.head = vocabulary_head(self.cache.model.net, said) if isinstance(said, Tensor) else said
        return signals


class Several:
    """Teachers that teach together: the mean of their outputs, and all else as the first one says it."""

    def __init__(self, first: Teacher, others: Sequence[Teacher], kind: Kind) -> None:
        self.first, self.others, self.kind = first, others, kind

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        said = self.first.signals(indices)
        if said.logits is not None and self.others:
            more = [one for other in self.others if (one := other.signals(indices).logits) is not None]
            said.logits = self.kind.mean([said.logits, *more])
        return said
