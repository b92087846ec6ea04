"""Allocations against the published table, a literal ranking, and what is promised of every sparsity."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from understudy.base.errors import RecipeError
from understudy.base.seeds import numpy_rng
from understudy.students.allocation import Allocation, LinearCost, Scores, allocate, fit_budget


def random_scores(layers: int = 12, heads: int = 12, neurons: int = 3072, *, seed: int = 0) -> Scores:
    """Layers of very different size: that of one is up to a thousand times that of another."""
    draw = numpy_rng(seed, "scores")
    scale = 10 ** draw.uniform(-2, 1, layers)
    return Scores(
        tuple(draw.gamma(2.0, size=heads) * s for s in scale), tuple(draw.gamma(2.0, size=neurons) * s for s in scale)
    )


def kept(allocation) -> tuple[int, int]:
    heads, neurons = zip(*allocation.widths, strict=True)
    return sum(heads), sum(neurons)


# sparsity -> heads of 144, neurons of 36,864, millions of parameters in the encoder: docs of the method, BERT-base
TABLE = {
    0.5: (72, 18432, 42.55),
    0.6: (58, 14746, 34.13),
    0.7: (43, 11059, 25.52),
    0.8: (29, 7373, 17.09),
    0.85: (22, 5530, 12.88),
    0.9: (14, 3686, 8.48),
    0.95: (7, 1843, 4.27),
}
WIDTH, HEAD = 768, 64
BERT_BASE = LinearCost(
    per_head=(3 * HEAD * (WIDTH + 1) + HEAD * WIDTH,) * 12,
    per_neuron=(2 * WIDTH + 1,) * 12,
    rest=12 * (WIDTH + WIDTH + 4 * WIDTH),  # output biases and two norms
)


@pytest.mark.parametrize("sparsity", TABLE)
def test_the_published_table(sparsity: float):
    heads, neurons, millions = TABLE[sparsity]
    scores = random_scores()
    single = allocate(scores, sparsity, multiple=1)
    assert kept(single) == (heads, neurons)
    assert BERT_BASE(single) / 1e6 == pytest.approx(millions, abs=0.005)

    blocks = allocate(scores, sparsity)
    assert kept(blocks)[0] == heads and abs(kept(blocks)[1] - neurons) <= 4
    assert all(width % 8 == 0 for _, width in blocks.widths)

    released = allocate(scores, sparsity, parity=True)
    assert [h for h, _ in released.widths] == [h for h, _ in single.widths]
    pairs = zip(released.widths, single.widths, strict=True)
    assert all(wide % 8 == 0 and abs(wide - exact) <= 4 for (_, wide), (_, exact) in pairs)
    assert single.keeps_bias and blocks.keeps_bias and not released.keeps_bias


def literal(layers: tuple[np.ndarray, ...], removed: int) -> list[set[int]]:
    """The ranking as one would do it by hand: all units of all layers in one list, the lowest struck out one by one."""
    units = []
    for layer, scores in enumerate(layers):
        norm = sum(float(score) ** 2 for score in scores) ** 0.5
        units += [(float(score) / norm, layer, unit) for unit, score in enumerate(scores)]
    gone = {(layer, unit) for _, layer, unit in sorted(units)[:removed]}
    return [{unit for unit in range(len(scores)) if (layer, unit) not in gone} for layer, scores in enumerate(layers)]


@pytest.mark.parametrize("seed", range(3))
def test_the_lowest_of_all_layers_go(seed: int):
    scores = random_scores(4, 5, 30, seed=seed)
    found = allocate(scores, 0.65, multiple=1)
    assert [set(layer) for layer in found.heads] == literal(scores.heads, 13)
    assert [set(layer) for layer in found.neurons] == literal(scores.neurons, 78)
    for layer, units in zip(scores.neurons, found.neurons, strict=True):  # most important first
        assert all(layer[a] >= layer[b] for a, b in pairwise(units))


OPTIONS = [
    {},
    {"multiple": 1},
    {"multiple": 16, "min_heads": 1, "min_neurons": 20},
    {"uniform": True},
    {"uniform": True, "multiple": 1, "min_heads": 2},
    {"parity": True},
]


def contains(larger: Allocation, smaller: Allocation) -> bool:
    """Whether the smaller is a prefix of the larger in every layer."""
    pairs = zip((*larger.heads, *larger.neurons), (*smaller.heads, *smaller.neurons), strict=True)
    return all(mine[: len(other)] == other for mine, other in pairs)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_smaller_students_are_contained_in_larger_ones(options: dict):
    scores = random_scores(5, 6, 52)  # 52 is no multiple of 8
    steps = [allocate(scores, s, **options) for s in np.linspace(0, 0.999, 60)]
    assert steps[0].widths == [(6, 52)] * 5
    for larger, smaller in pairwise(steps):
        assert contains(larger, smaller)
    assert contains(steps[30], steps[40]) and not contains(steps[40], steps[30])
    least_heads, least_neurons = options.get("min_heads", 0), options.get("min_neurons", 0)
    assert all(heads >= least_heads and neurons >= least_neurons for heads, neurons in steps[-1].widths)


def test_of_equal_scores_lower_layers_lose_first():
    equal = Scores((np.ones(4),) * 3, (np.ones(16),) * 3)
    assert allocate(equal, 0.5).widths == [(0, 0), (2, 8), (4, 16)]
    assert allocate(equal, 0.5).heads == ((), (0, 1), (0, 1, 2, 3))


@pytest.mark.parametrize(("sparsity", "lost"), [(0.25, 2), (0.35, 4), (0.45, 4), (0.55, 6), (0.7, 7)])
def test_halves_are_rounded_to_even(sparsity: float, lost: int):
    scores = random_scores(1, 10, 10)
    assert kept(allocate(scores, sparsity, multiple=1)) == (10 - lost, 10 - lost)


def test_decimal_sparsities_mean_what_they_say():
    assert 0.7 * 45 < 31.5  # in binary; as written it is a half, and goes to the even 32
    assert kept(allocate(random_scores(1, 45, 45), 0.7, multiple=1)) == (13, 13)


def test_uniform_takes_the_same_of_every_layer():
    assert set(allocate(random_scores(), 0.5, uniform=True).widths) == {(6, 1536)}
    assert set(allocate(random_scores(), 0.9, uniform=True).widths) == {(1, 304)}


def test_released_rounding_never_goes_below_nothing():
    scores = random_scores(2, 2, 12)
    assert all(neurons in (0, 12) for s in (0.3, 0.6, 0.99) for _, neurons in allocate(scores, s, parity=True).widths)


def test_a_layer_without_any_slope_is_the_first_to_go():
    scores = Scores((np.zeros(2), np.ones(2)), (np.zeros(8), np.ones(8)))
    assert allocate(scores, 0.5).widths == [(0, 0), (2, 8)]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 90, float("nan")])
def test_a_share_is_a_share(sparsity: float):
    with pytest.raises(RecipeError, match=r"student\.sparsity is .* at least 0 and below 1"):
        allocate(random_scores(), sparsity)


def test_a_floor_cannot_be_above_what_there_is():
    with pytest.raises(RecipeError, match=r"student\.prune\.min_heads is 20, but a layer has no more than 12 heads"):
        allocate(random_scores(), 0.5, min_heads=20)
    with pytest.raises(RecipeError, match=r"min_neurons is 4000, but a layer has no more than 3072 neurons"):
        allocate(random_scores(), 0.5, min_neurons=4000)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(RecipeError, match="layer 1 are not finite"):
        Scores((np.ones(2), np.array([1.0, np.nan])), (np.ones(2), np.ones(2)))


def test_a_budget_is_used_up_to_the_last_block():
    at = partial(allocate, random_scores())
    found = fit_budget(at, BERT_BASE, 20e6, what="student.prune.budget.parameters")
    assert BERT_BASE(found) <= 20e6 < BERT_BASE(found) + max(BERT_BASE.per_head)
    assert BERT_BASE(at(found.sparsity - 1e-6)) > 20e6 or found.widths == at(found.sparsity - 1e-6).widths


def test_a_budget_that_everything_fits_cuts_nothing():
    at = partial(allocate, random_scores())
    assert fit_budget(at, BERT_BASE, 86e6, what="x").widths == [(12, 3072)] * 12


def test_a_budget_below_what_must_stay_is_refused_with_what_is_left():
    at = partial(allocate, random_scores(), min_heads=1)
    with pytest.raises(RecipeError, match=r"student\.prune\.budget\.parameters is 100,000, but .* still 2,416,896 "):
        fit_budget(at, BERT_BASE, 1e5, what="student.prune.budget.parameters")


def test_a_measured_budget_is_asked_few_times():
    asked = []

    def milliseconds(allocation) -> float:
        asked.append(allocation.sparsity)
        return 1 + 10 * (1 - allocation.sparsity) + 0.01 * (-1) ** len(asked)  # noise

    found = fit_budget(partial(allocate, random_scores()), milliseconds, 4.0, what="x", steps=6)
    assert found.sparsity == pytest.approx(0.7, abs=0.03) and len(asked) == 8
