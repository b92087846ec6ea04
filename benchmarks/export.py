"""How fast and how large a student is for those who run it: ONNX graphs of student and teacher, taking turns.

    python benchmarks/export.py rte-90s --teacher TEACHER --student runs/rte-minidisc --recipe runs/rte-minidisc/config.yaml

TEACHER and the student are model folders or runs. Both are exported into build/bench/export/NAME (again only if the model
has changed; an interrupted command may be repeated) and compared with their models on the recipe's rows. Then PyTorch and
ONNX, exact and int8, run one batch each in turn, round by round. Writes results/export/NAME.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's waiting threads do not spin while ONNX has its turn
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from work import BUILD, RESULTS  # noqa: E402

from understudy.base import disk  # noqa: E402
from understudy.evaluate import measure  # noqa: E402
from understudy.export import export_folder  # noqa: E402
from understudy.export.graph import GRAPH, GRAPH_INT8, graph_call  # noqa: E402
from understudy.models.load import load_model  # noqa: E402
from understudy.models.model import digest  # noqa: E402

FILES = {"onnx": GRAPH, "int8": GRAPH_INT8}


def exported(source: Path, place: Path, recipe: Path | None) -> tuple[Any, dict[str, Any]]:
    """The model and the facts of its ONNX export, made now unless it lies there, whole and of the same weights."""
    model = load_model(str(source / "student" if (source / "student").is_dir() else source))
    mark = place.with_name(f"{place.name}.json")
    name = digest(model.net)
    done = mark.exists() and disk.read_json(mark)["digest"] == name and not disk.problems(place)
    if not done:
        disk.write_json(
            mark, {"digest": name, "facts": export_folder(source, "onnx", out=place, int8=True, recipe=recipe)}
        )
    return model.net, disk.read_json(mark)["facts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the result, as in rte-90s")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, help="whose rows the exports are compared on")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    args = parser.parse_args()

    folder = BUILD / "export" / args.name
    calls, models = {}, {}
    for who, source in (("teacher", args.teacher), ("student", args.student)):
        net, facts = exported(source, folder / who, args.recipe)
        models[who] = {key: facts[key] for key in ("num_parameters", "flops", "size_mb", "compared", "int8", "layers")}
        inputs = measure.inputs_for(net, batch_size=args.batch, length=args.length)
        arrays = {name: value.numpy() for name, value in inputs.items()}
        calls[f"{who} torch"] = measure.forward_pass(net, batch_size=args.batch, length=args.length)
        for form, file in FILES.items():
            run = graph_call(folder / who / file, threads=args.threads)
            calls[f"{who} {form}"] = lambda run=run, arrays=arrays: run(arrays)
    took = measure.latency(calls, batch_size=args.batch, length=args.length, repeats=args.rounds, threads=args.threads)
    speedup = {
        form: took[f"teacher {form}"]["median"] / took[f"student {form}"]["median"]
        for form in ("torch", "onnx", "int8")
    }
    result = {
        "name": args.name, "models": models, "latency_ms": took, "speedup": speedup,
        "machine": measure.machine(), "versions": measure.versions(),
    }  # fmt: skip
    disk.write_json(RESULTS / "export" / f"{args.name}.json", result)
    for name, one in took.items():
        print(f"{name:<14} {one['median']:8.2f} ms  (IQR {one['iqr']:.2f})")
    print("  ".join(f"{form} {times:.1f}x" for form, times in speedup.items()))


if __name__ == "__main__":
    main()
