"""The legal space, the reward, the front and the costs (acceptance tests b and c of the method)."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from understudy.base.errors import RecipeError
from understudy.evaluate.measure import flops, num_parameters
from understudy.evaluate.significance import front
from understudy.methods.kdnas.reward import over_budget, reward
from understudy.methods.kdnas.settings import SpaceSettings
from understudy.methods.kdnas.space import Architecture, Costs, as_config, build_space, shape_of
from understudy.models.model import Model
from understudy.students.fresh import fresh

TEACHERS = {
    "bert-base": (12, 12, 768, 3072),
    "bert-small": (4, 8, 512, 2048),
    "bert-mini": (4, 4, 256, 1024),
    "xlm-r-large": (24, 16, 1024, 4096),
    "minilm-6": (6, 12, 384, 1536),
}


def config(name: str) -> dict:
    layers, heads, hidden, intermediate = TEACHERS[name]
    return {
        "num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden,
        "intermediate_size": intermediate, "hidden_act": "gelu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "preset"), [*((name, "teacher") for name in TEACHERS), ("bert-base", "kdnas-paper"), ("xlm-r-large", "kdnas-paper")]
)
def test_every_point_can_be_built_and_exceeds_nothing(name, preset):
    teacher = shape_of(config(name))
    space = build_space(config(name), SpaceSettings(preset=preset))
    assert len(space) > 10
    for point in space.points:
        assert point.hidden % point.heads == 0
        assert point.layers <= teacher.layers and point.heads <= teacher.heads
        assert point.hidden <= teacher.hidden and point.intermediate <= teacher.intermediate
    assert len(set(space.points)) == len(space)
    assert sum(space.refused.values()) + len(space) == space.combinations
    assert [space.number(point) for point in space.points] == list(range(len(space)))


def test_the_original_space_has_1200_points_below_bert_base_and_fewer_below_bert_small():
    assert len(build_space(config("bert-base"), SpaceSettings(preset="kdnas-paper"))) == 1200
    small = build_space(config("bert-small"), SpaceSettings(preset="kdnas-paper"))
    assert max(point.layers for point in small.points) == 4 and small.refused["above the teacher"] > 1000
    with pytest.raises(RecipeError, match=r"none of 1200 .* above the teacher \(1200\)"):
        build_space(config("bert-mini"), SpaceSettings(preset="kdnas-paper"))


def test_ratios_are_snapped_to_round_sizes():
    choices = build_space(config("bert-base")).choices
    assert choices["layers"] == choices["heads"] == (3, 4, 6, 8, 9, 12)
    assert choices["hidden"] == (384, 576, 768)
    assert choices["intermediate"] == (768, 1024, 1536, 2048, 2304, 3072)
    assert build_space(config("minilm-6")).choices["intermediate"] == (384, 512, 768, 1024, 1152, 1536)


@pytest.mark.parametrize("name", ["max_parameters", "max_flops"])
def test_budgets_are_kept_and_an_empty_space_says_why(name):
    def cost(point: Architecture) -> int:
        return point.layers * point.hidden

    costs = {name.removeprefix("max_"): cost}
    space = build_space(config("bert-mini"), SpaceSettings(**{name: 300}), **costs)
    assert {cost(point) <= 300 for point in space.points} == {True}
    assert space.refused[f"above {name}"] > 0
    assert f"above {name}" in space.describe()
    with pytest.raises(RecipeError, match=f"above {name}"):
        build_space(config("bert-mini"), SpaceSettings(**{name: 1}), **costs)
    with pytest.raises(RecipeError, match="may not exceed"):
        build_space(config("bert-mini"), SpaceSettings(layers=(2, 5)))


@given(st.data())
def test_the_nearest_point_is_legal_itself_where_possible_and_never_a_forbidden_one(data):
    space = build_space(config("bert-mini"))
    wanted = {name: data.draw(st.sampled_from(values)) for name, values in space.choices.items()}
    point = space.nearest(wanted, 0, "x")
    if Architecture(**wanted) in space.points:
        assert space[point] == Architecture(**wanted)
    other = space.nearest(wanted, 0, "x", without={point})
    assert other != point and space.nearest(wanted, 0, "x", without={point}) == other


def test_the_pinned_reward():
    assert reward(0.8, 0.03, 0.01, alpha=-0.06, beta=0.6**6) == pytest.approx(0.6231565465489873, rel=1e-12)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 1.2)), min_size=2, max_size=6),
    st.floats(0.01, 3), st.floats(0.01, 3),
)  # fmt: skip
def test_beta_changes_no_ranking_and_slowness_is_never_rewarded(candidates, one, other):
    def order(beta: float) -> list[int]:
        values = [round(np.log(reward(1 - loss, lat, 1.0, beta=beta)) + 0.06 * np.log(1 / beta), 9) for loss, lat in candidates]
        return list(np.argsort(values, kind="stable"))

    assert order(one) == order(other)
    for loss, latency in candidates:
        assert reward(1 - loss, latency / 2, 1.0) > reward(1 - loss, latency, 1.0) > 0 > over_budget(2.0, 1.0)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_the_front_is_who_nobody_dominates(rows):
    quality, time, size = (list(column) for column in zip(*rows, strict=True))

    def beats(a: int, b: int) -> bool:
        at_least = quality[a] >= quality[b] and time[a] <= time[b] and size[a] <= size[b]
        return at_least and rows[a] != rows[b]

    expected = {b for b in range(len(rows)) if not any(beats(a, b) for a in range(len(rows)))}
    assert set(front(quality, time, size)) == expected


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert", "modernbert"])
def test_costs_are_those_of_the_real_network(family):
    teacher = Model(tiny_models.tiny_net(family, "text"), tiny_models.tiny_tokenizer(), (), "text", family, None)
    costs = Costs(teacher, length=16)
    for point in (Architecture(1, 4, 16, 48, "relu"), Architecture(3, 4, 32, 24, "silu")):
        net = fresh(teacher, as_config(point, teacher.net.config), seed=0).net
        assert costs.parameters(point) == num_parameters(net)
        assert costs.flops(point) == flops(net, batch_size=1, length=16)
