import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.base.schedule import Ramp, extremes, scaled, value_at


def test_constants_and_ramps():
    assert value_at(2, 0.7) == 2.0
    ramp = Ramp(1.0, 0.0, until=0.5)
    assert [value_at(ramp, p) for p in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.5, 0.0, 0.0]
    cosine = Ramp(0.0, 4.0, "cosine")
    assert [value_at(cosine, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 2.0, 4.0])
    assert value_at(cosine, 0.25) == pytest.approx(4 * (1 - 2**-0.5) / 2)


@given(
    st.floats(0, 10), st.floats(0, 10), st.sampled_from(["linear", "cosine"]), st.floats(0.01, 1), st.floats(-0.5, 1.5)
)
def test_a_ramp_stays_between_its_ends(start, end, shape, until, progress):
    ramp = Ramp(start, end, shape, until)
    low, high = extremes(ramp)
    assert low - 1e-9 <= value_at(ramp, progress) <= high + 1e-9
    assert value_at(scaled(ramp, 3.0), progress) == pytest.approx(3 * value_at(ramp, progress), abs=1e-9)


@pytest.mark.parametrize("fields", [{"shape": "square"}, {"until": 0.0}, {"until": 1.5}])
def test_impossible_ramps_are_refused(fields):
    with pytest.raises(ValueError):
        Ramp(0.0, 1.0, **fields)
