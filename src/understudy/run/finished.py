"""What can be done with a run that is finished: its page again, scores on other rows, answers, proof of its bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError, VerifyError
from understudy.base.progress import say
from understudy.data.custom import windowed
from understudy.data.encode import encode
from understudy.data.read import Table
from understudy.data.tasks import columns_of, data_of
from understudy.data.texts import read_texts
from understudy.data.types import Example, Task
from understudy.evaluate.bootstrap import resample
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import answers, outputs
from understudy.evaluate.predict import predict as predict_examples
from understudy.kinds import kind
from understudy.lab import Lab
from understudy.lab.replay import Replay
from understudy.models.anatomy import anatomy
from understudy.models.embedder import prompts_of
from understudy.models.handover import longest_input
from understudy.models.load import labels_of, load_model
from understudy.models.model import Model
from understudy.recipe.load import load_recipe, task_from
from understudy.recipe.settings import Recipe
from understudy.report.page import ReportInput, render
from understudy.run.claim import data_facts
from understudy.steps import exchanged, kept_by, step_folder
from understudy.train.devices import accelerator, set_determinism
from understudy.train.guard import StopSignals
from understudy.train.record import recorded


def write_report(folder: Path | str) -> Path:
    """report.html from what the run left on disk."""
    folder = Path(folder)
    for name in ("result.json", "details.json", "config.yaml"):
        if not (folder / name).exists():
            raise DataError(f"{folder} has no {name}: it is not a finished run. `understudy train` finishes it.")
    disk.require_intact(folder, ("result.json", "details.json", "config.yaml"))
    extra = disk.read_json(folder / "details.json")
    page = render(
        ReportInput(
            result=disk.read_json(folder / "result.json"),
            recipe=(folder / "config.yaml").read_text(encoding="utf-8"),
            history=history(folder),
            kept=kept_by(folder),
            details=extra["details"],
            notes=extra["notes"],
            structure=extra.get("structure"),
        )
    )
    disk.write_text(folder / "report.html", page)
    disk.renew(folder, "report.html")
    return folder / "report.html"


def history(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """step -> rows of its metrics.jsonl, in the order the steps were opened."""
    names = (mark.parent.name for mark in sorted(folder.glob("steps/*/step.json")))
    return {name: rows for name in names if (rows := recorded(step_folder(folder, name)))}


def evaluate_folder(path: Path | str, recipe: Recipe) -> dict[str, Any]:
    """Scores of a saved model on the test sets of the recipe's task, with their 95 % intervals and the number of rows.

    Test files are read by themselves, with the labels the model knows: their rows are scored, or there is an error. Without test
    files the rows are those that the run in `path` held out of its training file; where these cannot be had again (the file, or
    a key that decides on them, is another one), there is an error too.
    """
    run, folder = Path(path), student_of(Path(path))
    if recipe.task.files is not None and recipe.task.files.test is not None:
        reader = import_module(f"understudy.data.{kind(recipe.task.kind or '').rows}")
        task, tests, notes = reader.load_tests(recipe.task, labels_of(str(folder), key="DIR"))
    else:
        data = data_of(recipe)
        task, tests, notes = data.task, data.tests, data.notes
        before = disk.read_json(run / "run.json").get("data") if (run / "run.json").is_file() else None
        if data.held_out and before and before["tests"] != data_facts(data)["tests"]:
            raise DataError(
                f"{run} was reported on rows held out of its training file, and these are others now (the file, or a setting "
                "that draws them, has changed): the student may have learnt from them. Name others: task.files.test=FILE."
            )
    for note in notes:
        say(note)
    model = load_model(str(folder), task=task, key="DIR")
    if model.fresh_head:
        raise DataError(f"{path} has no trained head for {task.name}; train it first, or name another task.")
    model.net.to(accelerator().device)
    length = recipe.student.max_length or recipe.task.max_length
    metrics: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for test, examples in tests.items():
        most = min(length, anatomy(model.net).max_tokens(model.net))
        encoded = encode(examples, model.tokenizer, task, max_length=most, prompts=prompts_of(model.net))
        made = predict_examples(model, examples, encoded)
        metrics[test] = compute(task, made)
        drawn = resample(task, {"it": made}, resamples=recipe.evaluate.bootstrap, seed=recipe.seed)["it"]
        intervals[test] = {metric: one.interval() for metric, one in drawn.items()}
    return {"metrics": metrics, "intervals": intervals, "rows": {test: len(examples) for test, examples in tests.items()}}


def predict(
    path: Path | str,
    rows: str | Table,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    columns: Mapping[str, str | None] | None = None,
    model: Model | None = None,
) -> Iterator[dict[str, Any]]:
    """One answer per row of a file, in its order: label and probability, number, labels, or words with their tags.

    The file is read as those of the task were that the model was trained on (a run and a student's folder know it), or as the
    task of `recipe` says; `overrides` (`task.key=value`) and `columns` (text, pair, id) change that. `model`: what is in the
    folder, where it is loaded already.
    """
    folder = student_of(Path(path))
    model = model or load_model(str(folder), key="DIR")
    if model.kind.pooled:
        raise DataError(f"{path} is an embedding model, whose answers are vectors: `understudy encode {path} FILE`.")
    if not model.kind.labelled:
        raise DataError(f"{path} is a model of plain text; it has no answers to give.")
    handover = model.handover
    if recipe is not None:
        settings = load_recipe(recipe, overrides).task
    elif (Path(path) / "config.yaml").is_file():
        settings = load_recipe(Path(path) / "config.yaml", overrides).task
    else:
        unknown = {"name": "custom", "kind": str(model.kind), "files": {"train": "rows"}}
        settings = task_from(handover.task if handover else unknown, overrides, source=str(path))
    layouts = columns_of(settings)
    if given := {key: value for key, value in (columns or {}).items() if value is not None}:
        if model.kind.by_word and "text" in given:
            given["words"] = given.pop("text")
        layouts = [layouts[0].model_copy(update=given)]
    pair = bool(layouts[0].pair) or (handover.pair if handover else model.kind.apart == "pairs")
    task = windowed(Task(settings.name, model.kind, model.labels, pair=pair), settings)
    if settings.kind is not None and kind(settings.kind) is not model.kind:
        raise RecipeError(f"task.kind: {path} was trained for {model.kind}, not for {settings.kind}.")
    reader = import_module(f"understudy.data.{model.kind.rows}")
    examples, notes = reader.read_rows(settings, task, rows, columns=layouts)
    for note in notes:
        say(note)
    model.net.to(accelerator().device)
    length = settings.max_length if any(text.startswith("task.max_length=") for text in overrides) else None
    yield from answers(model, examples, task, max_length=length)


def encode_texts(
    path: Path | str, files: Sequence[str], *, role: str | None = None, dims: int | None = None, overrides: Sequence[str] = ()
) -> np.ndarray:
    """(N, V) float32: the vectors of all texts of some files, in their order, behind the prompt of their role.

    Args:
        role: query or document; the model's own prompts for them are used.
        dims: of each vector the first so many numbers, brought to length 1 again.
        overrides: `task.key=value`: how the files are read.

    Raises:
        DataError: not an embedding model, or no texts. RecipeError: more dims than there are.
    """
    folder = student_of(Path(path))
    model = load_model(str(folder), task=Task("texts", kind("embedding")), key="DIR")
    for note in model.notes:
        say(note)
    settings = task_from({"name": "custom", "kind": "embedding", "files": {"train": "texts"}}, overrides, source=str(path))
    texts = read_texts(files, settings)
    if dims is not None and dims > model.net.head.width:
        raise RecipeError(f"--dims {dims}: the vectors of {path} have {model.net.head.width} dimensions.")
    model.net.to(accelerator().device)
    rows = [Example(str(i), text, role=role) for i, text in enumerate(texts, 1)]
    task = Task("texts", model.kind)
    encoded = encode(rows, model.tokenizer, task, max_length=longest_input(model), prompts=prompts_of(model.net))
    if encoded.truncated:
        say(f"{encoded.truncated:,} of {len(rows):,} texts are longer than {longest_input(model)} tokens and are cut.")
    vectors = np.stack(outputs(model, encoded)).astype(np.float32)
    if dims is not None:
        vectors = vectors[:, :dims]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    return vectors


def student_of(path: Path) -> Path:
    """The model folder meant by a path: the student of a run, or the folder itself."""
    return path / "student" if (path / "student").is_dir() else path


def verify(folder: Path | str, replay: int = 0) -> dict[str, int]:
    """Check every file of a run; optionally repeat the last steps of the student's training and compare the bits.

    Raises:
        VerifyError: the first thing that is wrong, with its place.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise DataError(f"{folder} is not the folder of a run: it has no config.yaml.")
    wrong: list[str] = []
    files = 0
    if (folder / disk.MANIFEST).exists():
        wrong += disk.problems(folder)
        files += len(disk.read_json(folder / disk.MANIFEST)["files"]) if not wrong else 0
        for arm in sorted(folder.glob("arms/*/config.yaml")) if not wrong else ():  # of a comparison, sealed by themselves
            files += verify(arm.parent)["files"]
    else:
        say(f"{folder} is not finished yet: only its committed parts are checked.")
        for part in sorted(path.parent for path in folder.rglob(disk.MANIFEST)):
            wrong += disk.problems(part)
            files += 1
    for mark in sorted(folder.glob("steps/*/step.json")) if not wrong else ():  # a damaged mark leads nowhere
        place = step_folder(folder, mark.parent.name)
        if not place.is_relative_to(folder):
            sealed = [place] if (place / disk.MANIFEST).exists() else []  # else unfinished: the models that are
            for part in sealed or sorted(path.parent for path in place.rglob(disk.MANIFEST)):
                found = disk.problems(part)
                wrong += found
                files += len(disk.read_json(part / disk.MANIFEST)["files"]) if not found else 0
            wrong += filter(None, [exchanged(folder, mark.parent.name)])
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise VerifyError(f"{wrong[0]}{more}. Repeat the run's command in a new folder, or restore it from a copy.")
    return {"files": files, "replayed_steps": _replay(folder, replay) if replay else 0}


def _replay(folder: Path, steps: int) -> int:
    """Repeat the end of the student's training in a scratch folder and compare the recorded fingerprint."""
    import tempfile

    if not (folder / "steps" / "student" / "step.json").exists():
        raise VerifyError(
            f"The student of {folder} was made in a step that runs share, which keeps no checkpoints to repeat from: leave "
            "--replay out, or set UNDERSTUDY_HOME to an empty folder and repeat the run's command with another --out."
        )
    recipe = load_recipe(folder / "config.yaml")
    set_determinism(recipe.determinism)
    with StopSignals() as stop, tempfile.TemporaryDirectory() as scratch:
        replay = Replay("student", steps, Path(scratch))
        recipe.how.distil(recipe.method, Lab(recipe, folder, stop, replay=replay))
        return replay.repeated
