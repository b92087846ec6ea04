"""docs/performance.md from results/throughput.json, its scores and results/parts.json: no number is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from record import RESULTS, ROOT, Record, spread, table
from systems import SYSTEMS
from throughput import EPOCHS, RESULT, read_scores

PAGE = ROOT / "docs" / "performance.md"
PARTS, MEMORY = RESULTS / "parts.json", RESULTS / "memory.json"
AGAINST = ("trainer_128", "trainer_dynamic")


def write_page() -> Path:
    """Write the page. Without results there is nothing to say: measure first."""
    if not RESULT.exists():
        raise SystemExit(f"{RESULT} is missing: run `python benchmarks/throughput.py measure` first.")
    measured = json.loads(RESULT.read_text())
    parts = [_opening(measured), "\n".join(_speed(measured)), _scores(measured)]
    if MEMORY.exists():
        parts.append(_memory(json.loads(MEMORY.read_text())))
    if PARTS.exists():
        shown = json.loads(PARTS.read_text())
        parts += [_tricks(shown), _peak(shown), _rest(shown)]
    PAGE.write_text("\n\n".join(part for part in [*parts, AGAIN] if part) + "\n", encoding="utf-8")
    return PAGE


def right(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table whose columns of numbers are aligned at the right."""
    first, _, *others = table(head, rows)
    return [first, f"| {' | '.join(['---', *['--:'] * (len(head) - 1)])} |", *others]


def as_text(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(right(head, rows))


def _opening(measured: Record) -> str:
    about, machine, versions = measured["about"], measured["machine"], measured["versions"]
    names = ("torch", "transformers", "textbrewer", "python")
    return f"""# Performance

Logit distillation of MiniLM-L6, fine-tuned on MRPC, into its own layers {', '.join(map(str, about['student_layers']))}: \
{about['rows']} rows of {about['tokens_per_row']:.0f} tokens on average (longest {about['longest_row']}), \
batch {about['batch_size']}. {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; \
{', '.join(f"{name} {versions[name]}" for name in names if name in versions)}.

All systems train the same student from the same weights on the same rows in the same order with the same objective, \
optimiser and schedule. Each has a process of its own; they take turns of {about['steps_per_round']} optimiser steps, \
{about['rounds']} rounds. This page is written by `python benchmarks/throughput.py page`."""


def _speed(measured: Record) -> list[str]:
    systems = measured["systems"]
    rows = []
    for system in systems.values():
        rate, peak = system["examples_per_second"], f"{system['peak_mb']:.0f} MB"
        quartiles = f"{rate['median']:.1f} ({rate['low']:.1f}–{rate['high']:.1f})"
        rows.append([system["title"], quartiles, peak, *(f"{system['seconds'][str(epochs)]:.0f} s" for epochs in EPOCHS)])
    head = ["system", "examples/s (quartiles)", "peak memory", *(f"{epochs} epochs" for epochs in EPOCHS)]
    lines = ["## Speed and memory", "", *right(head, rows)]
    if once := ", ".join(f"{s['title']} {s['once_seconds']:.1f} s" for s in systems.values() if s["once_seconds"]):
        lines += ["", f"""Times of whole trainings follow from the median speed and include what comes once, running the \
teacher over all rows: {once}. Evaluation and checkpoints are left out everywhere."""]
    sentences = []
    for mine, other in ((mine, other) for mine in ("ours", "ours_fp32") for other in AGAINST):
        if mine in systems and other in systems:
            low, ratio, high = _ratios(systems[mine], systems[other])
            seconds = {str(e): (systems[other]["seconds"][str(e)], systems[mine]["seconds"][str(e)]) for e in EPOCHS}
            whole = " and ".join(f"{theirs / own:.1f} over {epochs} epochs" for epochs, (theirs, own) in seconds.items())
            sentences.append(
                f"* {systems[mine]['title']} against {systems[other]['title']}: **{ratio:.1f} times** the examples "
                f"per second (paired by round; quartiles {low:.1f}–{high:.1f}); with the teacher's pass {whole}."
            )
    return [*lines, *([""] if sentences else []), *sentences]


def _ratios(one: Record, other: Record) -> tuple[float, float, float]:
    """Quartiles of how many times the examples per second of another, paired by round."""
    rates = [np.array(system["examples_per_second"]["rounds"]) for system in (one, other)]
    low, median, high = np.percentile(rates[0] / rates[1], [25, 50, 75])
    return float(low), float(median), float(high)


def _memory(measured: Record) -> str:
    """The command against a call from python, measured by itself."""
    systems, machine, about = measured["systems"], measured["machine"], measured["about"]
    kept, given_back = (systems[name] for name in ("ours", "ours_giving_back"))
    low, ratio, high = _ratios(kept, given_back)
    return f"""## Memory that is kept

The `understudy` command tells glibc to keep the memory of large tensors and use it again. In a process of yours, \
`understudy.base.memory.keep_memory()` does the same. The distillation above, {machine['cpu']}, {machine['threads']} \
thread{'s' if machine['threads'] > 1 else ''}, {about['rounds']} rounds of {about['steps_per_round']} steps by turns \
(`python benchmarks/throughput.py measure --systems ours,ours_giving_back --out results/memory.json`): the command has \
**{ratio:.2f} times** the examples per second (paired by round; quartiles {low:.2f}–{high:.2f}), at a peak of \
{kept['peak_mb']:.0f} MB against {given_back['peak_mb']:.0f} MB. (Measured with `GLIBC_TUNABLES`, which adds large pages \
and needs the process to be started anew. By calls at run time, as now, on a three-layer encoder of width 384, eight rounds \
of ten steps by turns on a busy machine: 1.07 times the speed of giving back, against 1.09 times with the tunables; quartiles \
1.06–1.11 and 1.04–1.12. Page faults in ten steps: 240,400 when giving back, 7,600 by calls, 360 with the tunables.)"""


def _scores(measured: Record) -> str:
    found = list(read_scores().values())
    if not found:
        return ""
    teachers = {row["about"]["teacher"] for row in found}
    if len(teachers) > 1:
        raise SystemExit("The scores come from different teachers; delete the older ones and train again.")
    same = teachers == {measured["about"]["teacher"]}
    whose = "" if same else " The teacher is another than above, fine-tuned by the same recipe."
    rows = []
    for name, system in SYSTEMS.items():
        mine = [row for row in found if row["system"] == name]
        if mine:
            means = [spread([row[metric] for row in mine], ".4f") for metric in ("f1", "accuracy")]
            rows.append([system.title, str(len(mine)), *means])
    epochs = ", ".join(str(n) for n in sorted({row["epochs"] for row in found}))
    return f"""## Is the score the same?

MRPC dev ({measured['about']['dev_rows']} rows) after {epochs} epochs, last weights, scored in fp32 by the same code: mean ± \
deviation over seeds.{whose}

""" + as_text(["system", "seeds", "F1", "accuracy"], rows)


def _tricks(parts: Record) -> str:
    variants = parts["variants"]
    rows = []
    for name, title in parts["tricks"].items():
        line = [title]
        for label, factor in ((f"plain + {name}", 1), (f"whole - {name}", -1)):
            ratio = variants.get(label, {}).get("ratio")
            line.append(f"{ratio['median'] ** factor:.2f}×" if ratio else "")
        if name == "grouped" and (ratio := variants.get("whole + grouped", {}).get("ratio")):
            line[2] = f"{ratio['median']:.2f}× (not in the default)"
        rows.append(line)
    for name, title in (("exact", "all exact ones together"), ("whole", "the whole")):
        if name in variants:
            rows.append([title, f"{variants[name]['ratio']['median']:.2f}×", ""])
    threads = parts["machine"]["threads"]
    return f"""## What each part brings

Each alone added to a plain loop with dynamic padding, and what the whole gains by it when all others are there; this and \
the two sections below on {threads} thread{'s' if threads > 1 else ''}. \
Grouping changes which rows share a batch, bf16 changes the numbers; the others are exact.

""" + as_text(["part", "alone", "within the whole"], rows)


def _peak(parts: Record) -> str:
    peaks, variants = parts["peak_flops"], parts["variants"]
    rows = []
    for name, title in (("plain", "plain loop"), ("whole - bf16", "whole, fp32"), ("whole", "whole, bf16")):
        if name in variants:
            rows.append([title, f"{variants[name]['flops'] / 1e9:.0f}", f"{variants[name]['of_peak']:.0%}"])
    best = "; ".join(
        f"{dtype} {of['square'] / 1e9:.0f} GFLOP/s (at the shape of this model's feed-forward {of['feed-forward'] / 1e9:.0f})"
        for dtype, of in peaks.items()
    )
    return f"""## How much of the processor is used

Operations of matrix products that the real tokens need, per second, as a share of what one large product reaches in \
the same run: {best}.

""" + as_text(["loop", "GFLOP/s on real tokens", "of the peak"], rows)


def _rest(parts: Record) -> str:
    profiles = parts["profile"]
    names = list(next(iter(profiles.values()))["shares"])
    rows = [[name, *(f"{profile['shares'][name]:.0%}" for profile in profiles.values())] for name in names]
    rows.append(["seconds per step", *(f"{profile['seconds_per_step']:.3f}" for profile in profiles.values())])
    return """## Where the time goes

The product's own loop under torch's profiler (which slows it a little): shares of the wall time.

""" + as_text(["", *profiles], rows)


AGAIN = """## Measure it yourself

```bash
python benchmarks/throughput.py measure
python benchmarks/throughput.py scores --seeds 3
python benchmarks/parts.py
python benchmarks/throughput.py page
```

See `benchmarks/README.md`."""
