from __future__ import annotations

from collections import Counter

import pytest

from understudy.base.errors import DataError
from understudy.data.split import hold_out, hold_out_fraction, subset
from understudy.data.types import Example


def rows(counts: dict[int, int]) -> list[Example]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [Example(str(i), text="t", label=label) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("n", "fraction"), [(100, 0.2), (4000, 0.125), (4999, 500 / 4999), (5000, 0.1), (104743, 0.02387)]
)
def test_the_rule_of_sizes(n, fraction):
    assert hold_out_fraction(n) == pytest.approx(fraction, rel=1e-3)
    assert hold_out_fraction(10**7) == 0.01


def test_hold_out_is_seeded_stratified_and_complete():
    examples = rows({0: 300, 1: 100, 2: 1})
    train, held = hold_out(examples, seed=3)
    assert len(held) == 80 and Counter(e.label for e in held)[0] in (59, 60)
    assert 2 in {e.label for e in train}  # the only row of a class stays where it can be learned
    assert sorted(train + held, key=lambda e: int(e.id)) == examples
    assert [int(e.id) for e in held] == sorted(int(e.id) for e in held)
    assert hold_out(examples, seed=3) == (train, held)
    assert hold_out(examples, seed=4)[1] != held


def test_groups_are_never_separated():
    examples = [
        Example(f"{language}-{i}", text="t", label=i % 2, group=f"g{i}")
        for language in ("de", "en", "fr")
        for i in range(50)
    ]
    train, held = hold_out(examples, seed=0, fraction=0.3)
    assert len(held) == 45
    assert not {e.group for e in train} & {e.group for e in held}
    assert Counter(e.label for e in held) in ({0: 24, 1: 21}, {0: 21, 1: 24})


def test_scores_and_tags_need_no_strata():
    examples = [Example(str(i), words=("a",), label=(i % 3,)) for i in range(20)]
    train, held = hold_out(examples, seed=0, fraction=0.5)
    assert len(train) == len(held) == 10


def test_too_few_rows():
    with pytest.raises(DataError, match="1 training rows are too few"):
        hold_out(rows({0: 1}), seed=0)
    train, held = hold_out(rows({0: 1, 1: 1}), seed=0, fraction=0.9)
    assert (len(train), len(held)) == (1, 1)


def test_subset_keeps_shares_and_order():
    examples = rows({0: 750, 1: 250})
    chosen = subset(examples, 100, seed=1)
    assert Counter(e.label for e in chosen) == {0: 75, 1: 25}
    assert [int(e.id) for e in chosen] == sorted(int(e.id) for e in chosen)
    assert chosen == subset(examples, 100, seed=1) != subset(examples, 100, seed=2)
    assert subset(examples, 5000, seed=1) == examples
