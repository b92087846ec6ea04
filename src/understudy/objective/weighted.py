"""Objective: a weighted sum of named terms that may be computed in parts.

A batch is split into micro-batches, and over processes. So that the split changes nothing, a term that is a sum over
examples, tokens or labels returns that sum, and the objective divides it by the number in the *whole* batch (`Counts`):
totals and values of all parts add up to those of the batch. Pairwise terms cannot be computed in parts and refuse.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from typing import Literal

import torch
from torch import Tensor, nn

from understudy.base.errors import DataError, DivergedError, RecipeError
from understudy.base.schedule import Setting, extremes, scaled, value_at
from understudy.losses.chunked import Head, Soft, over_vocabulary
from understudy.models.needs import Needs, Signals
from understudy.objective.gather import gather_rows, world_size

Unit = Literal["example", "token", "label", "batch"]


@dataclass(frozen=True)
class Counts:
    """How much there is in the whole batch of an optimiser step, over all micro-batches and processes.

    `labels`: tokens that carry a label, for token tasks and masked text; elsewhere the number of examples.
    """

    examples: int
    tokens: int
    labels: int

    def of(self, unit: Unit) -> int:
        """What a sum over this unit is divided by."""
        number = {"example": self.examples, "token": self.tokens, "label": self.labels, "batch": 1}[unit]
        return max(number, 1)  # a batch without a single label has a loss of 0


@dataclass(frozen=True)
class Seen:
    """All that a term may look at."""

    student: Signals
    teacher: Signals | None
    labels: Tensor | None
    progress: float
    modules: nn.ModuleDict


@dataclass(frozen=True)
class OverHead:
    """The loss of a term over a vocabulary, from the head and its input (`Needs.head`): such terms take one pass together."""

    soft: Callable[[float], Soft] | None = None
    """The divergence from the teacher at some progress of the training; None: the cross-entropy of the labels."""


@dataclass(frozen=True)
class Term:
    """One thing to learn. `0.5 * term` weighs it; a weight may be a ramp, as in `Ramp(1.0, 0.0) * term`."""

    loss: Callable[[Seen], Tensor] | OverHead
    """The sum over the units; for unit "batch" the value itself."""
    unit: Unit
    needs_student: Needs
    needs_teacher: Needs = field(default_factory=Needs)
    weight: Setting = 1.0
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    """What is trained along with the student, by name; a name used by several terms is one module."""
    needs_labels: bool = False
    same_tokens: bool = False
    """Compares token with token, so both models must share a tokenizer."""
    fewest_rows: int = 1
    """A batch with fewer rows teaches nothing in this term; such batches are counted."""

    @property
    def separable(self) -> bool:
        """Whether a batch may be computed in parts."""
        return self.unit != "batch"

    def __rmul__(self, weight: Setting) -> Term:
        if isinstance(self.weight, (int, float)):
            return replace(self, weight=scaled(weight, self.weight))
        if isinstance(weight, (int, float)):
            return replace(self, weight=scaled(self.weight, weight))
        raise TypeError("A term can follow one ramp only.")


class Objective(nn.Module):
    """`Objective(hard=0.1 * hard_labels("classification"), soft=soft_labels("classification", temperature=5.0))`.

    A module, because it owns the projections of its terms: move it with `.to`, train `.parameters()`, put
    `.state_dict()` into checkpoints. Terms whose weight is 0 throughout are left out: they need and cost nothing.
    """

    def __init__(self, /, **terms: Term) -> None:
        super().__init__()
        for name, term in terms.items():
            if not extremes(term.weight)[0] >= 0:
                raise RecipeError(f"The weight of the term '{name}' must not be below 0, got {term.weight}.")
        self.terms = {name: term for name, term in terms.items() if extremes(term.weight)[1] > 0}
        if not self.terms:
            raise RecipeError("The weights of all terms are 0: there is nothing to learn. Give one a weight above 0.")
        modules: dict[str, nn.Module] = {}
        for term in self.terms.values():
            for name, module in term.modules.items():
                if modules.setdefault(name, module) is not module:
                    raise ValueError(f"Two different modules are both called '{name}'.")
        self.projections = nn.ModuleDict(modules)
        # Saved with the projections, so that a resumed run tells the same number as an uninterrupted one.
        self.register_buffer("too_small", torch.zeros(len(self.terms), dtype=torch.int64))
        self.too_small: Tensor

    @property
    def needs_student(self) -> Needs:
        """What one forward pass of the student must return."""
        return reduce(or_, (term.needs_student for term in self.terms.values()))

    @property
    def needs_teacher(self) -> Needs:
        """What the teacher must have said; falsy when no term asks the teacher anything."""
        return reduce(or_, (term.needs_teacher for term in self.terms.values()))

    @property
    def units(self) -> dict[str, Unit]:
        """What each term is a mean over."""
        return {name: term.unit for name, term in self.terms.items()}

    @property
    def separable(self) -> bool:
        """Whether a batch may be computed in parts: no term is pairwise."""
        return all(term.separable for term in self.terms.values())

    def compute(
        self, student: Signals, teacher: Signals | None, labels: Tensor | None, *, progress: float, counts: Counts
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total to differentiate and the unweighted value of each term, detached.

        Args:
            student, teacher: signals of the same examples, with the teacher's outputs in the student's label order.
            labels: (B,), (B, C), or (T,) for token tasks; None when there are none.
            progress: share of the optimiser steps behind us, in [0, 1]; weights and temperatures follow it.
            counts: of the whole batch. Totals and values *add up* over its micro-batches and processes, so gradients
                of several processes are to be summed (a trainer that averages them multiplies by their number).

        Raises DivergedError that names the non-finite terms, RecipeError when a pairwise term sees only a part of the
        batch or a token-level one two tokenizers, DataError when labels are missing.
        """
        seen = Seen(student, teacher, labels, progress, self.projections)
        whole: Seen | None = None
        values: dict[str, Tensor] = {}
        total: Tensor | None = None
        over_head: dict[str, tuple[OverHead, float]] = {}
        for position, (name, term) in enumerate(self.terms.items()):
            weight = value_at(term.weight, progress)
            if weight == 0:
                continue
            self._check(name, term, seen)
            if isinstance(term.loss, OverHead):
                over_head[name] = term.loss, weight
                continue
            if term.separable:
                value = term.loss(seen) / counts.of(term.unit)
            else:
                whole = whole or self._whole_batch(name, seen, counts)
                if counts.examples < term.fewest_rows:
                    self._count_too_small(name, position, term)
                value = term.loss(whole) / world_size()
            values[name] = value.detach()
            total = weight * value if total is None else total + weight * value
        if over_head:
            value, more = _over_heads(over_head, seen, counts.of("label"))
            total = value if total is None else total + value
            values |= more
        if total is None:  # every schedule passes through 0 here
            total = _tensors(student)[0].sum() * 0.0
        if not _finite(total):
            raise DivergedError(_diagnosis(values, seen))
        return total, values

    def separable_part(self) -> Objective:
        """The terms that can be computed in parts, sharing their projections with this objective: to score held-out
        rows piece by piece. Raises RecipeError when all terms are pairwise."""
        return Objective(**{name: term for name, term in self.terms.items() if term.separable})

    def weights(self, progress: float) -> dict[str, float]:
        """The weight of each term at this point of the training."""
        return {name: value_at(term.weight, progress) for name, term in self.terms.items()}

    def shares(self, values: Mapping[str, float], *, progress: float) -> dict[str, float]:
        """The share of each term in the total, from values of a whole batch; they sum to 1."""
        weights = self.weights(progress)
        parts = {name: weights[name] * float(value) for name, value in values.items()}
        whole = sum(abs(part) for part in parts.values())
        return {name: abs(part) / whole if whole else 0.0 for name, part in parts.items()}

    def notes(self) -> list[str]:
        """Sentences for the report: what was left out, and how often."""
        return [
            f"{name}: {count} batches had fewer than {term.fewest_rows} rows and taught nothing in this term."
            for (name, term), count in zip(self.terms.items(), self.too_small.tolist(), strict=True)
            if count
        ]

    def _check(self, name: str, term: Term, seen: Seen) -> None:
        if term.needs_labels and seen.labels is None:
            raise DataError(f"The term '{name}' learns from labels, but these rows have none; set its weight to 0.")
        if term.needs_teacher and seen.teacher is None:
            raise ValueError(f"The term '{name}' needs the teacher's signals; compute() got none.")
        if term.same_tokens and seen.teacher is not None and seen.teacher.sizes != seen.student.sizes:
            raise RecipeError(
                f"The term '{name}' compares token with token, but teacher and student cut the texts into different "
                "tokens; give both the same tokenizer and max_length, or set the weight of this term to 0."
            )

    def _whole_batch(self, name: str, seen: Seen, counts: Counts) -> Seen:
        """The same signals with one row per example of the whole batch; refuses when they are not at hand."""
        rows = len(seen.student.sizes)
        if world_size() > 1:
            labels = None if seen.labels is None else gather_rows(seen.labels)
            seen = replace(seen, student=_gathered(seen.student), teacher=seen.teacher and _gathered(seen.teacher), labels=labels)
            rows = next(x.shape[0] for x in (seen.student.feature, seen.student.logits) if x is not None)
        if rows != counts.examples:
            raise RecipeError(
                f"The term '{name}' compares the examples of a batch with each other, but sees {rows} of "
                f"{counts.examples}: such a batch cannot be computed in parts. Raise train.max_tokens, lower "
                "train.batch_size, or set the weight of this term to 0."
            )
        return seen

    def _count_too_small(self, name: str, position: int, term: Term) -> None:
        if not self.too_small[position]:
            warnings.warn(
                f"The term '{name}' learns nothing from a batch of fewer than {term.fewest_rows} rows; counting them.",
                stacklevel=3,
            )
        self.too_small[position] += 1


def _over_heads(terms: Mapping[str, tuple[OverHead, float]], seen: Seen, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of these terms, and each one's value: divergence and cross-entropy in one pass over the vocabulary."""
    student = seen.student.head
    if not isinstance(student, Head) or seen.labels is None:
        raise ValueError("The signals hold no head and its input; compute them with the objective's needs.")
    labels = seen.labels[seen.labels != -100]
    teacher = None if seen.teacher is None else seen.teacher.head
    if isinstance(teacher, Head) and teacher.real:
        student = student.first(len(teacher.weight))
    softs = {name: (loss.soft(seen.progress), weight) for name, (loss, weight) in terms.items() if loss.soft is not None}
    hards = {name: weight for name, (loss, weight) in terms.items() if loss.soft is None}
    values: dict[str, Tensor] = {}
    parts: list[Tensor] = []
    for name, (soft, weight) in (softs or {"": (None, 0.0)}).items():
        try:
            part, of_soft, of_hard = over_vocabulary(
                student,
                labels,
                None if soft is None else teacher,
                soft=None if soft is None else replace(soft, weight=weight / count),
                hard=sum(hards.values()) / count,
            )
        except ValueError as error:
            raise RecipeError(f"objective.{name or 'hard'}: {error}") from error
        parts.append(part)
        values |= dict.fromkeys(hards, of_hard / count)
        if soft is not None:
            values[name] = of_soft / count
        hards = {}  # counted once
    return torch.stack(parts).sum(), values


def _gathered(signals: Signals) -> Signals:
    """Logits and features of all processes: what pairwise terms look at."""
    return Signals(
        sizes=signals.sizes,
        logits=None if signals.logits is None else gather_rows(signals.logits),
        feature=None if signals.feature is None else gather_rows(signals.feature),
    )


def _diagnosis(values: Mapping[str, Tensor], seen: Seen) -> str:
    broken = [f"'{name}' is {value.item()}" for name, value in values.items() if not _finite(value)]
    sides = {"student": seen.student, "teacher": seen.teacher}
    sources = [
        side for side, signals in sides.items() if signals is not None and not all(map(_finite, _tensors(signals)))
    ]
    where = f" Non-finite numbers come out of the {' and the '.join(sources)} already." if sources else ""
    return (
        f"The loss is NaN or infinite at {seen.progress:.1%} of training: "
        f"{', '.join(broken) or 'the sum of the terms overflows'}.{where} Try a lower "
        "train.lr, or train.precision fp32."
    )


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _tensors(signals: Signals) -> list[Tensor]:
    head = signals.head.hidden if isinstance(signals.head, Head) else None
    single = [signals.logits, head, signals.feature, *signals.hidden.values(), *signals.cls.values()]
    several = [part for parts in signals.qkv.values() for part in parts]
    return [tensor for tensor in (*single, *several) if tensor is not None]
