"""What was cut: the heads and the FFN neurons that each layer kept, and in which order layers are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.evaluate.verdict import percent
from understudy.report.svg import WIDTH, line, picture, rect, text

ROW = 19.0
HEADS = (22.0, 184.0)  # from left to right: names of layers, their heads, a bar for their neurons, its number
NEURONS = (206.0, 290.0)
USES = 12  # boxes in a row of the order of layers


def facts(net: Any) -> dict[str, Any] | None:
    """What the picture shows of a network, as plain data; None for a stock one.

    structure.json's content (models/structure_file.py) and, under `parameters`, what it has and what it would have uncut:
    of the layers alone ("encoder") and of everything ("total").
    """
    from understudy.models.structure import num_units
    from understudy.models.structure_file import content_of
    from understudy.students.sparsify import parameters_of

    content = content_of(net)
    if content is None:
        return None
    layers, uncut = len(content["layers"]), content["uncut"]
    counted = {}
    for count in ("encoder", "total"):
        cost = parameters_of(net, count=count)
        units = zip((*cost.per_head, *cost.per_neuron), (n for each in num_units(net) for n in each), strict=True)
        now = cost.rest + sum(each * number for each, number in units)
        # All layers were alike once; one that lost everything no longer tells what a unit costs, another one does.
        whole = cost.rest + layers * (max(cost.per_head) * uncut["heads"] + max(cost.per_neuron) * uncut["neurons"])
        counted[count] = [round(now), round(whole)]
    return {**content, "parameters": counted}


def structure(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The charts of the section and the sentences beside them; None where the student is a stock network."""
    if found is None:
        return None
    return {"cut": _cut(found), "order": _order(found), "lines": _sentences(found)}


def _cut(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """One row for each layer that holds weights, the first at the top."""
    layers, uncut, shape = found["layers"], found["uncut"], found["structure"]
    if "heads" not in shape and "neurons" not in shape:
        return None
    top = 16.0
    marks: list[Markup] = [
        text(HEADS[0], 6, f"{uncut['heads']} heads"),
        text(NEURONS[0], 6, f"of {uncut['neurons']:,} neurons"),
    ]
    for number, layer in enumerate(layers):
        y = top + ROW * number
        kept = shape.get("heads", [list(range(uncut["heads"]))] * len(layers))[number]
        marks.append(text(HEADS[0] - 6, y + ROW / 2, number + 1, anchor="end"))
        marks += _heads(number, kept, uncut["heads"], y)
        marks += _neurons(number, layer["neurons"], uncut["neurons"], y)
    heads, neurons = (sum(layer[kind] for layer in layers) for kind in ("heads", "neurons"))
    many = f"{heads:,} of {uncut['heads'] * len(layers):,} heads and {neurons:,} of {uncut['neurons'] * len(layers):,} neurons"
    return {"chart": picture(*marks, height=top + ROW * len(layers) + 2, label=f"{many} were kept"), "words": many}


def _heads(layer: int, kept: Sequence[int], whole: int, y: float) -> list[Markup]:
    """A box for each head, filled where it was kept."""
    cell = min((HEADS[1] - HEADS[0]) / whole, ROW - 2)
    gap = min(2.0, cell / 5)
    names = ", ".join(str(head + 1) for head in sorted(kept)) or "none"
    tip = f"layer {layer + 1}: {len(kept)} of {whole} heads kept ({names})"
    marks = []
    for head in range(whole):
        shape = {"rx": min(2.0, cell / 4), "data_tip": tip}
        x = HEADS[0] + head * cell
        marks.append(rect(x, y + 2, cell - gap, ROW - 5, "bar student" if head in kept else "track", **shape))
    return marks


def _neurons(layer: int, kept: int, whole: int, y: float) -> list[Markup]:
    """A bar as long as the share that was kept."""
    length = NEURONS[1] - NEURONS[0]
    tip = f"layer {layer + 1}: {kept:,} of {whole:,} neurons kept"
    return [
        rect(NEURONS[0], y + 4, length, ROW - 9, "track", rx=2, data_tip=tip),
        rect(NEURONS[0], y + 4, length * kept / whole, ROW - 9, "bar student", rx=2, data_tip=tip),
        text(WIDTH, y + ROW / 2, f"{kept:,}", anchor="end", class_="count"),
    ]


def _order(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The uses of layers from left to right, each in the colour of the layer whose weights it has."""
    schedule = found["structure"].get("schedule")
    if schedule is None:
        return None
    cell = WIDTH / USES
    marks: list[Markup] = []
    for use, (layer, exchanged) in enumerate(schedule):
        x, y = cell * (use % USES), 36.0 * (use // USES)
        swap = ", query and key exchanged" if exchanged else ""
        tip = f"use {use + 1}: weights of layer {layer + 1}{swap}"
        marks.append(rect(x + 1, y + 1, cell - 2, 30, f"cell s{layer % 8}", rx=4, data_tip=tip))
        marks.append(text(x + cell / 2, y + (13 if exchanged else 16), layer + 1, anchor="middle", class_="count strong"))
        if exchanged:
            marks.append(line(x + cell / 2 - 5, y + 24, x + cell / 2 + 5, y + 24, "whisker"))
    exchanges = sum(exchanged for _, exchanged in schedule)
    words = f"{len(schedule)} uses of {found['physical_layers']} layers"
    note = "a bar: query and key exchanged" if exchanges else ""
    height = 36.0 * -(-len(schedule) // USES)
    return {"chart": picture(*marks, height=height, label=f"{words}, {exchanges} with query and key exchanged"), "words": words,
            "note": note}  # fmt: skip


def _sentences(found: Mapping[str, Any]) -> list[str]:
    """Parameters twice, of the layers and of everything, so that nobody takes one for the other."""
    if "heads" not in found["structure"] and "neurons" not in found["structure"]:
        return []
    names = {"encoder": "of the layers", "total": "of everything, with embeddings and head, which are not cut"}
    said = []
    for count, name in names.items():
        now, whole = found["parameters"][count]
        said.append(f"{_millions(now)} of {_millions(whole)} parameters {name} ({percent(now / whole)})")
    return said


def _millions(number: float) -> str:
    return f"{number / 1e6:.2f} million" if number >= 1e6 else f"{number:,.0f}"
