"""What makes a student small: which layers, which tokens, which shape. One teacher, one split, one training for all.

Layers: three, by rule or the best cut, of the checkpoint and of the fine-tuned teacher. Tokens: all, those in use, 12,000.
Shapes: a stock one that is 2, 4 and 10 times as fast as the teacher here, and one cut unevenly that is as fast as that one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import compare
from record import ENCODER, RESULTS, Record, Run, circumstances, read, spread, table

from understudy.evaluate.verdict import headline

RECIPE = "recipes/glue/mrpc-automm.yaml"
TASKS = compare.TASKS
SPEEDS = (2, 4, 10)
LAYERS = {
    "first-pretrained": ("0, 2, 4 of the checkpoint", {"num_layers": 3}),
    "best-pretrained": ("best three of the checkpoint", {"num_layers": 3, "keep": "best"}),
    "first-teacher": ("0, 2, 4 of the teacher", {"num_layers": 3, "init": "teacher"}),
    "best-teacher": ("best three of the teacher", {"num_layers": 3, "keep": "best", "init": "teacher"}),
}
TOKENS = {
    "tokens-used": ("0, 2, 4 of the checkpoint, tokens in use", {"num_layers": 3, "vocabulary": "used"}),
    "tokens-12000": ("0, 2, 4 of the checkpoint, 12,000 tokens", {"num_layers": 3, "vocabulary": 12000}),
}
SHAPES = {
    **{f"stock-{times}x": f"stock shape, {times} times as fast" for times in SPEEDS},
    **{f"uneven-{times}x": f"heads and neurons cut unevenly, as fast as stock at {times}" for times in SPEEDS},
}
VARIANTS = {name: words for name, (words, _) in (LAYERS | TOKENS).items()} | SHAPES
"""Name -> words of the page."""


def runs(given: argparse.Namespace) -> Iterator[Run]:
    """Every variant of every task with two seeds; an uneven student is made to be as fast as the stock one was."""
    kept = RESULTS / "small"
    for task in given.tasks or TASKS:
        _, folder, changes = TASKS[task]
        own = [change for change in changes if not change.startswith("compare.")]
        fixed = [f"teacher.model={ENCODER}", "teacher.seed=0", "task.split_seed=0", "evaluate.baseline=false",
                 "evaluate.latency={length: 128, threads: 1}", f"task.path={given.data / folder}"]  # fmt: skip
        for seed in given.seeds or (0, 1):
            for variant in given.variants or VARIANTS:
                made = _changes(variant, kept / f"{task}-{variant.replace('uneven', 'stock')}-s{seed}.json")
                if made is None:
                    continue
                about = {"recipe_name": task, "variant": variant}
                arguments = [RECIPE, *own, *fixed, f"seed={seed}", *made, *given.settings]
                yield Run(f"{task}-{variant}-s{seed}", arguments, about, after=_after)


def _changes(variant: str, stock: Path) -> list[str] | None:
    """What a variant changes of the recipe; None where the stock student it is compared with is not there yet."""
    if variant in LAYERS | TOKENS:
        return [f"student={_flow((LAYERS | TOKENS)[variant][1])}"]
    shape, _, times = variant.partition("-")
    if shape == "stock":
        return ["student={searched: true}", f"method={{name: auto, faster: {times[:-1]}}}"]
    if not stock.exists():
        return None
    limit = json.loads(stock.read_text())["student"]["latency_ms"]["median"]
    return [f"student={{prune: {{budget: {{latency_ms: {limit:.3f}}}}}, vocabulary: used}}"]


def _flow(section: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in section.items()) + "}"


def _after(file: Path, folder: Path) -> None:
    """What was chosen on the way, from the steps of the run."""
    record = json.loads(file.read_text())
    if "decided" not in record and folder.is_dir():
        marks = [mark for name in ("layers-*", "vocabulary") for mark in sorted(folder.glob(f"steps/{name}/done.json"))]
        record["decided"] = {mark.parent.name: json.loads(mark.read_text())["value"] for mark in marks}
        file.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    records = list(read(kept).values())
    if not records:
        return []
    lines = [
        "# Small students: layers, tokens, shapes",
        "",
        "Measured by `python benchmarks/run.py small`; kept in `results/small/`, each run with its command. On each task all",
        "variants share teacher, split and course of training ([small students](small.md)). Score in points, mean ± deviation",
        "over seeds; an uneven student got the time of the stock student of the same speed (batch 1, 128 tokens, one thread,",
        "PyTorch).",
        "",
        *circumstances(records[0]),
    ]
    for task, (title, *_) in TASKS.items():
        if found := [record for record in records if record["recipe_name"] == task]:
            lines += ["", f"## {title}", "", *_task(found)]
    return lines


def _task(records: list[Record]) -> list[str]:
    test, metric = headline(records[0])
    teacher = records[0]["teacher"]
    rows = [["the teacher", f"{100 * teacher['metrics'][test][metric]['value']:.1f}", "", *_costs([teacher], [teacher])]]
    for variant, words in VARIANTS.items():
        if found := [record for record in records if record["variant"] == variant]:
            scores = [100 * record["student"]["metrics"][test][metric]["value"] for record in found]
            costs = _costs([record["student"] for record in found], [record["teacher"] for record in found])
            rows.append([words, spread(scores), len(found), *costs])
    return table([f"student ({metric} on {test})", "score", "seeds", "parameters (M)", "MB", "times as fast"], rows)


def _costs(students: list[Record], teachers: list[Record]) -> list[str]:
    speeds = [one["latency_ms"]["median"] / other["latency_ms"]["median"] for one, other in zip(teachers, students, strict=True)]
    parameters, size = fmean(one["num_parameters"] for one in students), fmean(one["size_mb"] for one in students)
    return [f"{parameters / 1e6:.2f}", f"{size:.1f}", f"{fmean(speeds):.1f}"]
