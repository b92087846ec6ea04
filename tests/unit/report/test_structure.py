"""The picture of what was cut says what the network is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tiny_models

from understudy.evaluate.measure import num_parameters
from understudy.models.restructure import cut, restructure
from understudy.models.structure import Structure
from understudy.report.structure import facts, structure

HEADS = ((2, 0), (1, 2, 3), ())
NEURONS = (tuple(range(48)), (5,), tuple(range(8)))


@pytest.fixture
def net() -> Any:
    return tiny_models.tiny_net("bert", num_labels=2)


def filled(chart: str) -> list[str]:
    """Tips of everything drawn as kept."""
    return re.findall(r'class="(?:bar|cell) student"[^>]*data-tip="([^"]*)"', chart)


def test_a_stock_network_has_no_picture(net):
    assert facts(net) is None and structure(None) is None


def test_what_was_cut(net):
    inside = sum(p.numel() for layer in net.bert.encoder.layer for p in layer.parameters())
    everything = num_parameters(net)
    cut(net, heads=HEADS, neurons=NEURONS)
    found = facts(net)
    assert found is not None
    assert found["parameters"]["total"] == [num_parameters(net), everything]
    assert found["parameters"]["encoder"] == [inside - (everything - num_parameters(net)), inside]
    section = structure(found)
    assert section is not None
    heads, neurons = section["panels"]
    assert (heads["note"], neurons["note"]) == ("5 of 12 heads", "57 of 144 neurons")
    tips = [*filled(heads["chart"]), *filled(neurons["chart"])]
    assert tips.count("layer 1: 2 of 4 heads kept (1, 3)") == 2
    assert tips.count("layer 2: 3 of 4 heads kept (2, 3, 4)") == 3
    assert not any(tip.startswith("layer 3:") and "heads" in tip for tip in tips)
    assert "layer 3: 0 of 4 heads kept (none)" in heads["chart"]
    assert "layer 2: 1 of 48 neurons kept" in tips
    now, whole = found["parameters"]["encoder"]
    assert section["lines"][0].startswith(f"{now:,} of {whole:,} parameters of the layers")


def test_the_order_of_shared_layers(net):
    restructure(net, Structure(schedule=((0, False), (1, False), (2, False), (0, True), (1, True))))
    found = facts(net)
    assert found is not None and found["parameters"]["total"] == [num_parameters(net)] * 2
    section = structure(found)
    assert section is not None and section["lines"] == []
    (order,) = section["panels"]
    assert order["title"] == "5 uses of 3 layers"
    chart = order["chart"]
    assert chart.count('class="cell s0"') == 2 and chart.count('class="cell s2"') == 1
    assert "use 4: weights of layer 1, query and key exchanged" in chart and chart.count(" ⇄<") == 2


def test_both_at_once(net):
    restructure(net, Structure(HEADS, NEURONS, schedule=((0, False), (1, False), (2, False), (0, True))))
    section = structure(facts(net))
    assert section is not None and section["panels"][0]["note"] == "5 of 12 heads"
    assert section["panels"][-1]["title"] == "4 uses of 3 layers"
