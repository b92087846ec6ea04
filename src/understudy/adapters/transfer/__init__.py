"""Moving an adapter to another model (mKD): plan, collect, align, rewrite. No labels and no gradients.

    how = plan(teacher.net.config, student.net.config, adapter.config, settings)
    moved = transfer(teacher, student, adapter, how, rows=rows, task=task, seed=0)
    put(student.net, moved.adapter)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from understudy.adapters.inject import Adapter, Address, head_of, places
from understudy.adapters.transfer.align import assign, assign_heads
from understudy.adapters.transfer.collect import Link, Sums, collect
from understudy.adapters.transfer.match import match_tokens
from understudy.adapters.transfer.plan import Plan, plan
from understudy.adapters.transfer.rewrite import rewrite
from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.data.encode import encode
from understudy.data.types import Example, Task
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.recipe.adapter import BottleneckAdapter, LoraAdapter

__all__ = ["Plan", "Transferred", "plan", "told", "transfer"]


@dataclass(frozen=True)
class Transferred:
    """The adapter for the student, and what is known about how it was made."""

    adapter: Adapter
    report: dict[str, Any]


def transfer(
    teacher: Model, student: Model, adapter: Adapter, how: Plan, *, rows: Sequence[Example] = (), task: Task | None = None,
    seed: int = 0, max_length: int = 128,
) -> Transferred:
    """Rewrite an adapter as planned.

    Args:
        teacher, student: bare models. Both are run only where dimensions are aligned by correlation.
        rows: texts to correlate on; `num_samples` of them are used.
        max_length: longest input, in tokens of each model.

    Raises:
        RecipeError: see `plan`, `rewrite`; also rows are missing.
        DataError: no token is shared.
    """
    report: dict[str, Any] = how.as_dict()
    maps: dict[Link, np.ndarray] = {}
    if how.align == "random":
        sizes = _links(teacher, student, how)
        maps = {link: seeds.permutation(big, seed, "transfer", *link)[:small] for link, small, big in sizes}
    elif how.align == "lsa":
        if not rows or task is None:
            raise RecipeError("Aligning two models needs texts: name a task or a file of them, or choose align: none.")
        sums, report["matched_tokens"] = _sums(teacher, student, how, rows, task, seed, max_length)
        maps, report["correlation"] = _maps(sums, how)
    moved = rewrite(adapter, how, maps)
    report["tensors"] = [_origin(how, address, value) for address, value in moved.tensors.items()]
    moved.head, report["head"] = _head(teacher, student, adapter, how)
    return Transferred(moved, report)


def _sums(
    teacher: Model, student: Model, how: Plan, rows: Sequence[Example], task: Task, seed: int, max_length: int
) -> tuple[dict[Link, Sums], dict[str, float]]:
    settings = how.settings
    order = range(len(rows)) if settings.sample == "first" else seeds.permutation(len(rows), seed, "transfer rows")
    chosen = [rows[int(i)] for i in order[: settings.num_samples]]
    one, other = (min(max_length, anatomy(model.net).max_tokens(model.net)) for model in (teacher, student))
    encoded = (
        encode(chosen, teacher.tokenizer, task, max_length=one), encode(chosen, student.tokenizer, task, max_length=other)
    )  # fmt: skip
    pairs = match_tokens(
        teacher.tokenizer, student.tokenizer, chosen, task, lengths=(one, other), how=settings.token_match,
        families=(how.teacher.family, how.student.family),
    )  # fmt: skip
    matched = sum(len(left) for left, _ in pairs)
    share = {"tokens": matched, "share_of_student": matched / max(1, int(encoded[1].lengths.sum()))}
    return collect(teacher.net, student.net, how, encoded, pairs), share


def _maps(sums: dict[Link, Sums], how: Plan) -> tuple[dict[Link, np.ndarray], list[dict[str, Any]]]:
    """The assignment of every link, and its mean correlation."""
    maps: dict[Link, np.ndarray] = {}
    told = []
    for link in sums:
        layer, source, place, side = link
        seen = link
        if how.settings.maps == "shared":  # the released activation: what LoRA reads, what the bottleneck's block writes
            seen = (layer, source, place, "in" if isinstance(how.module, LoraAdapter) else "out")
        correlation = sums[seen].correlation()
        if seen != link and correlation.shape != sums[link].correlation().shape:
            raise RecipeError(f"method.maps: shared cannot serve '{place}', which reads and writes two widths; use separate.")
        if place in ("query", "key", "value", "qkv") and side == "out" and seen == link:
            fused = 3 if place == "qkv" else 1
            chosen = assign_heads(correlation, how.student.heads, how.teacher.heads, fused=fused)
        else:
            chosen = assign(correlation)
        maps[link] = chosen
        mean = float(correlation[np.arange(len(chosen)), chosen].mean())
        told.append({"layer": layer, "from": source, "place": place, "side": side, "correlation": mean})
    return maps, told


def _origin(how: Plan, address: Address, value: Tensor) -> dict[str, Any]:
    """What stands at an address of the student, and where it came from."""
    layer, place, tensor = address
    rule = how.rule(place, tensor)
    by = rule[1] if rule is not None and how.align != "none" else None
    return {
        "layer": layer, "place": place, "tensor": tensor, "shape": list(value.shape), "from": list(how.sources[layer]), "map": by,
    }  # fmt: skip


def told(report: dict[str, Any]) -> list[str]:
    """What became of a transfer, in sentences: tokens, correlation, head."""
    said = []
    if "correlation" in report:
        share = report["matched_tokens"]
        mean = float(np.mean([line["correlation"] for line in report["correlation"]]))
        said.append(
            f"{share['tokens']:,} tokens matched ({share['share_of_student']:.0%} of the student's); mean correlation of the "
            f"assigned dimensions {mean:.3f}"
        )
    return [*said, f"head {report['head']}"]


def _links(teacher: Model, student: Model, how: Plan) -> list[tuple[Link, int, int]]:
    """Every link, with the number of dimensions on both sides."""
    found: list[tuple[Link, int, int]] = []
    theirs = {(place.layer, place.name): place.host for place in places(teacher.net, how.module)}
    for place in places(student.net, how.module):
        for source in how.sources[place.layer]:
            host = theirs[source, place.name]
            for side, attribute in (("in", "in_features"), ("out", "out_features")):
                linear = not isinstance(how.module, BottleneckAdapter)
                small = getattr(place.host, attribute) if linear else how.student.width
                big = getattr(host, attribute) if linear else how.teacher.width
                found.append(((place.layer, source, place.name, side), small, big))
    return found


def _head(teacher: Model, student: Model, adapter: Adapter, how: Plan) -> tuple[dict[str, Any], str]:
    """The teacher's head for the student, and why (not)."""
    wanted = how.settings.transfer_head == "if_compatible" or how.settings.parity
    if not wanted:
        return {}, "left to the student: transfer_head is never"
    if not adapter.head:
        return {}, "left to the student: none that fits the teacher came with the adapter"
    own = {name: tuple(tensor.shape) for name, tensor in head_of(student.net).items()}
    if how.align != "none" or {name: tuple(tensor.shape) for name, tensor in adapter.head.items()} != own:
        return {}, "left to the student: it reads another space, or has another shape"
    if teacher.labels != student.labels:
        return {}, "left to the student: the labels differ"
    return dict(adapter.head), "the teacher's"
