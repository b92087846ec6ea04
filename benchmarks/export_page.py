"""What docs/results.md says about exported students, made from results/export/*.json and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from kept import circumstances

FORMS = {"torch": "PyTorch", "onnx": "ONNX", "int8": "ONNX, 8-bit weights"}
FILES = {"torch": "student", "onnx": "onnx", "int8": "int8"}
"""Form -> what `size_mb` calls it."""


def section(kept: Path) -> list[str]:
    """The lines; none where nothing was measured yet."""
    lines: list[str] = []
    for path in sorted(kept.glob("*.json")):
        made = json.loads(path.read_text())
        one = next(iter(made["latency_ms"].values()))
        lines += [
            f"## {made['name']}",
            "",
            (f"Batch {one['batch_size']}, {one['length']} tokens, {one['threads']} threads, median of {one['repeats']} rounds "
            "(and half the interquartile range); all six take turns."),
            "",
            *circumstances(made),
            "",
            "| form | teacher (ms) | student (ms) | times as fast | teacher (MB) | student (MB) |",
            "|---|---|---|---|---|---|",
        ]
        for form, words in FORMS.items():
            times = [made["latency_ms"][f"{who} {form}"] for who in ("teacher", "student")]
            sizes = [made["models"][who]["size_mb"][FILES[form]] for who in ("teacher", "student")]
            cells = [words, *(f"{time['median']:.2f} ± {time['iqr'] / 2:.2f}" for time in times)]
            cells += [f"{made['speedup'][form]:.1f}", *(f"{size:.1f}" for size in sizes)]
            lines.append(f"| {' | '.join(cells)} |")
        apart = made["models"]["student"]["compared"]
        same = made["models"]["student"]["int8"]["agreement"]
        said = "; ".join(f"{100 * part['same']:.1f} % of {part['rows']} rows of {name}" for name, part in same.items())
        lines += [
            "",
            (f"The student's ONNX outputs differ from PyTorch's by at most {apart['max_abs_difference']:.0e} ({apart['rows']} "
            f"rows); with 8-bit weights it decides alike on {said}."),
        ]
    if not lines:
        return []
    head = [
        "# Exported students",
        "",
        "Measured by `python benchmarks/export.py`; kept in `results/export/`. The students are those of the tables above; most",
        "of their bytes are word embeddings, which pruning heads and neurons does not touch.",
        "",
    ]
    return [*head, *lines]
