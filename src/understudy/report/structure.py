"""What was cut: the heads and the FFN neurons that each layer kept, and in which order layers are applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.figures import charts, panel, section, table
from understudy.figures.words import megabytes, percent, score, short

MOST_CUTS = 12
USES = 12  # boxes in a row of the order of layers


def facts(net: Any) -> dict[str, Any] | None:
    """What the picture shows of a network, as plain data; None for a stock one.

    structure.json's content (models/restructure.py) and, under `parameters`, what it has and what it would have uncut:
    of the layers alone ("encoder") and of everything ("total").
    """
    from understudy.models.restructure import content_of, num_units
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
    """The section; None where the student is a stock network."""
    if found is None:
        return None
    lines = _sentences(found)
    if (rank := found["structure"].get("embedding_rank")) is not None:
        lines.append(f"word embeddings are of rank {rank}")
    return section(
        "structure",
        "What the student is made of",
        panels=[*_cut(found), _order(found)],
        lines=[f"{'; '.join(lines)}."] if lines else [],
    )


def cuts(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A section for each choice of layers by `student.keep: best`: the cuts that agree most, and the one that agrees least."""
    found = []
    for name, one in kept.items():
        if name.startswith("layers-"):
            ranked = one["cuts"]
            shown = ranked if len(ranked) <= MOST_CUTS else [*ranked[: MOST_CUTS - 1], ranked[-1]]
            rows = [[", ".join(map(str, layers)), f"{value:.3f}"] for layers, value in shown]
            line = (
                f"Correlation of the {one['by']} of each cut with those of the whole model, on {one['rows']} training rows "
                f"without their labels; {len(ranked)} cuts of {one['of']} layers were compared, and the first was kept."
            )
            found.append(section(name, "Which layers", tables=[table(["layers", "correlation"], rows)], lines=[line]))
    return found


def vocabulary(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The section on a smaller vocabulary, from `lab.vocabulary.vocabulary_facts`; None where the student has the whole one."""
    if found is None:
        return None
    rows = [[part, *(_weighed(sizes[part]) for sizes in found["parts"].values())] for part in ("embeddings", "layers", "head")]
    rows.append(["together", *(_weighed(sum(sizes.values())) for sizes in found["parts"].values())])
    tokens = found["tokens"]
    of = f" of {tokens['teacher']:,}" if "teacher" in tokens else ""
    lines = [f"{tokens['student']:,}{of} tokens were kept; sizes are of weights in fp32."]
    for test, share in found.get("spelled", {}).items():
        scores = "; ".join(f"{metric} {score(old)} → {score(new)}" for metric, (old, new) in found["scores"][test].items())
        lines.append(
            f"On {test} {share:.2%} of the teacher's tokens are spelled in smaller pieces. The teacher itself, with the "
            f"student's vocabulary and no further training: {scores}."
        )
    return section("vocabulary", "Where the parameters are", tables=[table(["part", *found["parts"]], rows)], lines=lines)


def _weighed(number: int) -> str:
    return f"{short(number)} ({megabytes(number * 4 / 1e6)})"


def _cut(found: Mapping[str, Any]) -> list[Any]:
    """Which heads, and how many neurons, each layer that holds weights kept: the first layer at the top."""
    layers, uncut, shape = found["layers"], found["uncut"], found["structure"]
    if "heads" not in shape and "neurons" not in shape:
        return []
    names = [f"layer {number + 1}" for number in range(len(layers))]
    heads, neurons, total = [], [], {"heads": 0, "neurons": 0}
    for number, layer in enumerate(layers):
        kept = shape.get("heads", [list(range(uncut["heads"]))] * len(layers))[number]
        which = ", ".join(str(head + 1) for head in sorted(kept)) or "none"
        tip = f"{names[number]}: {len(kept)} of {uncut['heads']} heads kept ({which})"
        heads.append([{"class": "student" if head in kept else "gone", "tip": tip} for head in range(uncut["heads"])])
        tip = f"{names[number]}: {layer['neurons']:,} of {uncut['neurons']:,} neurons kept"
        mark = {"value": layer["neurons"], "class": "student", "tip": tip}
        neurons.append({"name": names[number], "shown": f"{layer['neurons']:,}", "marks": [mark]})
        total = {kind: total[kind] + layer[kind] for kind in total}
    said = {kind: f"{total[kind]:,} of {uncut[kind] * len(layers):,} {kind}" for kind in total}
    shape = {"ends": (0, uncut["neurons"]), "left": 60, "row_height": 20, "track": True}
    boxes = charts.grid(heads, rows=names, label=f"{said['heads']} were kept", tallest=20)
    bars = charts.bar(neurons, label=f"{said['neurons']} were kept", **shape)
    return [panel("Heads kept in each layer", boxes, said["heads"]), panel("Neurons kept in each layer", bars, said["neurons"])]


def _order(found: Mapping[str, Any]) -> Any:
    """The uses of layers from left to right, each in the colour of the layer whose weights it has."""
    schedule = found["structure"].get("schedule")
    if schedule is None:
        return None
    cells = [
        {
            "class": f"s{layer % 8}", "shown": f"{layer + 1}{' ⇄' if exchanged else ''}", "strong": True,
            "tip": f"use {use + 1}: weights of layer {layer + 1}{', query and key exchanged' if exchanged else ''}",
        }
        for use, (layer, exchanged) in enumerate(schedule)
    ]  # fmt: skip
    rows = [cells[start : start + USES] for start in range(0, len(cells), USES)]
    exchanges = sum(exchanged for _, exchanged in schedule)
    words = f"{len(schedule)} uses of {found['physical_layers']} layers"
    chart = charts.grid(rows, rows=[""] * len(rows), label=f"{words}, {exchanges} with query and key exchanged")
    return panel(words, chart, "⇄: query and key exchanged" if exchanges else "")


def _sentences(found: Mapping[str, Any]) -> list[str]:
    """Parameters twice, of the layers and of everything, so that the two are not confused."""
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
