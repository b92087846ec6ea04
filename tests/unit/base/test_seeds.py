"""Randomness is a function of seed and names, never of history."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

from understudy.base import seeds


def test_derive_depends_on_everything_and_nothing_else():
    keys = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, "a", 1), (0, "a", 11), (0, "a1"), (-1,)]
    found = {seeds.derive(*key) for key in keys}
    assert len(found) == len(keys)
    assert all(0 <= value < 2**63 for value in found)


def test_derive_is_the_same_in_every_process():
    """A golden value: a change of it would change every run anybody has made."""
    assert seeds.derive(0, "step", 3, 0) == 1169858241674351513
    code = "from understudy.base.seeds import derive; print(derive(0, 'step', 3, 0))"
    for hash_seed in ("0", "1"):
        printed = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert int(printed.stdout) == seeds.derive(0, "step", 3, 0)


def test_permutations():
    one, again, other = (seeds.permutation(50, 0, "order", epoch) for epoch in (0, 0, 1))
    assert sorted(one) == list(range(50))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_a_step_is_seeded_whatever_came_before():
    seeds.seed_step(0, "step", 5)
    one = torch.rand(3)
    torch.rand(100)
    seeds.seed_step(0, "step", 5)
    assert torch.equal(torch.rand(3), one)
    seeds.seed_step(0, "step", 6)
    assert not torch.equal(torch.rand(3), one)


def test_initialising_weights_leaves_no_trace():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeds.torch_seed(0, "head"):
        one = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeds.torch_seed(0, "head"):
        assert torch.equal(torch.rand(3), one)
