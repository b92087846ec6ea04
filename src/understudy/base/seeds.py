"""The only file that touches a random generator.

Randomness is a function of (seed, names), never of history: whoever needs random numbers says what for, and gets the
same ones whenever, wherever and however often it asks. That is why no generator state is ever stored in a checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive(seed: int, *names: object) -> int:
    """A 63-bit integer that depends on the seed and on every name, and on nothing else.

    >>> derive(0, "fit", 3) == derive(0, "fit", 3), derive(0, "fit", 3) == derive(1, "fit", 3)
    (True, False)
    """
    text = "\x1f".join([str(int(seed)), *(str(name) for name in names)])
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_rng(seed: int, *names: object) -> np.random.Generator:
    """A numpy generator of its own for this purpose."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))


def permutation(n: int, seed: int, *names: object) -> np.ndarray:
    """The order (n,) int64 in which to visit n things: a pure function of its arguments."""
    return numpy_rng(seed, *names).permutation(n)


def seed_step(seed: int, *names: object) -> None:
    """Seed torch (all devices) for what follows: called once at the start of each optimiser step."""
    import torch

    torch.manual_seed(derive(seed, *names))


@contextmanager
def torch_seed(seed: int, *names: object) -> Iterator[None]:
    """Seed torch inside the block and put its state back afterwards: for initialising weights."""
    import torch

    before = torch.random.get_rng_state()
    try:
        torch.manual_seed(derive(seed, *names))
        yield
    finally:
        torch.random.set_rng_state(before)
