"""Hold-outs and subsets: seeded, stratified by label, and never through a group.

The unit of a split is a group of rows (the translations of one source row), or a row that has no group: split by row,
the same sentence would be trained on in one language and selected on in another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.base.errors import DataError
from understudy.base.seeds import permutation
from understudy.data.types import Example


def hold_out_fraction(n: int) -> float:
    """How much of n training rows to hold out: AutoGluon's rule, which AutoMM uses for its tuning rows.

    >>> [round(hold_out_fraction(n), 4) for n in (2000, 4000, 10000, 104743)]
    [0.2, 0.125, 0.1, 0.0239]
    """
    if n < 5000:
        return max(0.1, min(0.2, 500 / n))
    return max(0.01, min(0.1, 2500 / n))


def hold_out(
    examples: Sequence[Example], *, seed: int, fraction: float | None = None, name: str = "select"
) -> tuple[list[Example], list[Example]]:
    """(kept, held out), both in their original order. `fraction` None: by `hold_out_fraction` of the number of units.

    Classes keep their shares; every class with two units or more keeps at least one on the kept side.
    """
    units = _units(examples)
    if len(units) < 2:
        raise DataError(f"{len(units)} training rows are too few to hold some out. Give more rows, or a dev file.")
    share = hold_out_fraction(len(units)) if fraction is None else fraction
    wanted = min(len(units) - 1, max(1, round(share * len(units))))
    chosen = _stratified([examples[unit[0]] for unit in units], wanted, seed, f"hold-out {name}")
    held = {row for unit in chosen for row in units[unit]}
    return [e for i, e in enumerate(examples) if i not in held], [e for i, e in enumerate(examples) if i in held]


def subset(examples: Sequence[Example], size: int, *, seed: int) -> list[Example]:
    """`size` of the rows, in their original order, with the classes in their shares."""
    if size >= len(examples):
        return list(examples)
    return [examples[i] for i in sorted(_stratified(examples, size, seed, "subset"))]


def _units(examples: Sequence[Example]) -> list[list[int]]:
    """Row numbers by group, in the order of first appearance."""
    groups: dict[object, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(i if example.group is None else example.group, []).append(i)
    return list(groups.values())


def _stratified(examples: Sequence[Example], wanted: int, seed: int, purpose: str) -> list[int]:
    """`wanted` row numbers, shared out over the classes by largest remainder, each class in its own seeded order."""
    strata: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        # only classes are strata: scores, sets of labels and tag sequences hardly ever repeat
        key = str(example.label) if type(example.label) is int else ""
        strata.setdefault(key, []).append(i)
    names = sorted(strata)
    exact = np.array([wanted * len(strata[name]) / len(examples) for name in names])
    shares = np.floor(exact).astype(int)
    for i in np.argsort(shares - exact, kind="stable")[: wanted - shares.sum()]:
        shares[i] += 1
    taken: list[int] = []
    for name, share in zip(names, shares, strict=True):
        order = permutation(len(strata[name]), seed, purpose, name)
        taken.extend(strata[name][i] for i in order[:share])
    return taken
