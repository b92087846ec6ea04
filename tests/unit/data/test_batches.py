from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.batches import evaluation_batches, micro_batches, training_batches

LENGTHS = np.random.default_rng(0).integers(3, 120, size=1003)


@pytest.mark.parametrize("grouping", ["none", "length"])
def test_an_epoch_has_every_example_once_and_depends_on_seed_and_epoch_alone(grouping):
    def epoch(seed: int, number: int) -> list[list[int]]:
        batches = training_batches(LENGTHS, batch_size=32, seed=seed, epoch=number, grouping=grouping)
        return [batch.tolist() for batch in batches]

    batches = epoch(1, 0)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert sorted(map(len, batches)) == [11] + [32] * 31
    assert epoch(1, 0) == batches
    assert epoch(1, 1) != batches != epoch(2, 0)


def test_grouping_puts_like_lengths_together_and_keeps_the_order_random():
    def spread(grouping: str) -> float:
        batches = training_batches(LENGTHS, batch_size=8, seed=0, epoch=0, grouping=grouping)
        return float(np.mean([np.ptp(LENGTHS[batch]) for batch in batches]))

    assert spread("length") < spread("none") / 5
    means = [LENGTHS[b].mean() for b in training_batches(LENGTHS, batch_size=8, seed=0, epoch=0, grouping="length")]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), budget=st.integers(1, 200))
def test_micro_batches_are_a_partition_within_the_budget(lengths, budget):
    chosen = np.arange(len(lengths))[::-1]
    parts = micro_batches(chosen, lengths, max_tokens=budget)
    assert sorted(i for part in parts for i in part.tolist()) == list(range(len(lengths)))
    for part in parts:
        longest = max(lengths[i] for i in part)
        assert len(part) * longest <= budget or len(part) == 1
    flat = [lengths[i] for part in parts for i in part]
    assert flat == sorted(flat, reverse=True)


def test_evaluation_batches():
    parts = evaluation_batches([4, 9, 4, 2], max_tokens=10)
    assert [part.tolist() for part in parts] == [[1], [0, 2], [3]]
