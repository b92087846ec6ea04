"""What the teacher says about every example: computed once, kept on disk, read by every student and every run.

A store is keyed by content: the teacher's weights, the encoded examples in order, and the arithmetic. Same key, same
numbers, bit for bit; another key, another folder; so a wrong cache cannot be read. Each signal (`logits`, `hidden-3`, …)
is stored by itself, in shards that are committed one by one: an interrupted pass continues, and a new term that needs one
signal more computes that signal alone.

To the training loop a cached and a live teacher look the same: `signals(indices)`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from understudy.base import disk
from understudy.base.circumstances import circumstances, other_circumstances
from understudy.base.errors import RecipeError, VerifyError
from understudy.base.progress import progress, say
from understudy.data.batches import evaluation_batches
from understudy.data.encode import IGNORE, Encoded, collate
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.needs import Needs, Signals
from understudy.models.signals import forward

FORMAT = 4
_SHARD_EXAMPLES = 1024
"""Examples per shard at least: what a crash may cost."""
_SHAPE = "shape.json"
"""Beside the numbers: the shape of one of their rows, [C], [D] or [H, d]. How many heads a layer has is the model's own
business: a pruned one does not have those of its configuration."""
_MAX_TOKENS = 8192
"""Tokens the teacher computes at once; part of the key, because it decides the rounding."""
DTYPES = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
"""What numbers are on disk. In memory and in losses they are fp32 again."""
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
    for name in ("input_ids", "offsets", "token_type_ids", "labels", "word_index", "num_words"):
        array = getattr(encoded, name)
        if array is not None:
            seen.update(f"{name}{array.dtype}{array.shape}".encode())
            seen.update(np.ascontiguousarray(array).tobytes())
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

    @torch.inference_mode()
    def _run(self, indices: Sequence[int] | np.ndarray) -> Signals:
        net = self.model.net.eval()
        device = next(net.parameters()).device
        batch = collate(self.encoded, indices).to(device)
        self.count(len(indices))
        with autocast(device, self.precision):
            return forward(net, batch, self.needs, kind=self.model.kind)

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        signals = _map(self._run(indices), lambda value: value.float().clone())
        if not self.model.kind.by_word:
            return signals
        # Words are what two tokenizers have in common: a token head speaks about the first sub-word of each.
        labelled = torch.from_numpy(np.concatenate([_labelled(self.encoded, i) for i in indices]))
        if signals.logits is not None:
            signals.logits = signals.logits[labelled.to(signals.logits.device)]
        if signals.feature is not None and self.needs.feature == "head_input":
            signals.feature = signals.feature[labelled.to(signals.feature.device)]
        return signals


def _labelled(encoded: Encoded, row: int) -> np.ndarray:
    """(length,) bool: which sub-words of a row carry a label."""
    assert encoded.labels is not None
    return encoded.labels[encoded.offsets[row] : encoded.offsets[row + 1]] != IGNORE


def _map(signals: Signals, change: Any) -> Signals:
    def maybe(value: Tensor | None) -> Tensor | None:
        return None if value is None else change(value)

    return Signals(
        sizes=signals.sizes,
        logits=maybe(signals.logits),
        feature=maybe(signals.feature),
        hidden={i: change(value) for i, value in signals.hidden.items()},
        cls={i: change(value) for i, value in signals.cls.items()},
        qkv={i: (change(q), change(k), change(v)) for i, (q, k, v) in signals.qkv.items()},
    )


def _fields(needs: Needs) -> list[str]:
    """The names of the signals on disk."""
    names = ["logits"] if needs.logits else []
    names += [f"feature-{needs.feature}"] if needs.feature else []
    names += [f"hidden-{i}" for i in needs.hidden] + [f"cls-{i}" for i in needs.cls]
    return names + [f"{part}-{i}" for i in needs.qkv for part in "qkv"]


def _needs_of(fields: Sequence[str]) -> Needs:
    """The smallest needs that produce these fields."""

    def numbers(*kinds: str) -> tuple[int, ...]:
        return tuple(sorted({int(name.split("-")[1]) for name in fields if name.split("-")[0] in kinds}))

    feature = next((name.split("-", 1)[1] for name in fields if name.startswith("feature-")), None)
    return Needs(
        logits="logits" in fields,
        feature=feature,
        hidden=numbers("hidden"),
        cls=numbers("cls"),
        qkv=numbers("q", "k", "v"),  # after an interruption perhaps not all three are missing
    )


def _value(signals: Signals, field: str) -> Tensor:
    """One field of some signals: (rows, C), (rows, D), or (rows, H, d) for queries, keys and values."""
    name, _, rest = field.partition("-")
    if name in ("logits", "feature"):
        return getattr(signals, name)
    if name in ("hidden", "cls"):
        return getattr(signals, name)[int(rest)]
    return signals.qkv[int(rest)]["qkv".index(name)]


class SignalCache:
    """The signals of one teacher for one encoded set of examples.

    Args:
        root: where stores live; shared by all runs.
        model: the teacher. Never changed, never trained.
        encoded: the examples in the teacher's own tokens.
        precision: fp32, bf16 or fp16: the arithmetic of the teacher's forward.
        dtype: fp32, or fp16 for half the space: off by at most one part in 2048 (numbers below 6e-5: by 3e-8).
    """

    def __init__(
        self, root: Path, *, model: Model, digest: str, encoded: Encoded, precision: str, dtype: str = "fp32"
    ) -> None:
        self.model, self.encoded, self.precision, self.dtype = model, encoded, precision, DTYPES[dtype]
        self.file = f"data.f{8 * self.dtype.itemsize}"
        self.batches = evaluation_batches(encoded.lengths, max_tokens=_MAX_TOKENS)
        # A teacher does not read labels, but for those that say which tokens are asked about.
        seen = encoded if encoded.per_token else replace(encoded, labels=None)
        about = {
            "format": FORMAT,
            "teacher": digest,
            "examples": content_digest(seen),
            "precision": precision,
            "dtype": dtype,
            "max_tokens": _MAX_TOKENS,
            "device": next(model.net.parameters()).device.type,
        }
        self.key = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()
        self.about = about
        self.folder = root / self.key
        self.shards = self._plan()
        self._rows = self._rows_per_example()

    def _plan(self) -> list[list[np.ndarray]]:
        """Whole batches, grouped so that each shard holds at least `_SHARD_EXAMPLES` examples."""
        shards: list[list[np.ndarray]] = [[]]
        count = 0
        for batch in self.batches:
            if count >= _SHARD_EXAMPLES:
                shards.append([])
                count = 0
            shards[-1].append(batch)
            count += len(batch)
        return shards

    def _rows_per_example(self) -> dict[str, np.ndarray]:
        """How many rows each kind of field has for each example."""
        ones = np.ones(len(self.encoded), dtype=np.int64)
        lengths = np.asarray(self.encoded.lengths, dtype=np.int64)
        labelled = ones
        if self.model.kind.per_token:
            labelled = np.array([_labelled(self.encoded, i).sum() for i in range(len(self.encoded))], dtype=np.int64)
        feature = labelled if self.model.kind.by_word else ones
        return {"logits": labelled, "feature": feature, "cls": ones, "hidden": lengths, "q": lengths, "k": lengths, "v": lengths}

    def rows(self, field: str) -> np.ndarray:
        if field in ("feature-cls", "feature-mean"):
            return self._rows["cls"]
        return self._rows[field.split("-")[0]]

    def _shard(self, field: str, index: int) -> Path:
        return self.folder / field / f"shard-{index:05d}"

    def bytes_needed(self, needs: Needs) -> int:
        """Disk space of everything `needs` asks for."""
        row, net = anatomy(self.model.net), self.model.net
        widths = {"logits": row.final_linear(net).out_features if needs.logits else 0}
        layers = row.layers(net)
        widths |= {f"{part}-{i}": row.out(layers[i - 1]).in_features for i in needs.qkv for part in "qkv"}
        return sum(
            int(self.rows(field).sum()) * widths.get(field, row.width(net)) * self.dtype.itemsize
            for field in _fields(needs)
        )

    def fill(self, needs: Needs, count: Callable[[int], None], stop: StopRequest | None = None) -> None:
        """Compute what is missing. Interrupted at any moment, it continues with the shard it was at.

        Args:
            count: told on how many examples the teacher was run.
            stop: asked between two shards whether a signal wants the process to end.
        """
        fields = _fields(needs)
        self._note_circumstances()
        missing: dict[int, list[str]] = {}
        for index in range(len(self.shards)):
            for field in fields:
                path = self._shard(field, index)
                if not path.is_dir():
                    missing.setdefault(index, []).append(field)
                elif wrong := disk.problems(path):
                    say(f"A part of the teacher's stored outputs is damaged and is computed again: {wrong[0]}.")
                    missing.setdefault(index, []).append(field)
        if missing:
            total = sum(len(batch) for index in missing for batch in self.shards[index])
            with progress(total, "teacher outputs") as bar:
                for index, wanted in missing.items():
                    self._compute(index, wanted, bar, count)
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

    def _compute(self, index: int, fields: list[str], bar: Any, count: Callable[[int], None]) -> None:
        needs = _needs_of(fields)
        if needs.logits or needs.feature:
            # The last layer as a whole, even if first tokens would do: the shortcut rounds differently, and what is
            # stored must not depend on what else was asked for, or still missing, when it was computed.
            needs |= Needs(hidden=(anatomy(self.model.net).num_layers(self.model.net),))
        teacher = LiveTeacher(self.model, self.encoded, needs, self.precision, count)
        parts: dict[str, list[Tensor]] = {field: [] for field in fields}
        for batch in self.shards[index]:
            signals = teacher.signals(batch)
            for field in fields:
                parts[field].append(_value(signals, field).cpu())
            bar.advance(len(batch))
        for field in fields:
            with disk.commit_dir(self._shard(field, index)) as folder:
                values = self._stored(field, torch.cat(parts[field]).numpy())
                disk.write_bytes(folder / self.file, values.tobytes())
                disk.write_json(folder / _SHAPE, list(values.shape[1:]))

    def _stored(self, field: str, values: np.ndarray) -> np.ndarray:
        """The numbers as they are written.

        Raises:
            RecipeError: they are too large for fp16.
        """
        largest = np.finfo(self.dtype).max
        if self.dtype.itemsize < 4 and bool((np.isfinite(values) & (np.abs(values) > largest)).any()):
            raise RecipeError(
                f"cache.dtype: the teacher's {field} holds numbers beyond {largest:,.0f}, which fp16 cannot; use fp32."
            )
        return values.astype(self.dtype)

    def read(self, field: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Memory-mapped shards, and for each example its shard and first row."""
        per_example = self.rows(field)
        arrays, shard_of, start_of = [], np.empty(len(self.encoded), np.int32), np.empty(len(self.encoded), np.int64)
        for index, shard in enumerate(self.shards):
            order = np.concatenate(shard) if shard else np.empty(0, np.int64)
            counts = per_example[order]
            ends = np.cumsum(counts)
            shard_of[order], start_of[order] = index, ends - counts
            path = self._shard(field, index) / self.file
            flat = np.memmap(path, dtype=self.dtype, mode="r") if path.stat().st_size else np.empty(0, self.dtype)
            shape = disk.read_json(path.with_name(_SHAPE))
            arrays.append(flat.reshape(int(ends[-1]) if len(ends) else 0, *shape))
        return arrays, shard_of, start_of


class CachedTeacher:
    """Reads a filled store; never runs the teacher."""

    def __init__(self, cache: SignalCache, needs: Needs) -> None:
        self.cache = cache
        self.fields = {field: cache.read(field) for field in _fields(needs)}
        self.lengths = np.asarray(cache.encoded.lengths)

    def _take(self, field: str, indices: Sequence[int] | np.ndarray) -> Tensor:
        arrays, shard_of, start_of = self.fields[field]
        counts = self.cache.rows(field)
        rows = [arrays[shard_of[i]][start_of[i] : start_of[i] + counts[i]] for i in indices]
        return torch.from_numpy(np.concatenate(rows).astype(np.float32, copy=False))

    def signals(self, indices: Sequence[int] | np.ndarray) -> Signals:
        signals = Signals(sizes=[int(self.lengths[i]) for i in indices])
        for field in self.fields:
            name, _, rest = field.partition("-")
            value = self._take(field, indices)
            if name in ("logits", "feature"):
                setattr(signals, name, value)
            elif name in ("hidden", "cls"):
                getattr(signals, name)[int(rest)] = value
            elif name == "q":
                layer = int(rest)
                signals.qkv[layer] = (value, self._take(f"k-{layer}", indices), self._take(f"v-{layer}", indices))
        return signals

