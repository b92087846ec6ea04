from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.base.errors import RecipeError
from understudy.data.batches import Order, evaluation_batches, micro_batches, training_batches
from understudy.recipe.settings import TrainSettings

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


def order(lengths: list[int], **settings: object) -> Order:
    return Order(np.array(lengths), TrainSettings(**settings), seed=3)  # type: ignore[arg-type]


def test_batches_of_tokens_take_every_row_once_an_epoch_and_are_found_by_arithmetic() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 17, size=57)
    total = int(lengths.sum())
    made = order(lengths.tolist(), batch_tokens=32, tokens=3 * total)
    assert made.planned == -(-3 * total // 32)
    taken = [made.batch(step)[1] for step in range(made.planned)]
    assert all(len(rows) for rows in taken)
    stream = np.concatenate(taken)[: 3 * 57]
    for epoch in range(3):
        assert sorted(stream[57 * epoch : 57 * (epoch + 1)]) == list(range(57))
    assert list(stream[:57]) != list(stream[57:114])
    ends = np.cumsum([lengths[rows].sum() for rows in taken])
    assert (np.abs(ends - 32 * np.arange(1, made.planned + 1)) < 16).all()  # never off by more than a row
    alone = order(lengths.tolist(), batch_tokens=32, tokens=3 * total)
    for step in (40, 7, 21):  # in any order, without the steps before
        assert alone.batch(step)[0] == step * 32 // total and np.array_equal(alone.batch(step)[1], taken[step])


def test_batches_of_rows_are_those_of_their_epoch() -> None:
    made = order([3] * 10, batch_size=4, epochs=2)
    assert (made.steps_per_epoch, made.planned, made.course) == (3, 6, 6)
    expected = training_batches([3] * 10, batch_size=4, seed=3, epoch=1)
    assert made.batch(4)[0] == 1 and np.array_equal(made.batch(4)[1], expected[1])


def test_a_row_longer_than_a_batch_of_tokens_is_refused() -> None:
    with pytest.raises(RecipeError, match="a row has 40 tokens"):
        order([40, 2], batch_tokens=32)
    with pytest.raises(ValueError, match="batch_tokens"):
        TrainSettings(tokens=100)
