"""Which heads and neurons stay: one ranking over all layers, cut off at any sparsity, rate or budget. Numpy only.

Heads and neurons are ranked apart, each over all layers at once, by their scores divided by the layer's norm; of both the
same share goes (MiniDisc, arXiv 2205.14570). The ranking does not depend on the sparsity, so smaller students are
contained in larger ones. Layers are physical: a layer that is applied several times is ranked and counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.base.errors import RecipeError

Units = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Scores:
    """How much each head and each neuron matters, at least 0: one array per physical layer, (H,) and (F,)."""

    heads: tuple[np.ndarray, ...]
    neurons: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        for layer, array in enumerate((*self.heads, *self.neurons)):
            if not np.isfinite(array).all():
                raise RecipeError(
                    f"The importance scores of layer {layer % len(self.heads)} are not finite: the model's loss "
                    "overflows on these rows. Check the weights of the teacher, or choose another one."
                )

    @classmethod
    def alike(cls, num_heads: Sequence[int], num_neurons: Sequence[int]) -> Scores:
        """All heads and all neurons matter the same: for networks whose importance is not known yet."""
        return cls(tuple(map(np.ones, num_heads)), tuple(map(np.ones, num_neurons)))

    def normalised(self, epsilon: float = 1e-17) -> Scores:
        """Every layer divided by its Euclidean norm, so that layers with large gradients do not dominate."""

        def each(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            return tuple(array / (np.linalg.norm(array) + epsilon) for array in map(_exact, arrays))

        return Scores(each(self.heads), each(self.neurons))


@dataclass(frozen=True)
class Allocation:
    """What stays of each physical layer: numbers of heads and neurons in the original, most important first."""

    sparsity: float
    heads: Units
    neurons: Units
    keeps_bias: bool = True
    """A block that lost everything still adds its output bias; as released (parity) that goes too."""

    @property
    def widths(self) -> list[tuple[int, int]]:
        """(heads, neurons) of each layer: the prefix this is of the reordered network."""
        return [(len(heads), len(neurons)) for heads, neurons in zip(self.heads, self.neurons, strict=True)]


@dataclass(frozen=True)
class LinearCost:
    """A cost to which every head and every neuron of a layer adds the same: parameters, or operations per input."""

    per_head: tuple[float, ...]
    per_neuron: tuple[float, ...]
    rest: float

    def __call__(self, allocation: Allocation) -> float:
        heads, neurons = zip(*allocation.widths, strict=True)
        return self.rest + float(np.dot(self.per_head, heads) + np.dot(self.per_neuron, neurons))


def allocate(
    scores: Scores,
    sparsity: float,
    *,
    min_heads: int = 0,
    min_neurons: int = 0,
    uniform: bool = False,
    multiple: int = 8,
    parity: bool = False,
) -> Allocation:
    """What a student keeps after losing the share `sparsity` of all heads and of all neurons (embeddings are not counted).

    Numbers are rounded half to even; of equal scores those of lower layers go first, and within a layer later units.

    Args:
        scores: of the whole network, not yet normalised.
        sparsity: in [0, 1).
        min_heads, min_neurons: what every layer keeps at least, whatever its scores.
        uniform: take the same share of every layer, rather than one ranking over all of them.
        multiple: neurons of a layer go in blocks of so many (fast matrix products want multiples of 8), ranked by the
            mean of their scores; the total still comes within half a block of the target.
        parity: rank single neurons, then round what each layer loses to a multiple of 8, letting the total drift; a
            block that lost everything loses its output bias too.

    Raises:
        RecipeError: a sparsity out of range, or more units to keep than there are.
    """
    # Deviates: as released the numbers are rounded layer by layer, which neither hits the target nor is defined for
    # heads whose size is not a multiple of 8. Blocks of neurons are nested, whole heads are whole, and the total is right.
    if not 0 <= sparsity < 1:
        raise RecipeError(f"student.sparsity is {sparsity:g}; it is the share that goes, at least 0 and below 1.")
    for name, floor, layers in (("heads", min_heads, scores.heads), ("neurons", min_neurons, scores.neurons)):
        if floor > (most := max(map(len, layers))):
            raise RecipeError(f"student.prune.min_{name} is {floor}, but a layer has no more than {most} {name}.")
    level = scores.normalised()
    heads = _kept(level.heads, sparsity, floor=min_heads, block=1, uniform=uniform)
    neurons = _kept(level.neurons, sparsity, floor=min_neurons, block=1 if parity else multiple, uniform=uniform)
    if parity:
        # As released: what goes is rounded rather than what stays, and a layer left with fewer than 8 loses them too.
        neurons = [len(layer) - 8 * round((len(layer) - kept) / 8) for layer, kept in zip(level.neurons, neurons, strict=True)]
        neurons = [kept if kept >= 8 else 0 for kept in neurons]
    return Allocation(sparsity, _best(level.heads, heads), _best(level.neurons, neurons), keeps_bias=not parity)


def fit_budget(
    at: Callable[[float], Allocation],
    cost: Callable[[Allocation], float],
    limit: float,
    *,
    what: str,
    steps: int = 40,
) -> Allocation:
    """The least sparsity whose cost is within a limit, by bisection.

    Args:
        at: sparsity -> allocation.
        cost: parameters, operations, or a measured time; it must not grow with the sparsity, noise aside.
        what: the recipe key and unit of the limit, for the message.
        steps: halvings of the interval; use few where the cost is measured.

    Raises:
        RecipeError: even without all heads and neurons that may go the cost is above the limit.
    """
    # The largest sparsity below 1: all that may go is gone, and what `min_heads` and `min_neurons` protect is there.
    whole, least = at(0.0), at(float(np.nextafter(1, 0)))
    if cost(whole) <= limit:
        return whole
    if (reached := cost(least)) > limit:
        raise RecipeError(
            f"{what} is {_shown(limit)}, but with all heads and neurons cut that may be cut it is still {_shown(reached)} "
            "(embeddings, norms and the head stay). Raise it, or drop layers too (student.num_layers)."
        )
    low, high, best = 0.0, least.sparsity, least
    for _ in range(steps):
        middle = (low + high) / 2
        allocation = at(middle)
        if cost(allocation) <= limit:
            high, best = middle, allocation
        else:
            low = middle
    return best


def _kept(layers: Sequence[np.ndarray], sparsity: float, *, floor: int, block: int, uniform: bool) -> list[int]:
    """How many units each layer keeps."""
    sizes = [len(layer) for layer in layers]
    if uniform:
        wanted = [size - _rounded(sparsity * size) for size in sizes]
        whole = [n if n == size else block * round(n / block) for n, size in zip(wanted, sizes, strict=True)]
        return [min(size, max(n, floor)) for n, size in zip(whole, sizes, strict=True)]
    means, owners, counts = [], [], []
    for number, layer in enumerate(layers):
        starts = np.arange(0, len(layer), block)
        lengths = np.diff(starts, append=len(layer))
        free = starts >= floor
        blocks = np.add.reduceat(np.sort(layer)[::-1], starts) / lengths if len(layer) else starts
        means.append(blocks[free][::-1])  # the sort below is stable: of equal blocks the last goes first
        counts.append(lengths[free][::-1])
        owners.append(np.full(free.sum(), number))
    worst_first = np.argsort(np.concatenate(means), kind="stable")
    owner, count = np.concatenate(owners)[worst_first], np.concatenate(counts)[worst_first]
    gone = np.concatenate([[0], np.cumsum(count)])
    # Blocks do not add up to every number: the nearest that can be reached, above or below.
    cut = int(np.argmin(np.abs(gone - _rounded(sparsity * sum(sizes)))))
    lost = np.zeros(len(layers), dtype=np.int64)
    np.add.at(lost, owner[:cut], count[:cut])
    return [size - int(number) for size, number in zip(sizes, lost, strict=True)]


def _best(layers: Sequence[np.ndarray], kept: Sequence[int]) -> Units:
    orders = (np.argsort(-layer, kind="stable") for layer in layers)
    return tuple(tuple(order[:number].tolist()) for order, number in zip(orders, kept, strict=True))


def _rounded(number: float) -> int:
    """Half to even, after what binary fractions add to decimal ones: 0.7 of 45 is 31.5, not 31.499999999999996."""
    return round(round(number, 6))


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _exact(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=np.float64)
