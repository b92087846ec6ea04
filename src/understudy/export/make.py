"""A student in another form: written to a temporary folder, compared with the student on real rows, and only then put in place.

    hf      stock transformers model, where its configuration can say exactly what the student is
    padded  stock transformers model with zeros where parts were cut: equal, loads anywhere, only partly smaller
    exact   the small student itself; needs `understudy.register()` to load if its shape is not a stock one
    onnx    a graph for onnxruntime: exact and small; with int8 also a rounded second file

An export that does not say what the student says leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError
from understudy.data.tasks import data_of
from understudy.evaluate import measure
from understudy.export import agreement, describe, graph
from understudy.export.agreement import Rows
from understudy.export.stock import needs_understudy, shape_of, to_hf, to_padded
from understudy.lab import Lab
from understudy.models.anatomy import anatomy
from understudy.models.card import public_name
from understudy.models.handover import handed_on, longest_input, write_handover
from understudy.models.heads import to_label_units
from understudy.models.load import load_model
from understudy.models.model import Model
from understudy.models.save import save_model, save_tokenizer
from understudy.recipe.load import load_recipe
from understudy.recipe.settings import LatencySettings, Recipe, WindowSettings
from understudy.steps import step_folder
from understudy.train.guard import StopSignals

FORMS = ("hf", "padded", "exact", "onnx")
FACTS = "structure.json"
_EVAL = Path(".eval_results") / "understudy.yaml"


def export_folder(
    path: Path | str,
    to: str,
    *,
    out: Path | str | None = None,
    int8: bool = False,
    recipe: Path | str | None = None,
    model: str = "student",
) -> dict[str, Any]:
    """Export the student of a run, its teacher, or a model folder.

    Args:
        path: folder of a run, its `student/`, or any folder `load_model` reads.
        to: hf, padded, exact or onnx.
        out: where; left out, beside the run or folder under its name with the form behind it.
        int8: onnx only: also write the graph with 8-bit weights.
        recipe: its task's rows are compared on; left out, those of the run, or the built-in texts.
        model: of a run, `student` or `teacher` (as it taught: fine-tuned, where the run did that).

    Returns:
        What structure.json holds, and "folder".

    Raises:
        RecipeError: the form cannot hold this student, a package is missing, or `out` holds something else.
        VerifyError: the export does not say what the student says; nothing was written.
    """
    source = Path(path)
    run = source.parent if source.name == "student" and _is_run(source.parent) else source
    folder = run / "student" if _is_run(run) else source
    if _is_run(run) and not folder.is_dir():
        raise RecipeError(f"{run} has no student yet; `understudy train` finishes it.")
    config = Path(recipe) if recipe else run / "config.yaml" if _is_run(run) else None
    named = f"{run.resolve().name}-{to}" if model == "student" else f"{run.resolve().name}-{model}-{to}"
    out = Path(out) if out else run.resolve().with_name(named)
    _check(to, out, folder, int8=int8)
    settings = load_recipe(config) if config else None
    if model != "student":
        return _export_teacher(run, model, to, out=out, int8=int8, settings=settings)
    opened = load_model(str(folder), key="DIR")
    card, scores = (
        (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else ""
        for name in ("README.md", _EVAL)
    )
    return export_model(
        opened,
        to,
        out=out,
        int8=int8,
        rows=agreement.rows_of(settings, opened) if settings else None,
        card=card,
        eval_results=scores or None,
        latency=settings.evaluate.latency if settings else None,
    )


def _export_teacher(
    run: Path, which: str, to: str, *, out: Path, int8: bool, settings: Recipe | None
) -> dict[str, Any]:
    """The teacher of a finished run, as it taught."""
    if which != "teacher":
        raise RecipeError(f"--model {which}: a run has a student and a teacher.")
    if not _is_run(run) or settings is None:
        raise RecipeError(f"--model teacher: {run} is not the folder of a run, which alone has a teacher.")
    if settings.teacher is None:
        raise RecipeError(f"--model teacher: {run} had none.")
    if settings.teacher.finetune is not None:
        done = step_folder(run, "teacher") if (run / "steps" / "teacher" / "step.json").is_file() else None
        if done is None or not (done / "done.json").is_file():
            raise DataError(
                f"--model teacher: the fine-tuned teacher of {run} is not in the store any more; "
                "`understudy train` makes it again."
            )
    with StopSignals() as stop:
        lab = Lab(settings, run, stop)
        lab.data = data_of(settings)
        model = lab.teacher().model
    if model.kind.standardise:
        to_label_units(model.net, *lab.scale)
    task = settings.task.model_dump(mode="json", exclude_defaults=True)
    length = min(settings.task.max_length, anatomy(model.net).max_tokens(model.net))
    model.handover = handed_on(task, max_length=length, pair=lab.data.task.pair)
    name = public_name(settings.teacher.model)
    made = "fine-tuned" if settings.teacher.finetune is not None else "as it is"
    return export_model(
        model, to, out=out, int8=int8, rows=agreement.rows_of(settings, model), latency=settings.evaluate.latency,
        card=f"# Teacher: {name}, {made}, for {lab.data.task.name}\n",
    )  # fmt: skip


def export_model(
    model: Model,
    to: str,
    *,
    out: Path | str,
    int8: bool = False,
    rows: Rows | None = None,
    card: str = "",
    eval_results: str | None = None,
    latency: LatencySettings | None = None,
) -> dict[str, Any]:
    """Export a student in memory; see `export_folder`.

    Args:
        rows: to compare on; left out, the built-in texts.
        card: README.md to keep, before the section on this form.
        eval_results: content of `.eval_results/understudy.yaml`.
        latency: how speed is measured.
    """
    out = Path(out)
    _check(to, out, None, int8=int8)
    rows = rows or agreement.built_in_rows(model)
    latency = latency or LatencySettings()
    model.net.to("cpu")  # where exports are compared and measured
    with disk.commit_dir(out) as folder:
        fill = _fill_onnx if to == "onnx" else _fill_torch
        facts = fill(model, to, folder, rows, latency, int8=int8, eval_results=eval_results)
        disk.write_json(folder / FACTS, facts)
        disk.write_text(folder / "README.md", describe.readme(card, facts))
    return {"folder": str(out), **facts}


def _fill_torch(
    model: Model, to: str, folder: Path, rows: Rows, latency: LatencySettings, *, int8: bool, eval_results: str | None
) -> dict[str, Any]:
    made = {"hf": to_hf, "padded": to_padded}.get(to, lambda same: same)(model)
    save_model(made, folder, eval_results=eval_results, handover=model.handover)
    back = load_model(str(folder), key="export")  # what a reader of the folder gets, not what we meant to write
    compared = agreement.require_equal(model, agreement.torch_call(model.net), agreement.torch_call(back.net), rows, form=to)
    calls = {
        name: measure.forward_pass(net, batch_size=latency.batch_size, length=_length(model, latency))
        for name, net in (("student", model.net), (to, back.net))
    }
    sizes = {"student": measure.size_mb(model.net), to: measure.size_mb(folder)}
    return {
        **_about(model, to, back.net, latency),
        "needs_understudy": needs_understudy(back.net),
        "compared": compared,
        "size_mb": sizes,
        "latency_ms": _latency(model, calls, latency),
    }


def _windows(model: Model) -> dict[str, Any] | None:
    """How long texts are read (`task.windows`), as a tokenizer takes it: `stride` is there what two windows share."""
    asked = model.handover.task.get("windows") if model.handover else None
    if asked is None:
        return None
    windows = WindowSettings.model_validate(asked)
    room = longest_input(model) - model.tokenizer.num_special_tokens_to_add(pair=False)
    return {"overlap": room - windows.stride, "pool": windows.pool, "most": windows.most}


def _fill_onnx(
    model: Model, to: str, folder: Path, rows: Rows, latency: LatencySettings, *, int8: bool, eval_results: str | None
) -> dict[str, Any]:
    place, whole = folder, model.kind.pooled
    if whole:  # sentence-transformers looks for the graph of the backbone beside the modules that follow it
        save_model(model, folder, eval_results=eval_results, handover=model.handover)
        place = disk.make_dir(folder / "onnx")
    graph.write_graph(model, place / graph.GRAPH)
    student = agreement.torch_call(model.net)
    compared = agreement.require_equal(model, student, graph.graph_call(place / graph.GRAPH), rows, form=to)
    facts: dict[str, Any] = {
        **_about(model, to, model.net, latency),
        "needs_understudy": False,
        "inputs": graph.input_names(model),
        "windows": _windows(model),
        "compared": compared,
    }
    if not whole:
        save_tokenizer(model.tokenizer, folder, max_length=longest_input(model))
        if model.handover:
            write_handover(model.handover, folder)
        disk.write_json(folder / "config.json", graph.settings(model))
        if eval_results:
            disk.write_text(folder / _EVAL, eval_results)
    files = {to: graph.GRAPH}
    if int8:
        files["int8"] = graph.GRAPH_INT8
        graph.write_int8(place / graph.GRAPH, place / graph.GRAPH_INT8)
        rounded = graph.graph_call(place / graph.GRAPH_INT8)
        facts["int8"] = {"agreement": agreement.agreement(model, student, rounded, rows)}
    length = _length(model, latency)
    inputs = {
        name: value.numpy()
        for name, value in measure.inputs_for(model.net, batch_size=latency.batch_size, length=length).items()
    }
    calls: dict[str, Callable[[], Any]] = {
        "student": measure.forward_pass(model.net, batch_size=latency.batch_size, length=length)
    }
    for name, file in files.items():
        run = graph.graph_call(place / file, threads=_threads(latency))
        calls[name] = lambda run=run: run(inputs)
    facts["size_mb"] = {"student": measure.size_mb(model.net)} | {
        name: sum(part.stat().st_size for part in place.glob(f"{file}*")) / 1e6 for name, file in files.items()
    }
    facts["latency_ms"] = _latency(model, calls, latency)
    return facts


def _about(model: Model, to: str, net: Any, latency: LatencySettings) -> dict[str, Any]:
    """What structure.json says of every form: the shape is the student's, counts are those of the exported network."""
    length = _length(model, latency)
    return {
        "form": to,
        "kind": str(model.kind),
        "decides": agreement.decides(model),
        **shape_of(model.net),
        "num_parameters": measure.num_parameters(net),
        "num_parameters_nonembedding": measure.num_parameters_nonembedding(net),
        "flops": measure.flops(net, batch_size=latency.batch_size, length=length),
    }


def _latency(model: Model, calls: dict[str, Callable[[], Any]], latency: LatencySettings) -> dict[str, Any]:
    return measure.latency(
        calls,
        batch_size=latency.batch_size,
        length=_length(model, latency),
        repeats=latency.repeats,
        threads=_threads(latency),
    )


def _threads(latency: LatencySettings) -> int:
    import torch

    return latency.threads or torch.get_num_threads()


def _length(model: Model, latency: LatencySettings) -> int:
    return min(latency.length, anatomy(model.net).max_tokens(model.net))


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "steps").is_dir()


def _check(to: str, out: Path, source: Path | None, *, int8: bool) -> None:
    """Everything that can be refused before a model is opened."""
    if to not in FORMS:
        raise RecipeError(f"--to {to}: there is no such form; choose one of {', '.join(FORMS)}.")
    if int8 and to != "onnx":
        raise RecipeError(f"--int8 goes with --to onnx; the {to} form is exact.")
    if to == "onnx":
        graph.require_onnx()
    place = out.resolve()
    if source is not None and place == source.resolve():
        raise RecipeError(f"--out {out} is the folder being exported; name another one.")
    inside = next((parent for parent in (place, *place.parents) if _is_run(parent)), None)
    if inside is not None:
        raise RecipeError(
            f"--out {out} lies in the run {inside}, whose files are sealed by checksums; name a folder beside it."
        )
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_export(out))):
        raise RecipeError(f"--out {out} exists and is not an earlier export; name another folder, or delete it.")


def _is_export(folder: Path) -> bool:
    return (folder / FACTS).is_file() and "form" in disk.read_json(folder / FACTS)
