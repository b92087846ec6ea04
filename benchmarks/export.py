"""How fast and how large a student is for those who run it: ONNX graphs of student and teacher, taking turns.

    python benchmarks/export.py rte-90s --teacher TEACHER --student runs/rte-minidisc --recipe runs/rte-minidisc/config.yaml

TEACHER and the student are model folders or runs. Both are exported into build/bench/export/NAME (again only if the model
has changed; an interrupted command may be repeated) and compared with their models on the recipe's rows. Then PyTorch and
ONNX, exact and int8, run one batch each in turn, round by round. Writes results/export/NAME.json.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from record import RESULTS, ROOT, circumstances, here, read, table, write

FORMS = {"torch": ("PyTorch", "student"), "onnx": ("ONNX", "onnx"), "int8": ("ONNX, 8-bit weights", "int8")}
"""Form -> title, and what `size_mb` calls it."""


def exported(source: Path, place: Path, recipe: Path | None) -> tuple[Any, dict[str, Any]]:
    """The model and the facts of its ONNX export, made now unless it lies there, whole and of the same weights."""
    from understudy.base import disk
    from understudy.export import export_folder
    from understudy.models.load import load_model
    from understudy.models.model import digest

    model = load_model(str(source / "student" if (source / "student").is_dir() else source))
    mark = place.with_name(f"{place.name}.json")
    name = digest(model.net)
    if not (mark.exists() and disk.read_json(mark)["digest"] == name and not disk.problems(place)):
        facts = export_folder(source, "onnx", out=place, int8=True, recipe=recipe)
        disk.write_json(mark, {"digest": name, "facts": facts})
    return model.net, disk.read_json(mark)["facts"]


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's waiting threads do not spin while ONNX has its turn
    from understudy.evaluate import measure
    from understudy.export.graph import GRAPH, GRAPH_INT8, graph_call

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the result, as in rte-90s")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, help="whose rows the exports are compared on")
    for option, default in (("batch", 1), ("length", 128), ("threads", 2), ("rounds", 100)):
        parser.add_argument(f"--{option}", type=int, default=default)
    args = parser.parse_args()

    folder = ROOT / "build" / "bench" / "export" / args.name
    calls, models = {}, {}
    for who, source in (("teacher", args.teacher), ("student", args.student)):
        net, facts = exported(source, folder / who, args.recipe)
        models[who] = {key: facts[key] for key in ("num_parameters", "flops", "size_mb", "compared", "int8", "layers")}
        inputs = measure.inputs_for(net, batch_size=args.batch, length=args.length)
        arrays = {name: value.numpy() for name, value in inputs.items()}
        calls[f"{who} torch"] = measure.forward_pass(net, batch_size=args.batch, length=args.length)
        for form, file in (("onnx", GRAPH), ("int8", GRAPH_INT8)):
            run = graph_call(folder / who / file, threads=args.threads)
            calls[f"{who} {form}"] = lambda run=run, arrays=arrays: run(arrays)
    took = measure.latency(calls, batch_size=args.batch, length=args.length, repeats=args.rounds, threads=args.threads)
    speedup = {form: took[f"teacher {form}"]["median"] / took[f"student {form}"]["median"] for form in FORMS}
    made = {"name": args.name, "models": models, "latency_ms": took, "speedup": speedup, **here()}
    write(RESULTS / "export" / f"{args.name}.json", made)
    for name, one in took.items():
        print(f"{name:<14} {one['median']:8.2f} ms  (IQR {one['iqr']:.2f})")
    print("  ".join(f"{form} {times:.1f}x" for form, times in speedup.items()))


def section(kept: Path) -> list[str]:
    """What the page says; nothing where nothing was measured yet."""
    lines: list[str] = []
    for made in read(kept).values():
        one = next(iter(made["latency_ms"].values()))
        rows = []
        for form, (title, file) in FORMS.items():
            times = [made["latency_ms"][f"{who} {form}"] for who in ("teacher", "student")]
            sizes = [made["models"][who]["size_mb"][file] for who in ("teacher", "student")]
            shown = [f"{time['median']:.2f} ± {time['iqr'] / 2:.2f}" for time in times]
            rows.append([title, *shown, f"{made['speedup'][form]:.1f}", *(f"{size:.1f}" for size in sizes)])
        apart, same = made["models"]["student"]["compared"], made["models"]["student"]["int8"]["agreement"]
        said = "; ".join(f"{100 * part['same']:.1f} % of {part['rows']} rows of {name}" for name, part in same.items())
        head = ["form", "teacher (ms)", "student (ms)", "times as fast", "teacher (MB)", "student (MB)"]
        lines += [
            f"## {made['name']}",
            "",
            (f"Batch {one['batch_size']}, {one['length']} tokens, {one['threads']} threads, median of {one['repeats']} rounds "
            "(and half the interquartile range); all six take turns."),
            "",
            *circumstances(made),
            "",
            *table(head, rows),
            "",
            (f"The student's ONNX outputs differ from PyTorch's by at most {apart['max_abs_difference']:.0e} ({apart['rows']} "
            f"rows); with 8-bit weights it decides alike on {said}."),
        ]  # fmt: skip
    head = [
        "# Exported students",
        "",
        "Measured by `python benchmarks/export.py`; kept in `results/export/`. The students are those of the tables above; most",
        "of their bytes are word embeddings, which pruning heads and neurons does not touch.",
        "",
    ]
    return [*head, *lines] if lines else []


if __name__ == "__main__":
    main()
