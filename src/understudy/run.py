"""A recipe in, a finished run directory out; and what can be done with a run afterwards.

    DIR/
      config.yaml    the complete recipe          run.json      versions, machine, seed, state
      steps/         what each durable step left  result.json   what the run showed, for programs
      student/       a Hugging Face folder        report.html   the same, for people
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.base import disk, progress
from understudy.base.errors import DataError, RecipeError, VerifyError
from understudy.base.lock import lock
from understudy.base.progress import say
from understudy.data.encode import encode
from understudy.data.rows import read_rows
from understudy.data.tasks import load_task
from understudy.evaluate import measure
from understudy.evaluate.answers import answers
from understudy.evaluate.details import details
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict as predict_examples
from understudy.evaluate.reference import constant, cosine
from understudy.evaluate.result import assemble
from understudy.evaluate.verdict import still_rising, verdict
from understudy.lab import Lab, Source
from understudy.lab.adapting import deliver
from understudy.lab.replay import Replay
from understudy.models.card import card_text, eval_results_text
from understudy.models.load import load_model
from understudy.models.model import Model
from understudy.models.save import save_model
from understudy.models.scale import to_label_units
from understudy.models.structure import structure_of
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.load import load_recipe, recipe_hash, to_yaml
from understudy.recipe.method import Method
from understudy.recipe.settings import Recipe
from understudy.report.page import ReportInput, render
from understudy.report.structure import facts
from understudy.steps import difference, exchanged, step_folder
from understudy.train.devices import accelerator, set_determinism, start_trackers
from understudy.train.guard import StopSignals
from understudy.train.record import recorded


def train(recipe: Recipe, folder: Path | str) -> dict[str, Any]:
    """Start the run in `folder`, or continue it if this run is there already. Returns the content of result.json.

    Raises:
        RecipeError: the folder holds a run with other settings; the message says which.
        Interrupted: after a signal, with everything done so far committed.
    """
    folder = Path(folder)
    set_determinism(recipe.determinism)
    main = accelerator().is_main_process
    if not main:  # one voice for all processes
        progress.quiet = True
        warnings.simplefilter("ignore")
    with StopSignals() as stop, lock(folder) if main else nullcontext():
        asked = recipe
        recipe, _ = recipe.how.settle(recipe.method, recipe, folder)
        _claim(recipe, folder)
        trackers = start_trackers(recipe.track, "understudy", str(folder / "tracking")) if main else []
        lab = Lab(recipe, folder, stop, trackers)
        models = _train_models(recipe, lab)
        result = _prove(recipe, lab, models, folder, asked.how)
        for tracker in trackers:
            tracker.finish()
    return result


def _claim(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into the folder, or check that the run there has the same one."""
    config = folder / "config.yaml"
    if config.exists() and (folder / "steps").is_dir():  # before the first step there is nothing to mix up
        before = load_recipe(config)
        if recipe_hash(before) != recipe_hash(recipe):
            changes = difference(before.model_dump(mode="json"), recipe.model_dump(mode="json"))
            raise RecipeError(f"{folder} holds a run with other settings: {changes}. Use another --out for this one.")
    elif accelerator().is_main_process:
        disk.write_text(config, to_yaml(recipe))
    if accelerator().is_main_process:
        disk.remove(folder / disk.MANIFEST)  # until it is finished again, files may differ from what it says
        _note_state(recipe, folder, "running")
    accelerator().wait_for_everyone()


def _note_state(recipe: Recipe, folder: Path, state: str) -> None:
    about = {
        "recipe": recipe_hash(recipe),
        "seed": recipe.seed,
        "state": state,
        "versions": measure.versions(),
        "machine": measure.machine(),
        "ranks": accelerator().num_processes,
    }
    disk.write_json(folder / "run.json", about)


def _train_models(recipe: Recipe, lab: Lab) -> dict[str, Source]:
    """Teacher, baseline and student, each in durable steps of its own."""
    models: dict[str, Source] = {}
    if recipe.teacher is not None and (recipe.how.needs_teacher or recipe.teacher.finetune is not None):
        models["teacher"] = lab.teacher()
    for note in lab.data.notes:
        say(note)
    student = recipe.how.distil(recipe.method, lab) if recipe.student.searched else None  # found first
    if recipe.evaluate.baseline and recipe.how.needs_teacher and lab.data.task.kind.labelled:
        labels = Objective(hard=hard_labels(lab.data.task.kind))
        model = lab.fit("baseline", recipe.how.untrained(recipe.method, lab), labels, shared=True)
        models["baseline"] = Source.of(model)
    student = student or recipe.how.distil(recipe.method, lab)
    models["student"] = Source.of(student)
    return models


def _prove(recipe: Recipe, lab: Lab, models: dict[str, Source], folder: Path, asked: Method) -> dict[str, Any]:
    """Score, measure, compare, write down."""
    task = lab.data.task
    if models["student"].model.bare:  # it says nothing about words: its score is its objective on the test rows
        task = replace(task, metrics=("loss",), select="loss")
    predictions: dict[str, dict] = {test: {} for test in lab.data.tests}
    for name, source in models.items():
        if not task.kind.labelled and name != "student":
            continue
        for test, made in lab.predictions(name, source, is_teacher=name == "teacher").items():
            predictions[test][name] = made
    settings = recipe.evaluate.latency
    measured = lab.keep(
        "measure",
        {"models": {name: source.digest for name, source in models.items()}, **settings.model_dump()},
        lambda: measure.costs(
            {name: source.model.net.to(lab.device) for name, source in models.items()},
            names=_names(recipe),
            batch_size=settings.batch_size,
            length=settings.length,
            repeats=settings.repeats,
            threads=settings.threads,
        ),
    )
    result = assemble(
        task,
        predictions,
        costs=measured,
        method=recipe.method.model_dump(mode="json"),
        seed=recipe.seed,
        resamples=recipe.evaluate.bootstrap,
        train_seconds=lab.seconds,
        teacher_forwards=lab.teacher_examples,
        versions=measure.versions(),
        machine=measure.machine(),
        search=recipe.how.search_result(kept_by(folder)),
        references=lab.keep("references", _decides(recipe, lab), lambda: _references(recipe, lab)),
        rising=still_rising(_history(folder), task.select),
    )
    if accelerator().is_main_process:
        _save_student(recipe, lab, models["student"].model, result, folder)
        disk.write_json(folder / "result.json", result)
        of_models = (note for name in sorted(models, reverse=True) for note in models[name].model.notes)
        extra = {
            "details": {
                test: details(task, lab.data.tests[test], by_model, limit=recipe.evaluate.examples)
                for test, by_model in predictions.items()
            },
            "notes": [*asked.notes(folder, result["student"]), *lab.data.notes, *dict.fromkeys(of_models)],
            "structure": facts(models["student"].model.net),
        }
        disk.write_json(folder / "details.json", extra)
        _note_state(recipe, folder, "finished")
        write_report(folder)
        kept_open = tuple(f"{name}/" for name in recipe.how.databases)
        files = disk.manifest(folder, without=kept_open)
        disk.write_json(folder / disk.MANIFEST, {"files": files, "without": list(kept_open)})
    accelerator().wait_for_everyone()
    return result


def _decides(recipe: Recipe, lab: Lab) -> dict[str, Any]:
    """What the references of a run depend on."""
    fresh = recipe.teacher is not None and recipe.teacher.finetune is not None
    return {"data": lab.data.digest(), "encoder": lab.pretrained().digest if fresh else None, "length": recipe.task.max_length}


def _references(recipe: Recipe, lab: Lab) -> dict[str, Any]:
    """What needs no training of ours: an answer that knows the labels alone, the encoder's own cosine, and the teacher before
    it is fine-tuned, where it has a head for the task."""
    data = lab.data
    found = constant(data.task, data.train, data.tests)
    if recipe.teacher is None or recipe.teacher.finetune is None:
        return found
    start = lab.pretrained().model
    start.net.to(lab.device)
    found |= cosine(data.task, start, data.select, data.tests, max_length=recipe.task.max_length)
    if data.task.kind.labelled and not start.fresh_head and not data.task.kind.standardise:
        made = {test: predict_examples(start, rows, lab.encoded(start, rows)[0]) for test, rows in data.tests.items()}
        found["the teacher before fine-tuning"] = {test: compute(data.task, one) for test, one in made.items()}
    return found


def _names(recipe: Recipe) -> dict[str, str]:
    student = recipe.student.model or "student"
    return {"teacher": recipe.teacher.model if recipe.teacher else "", "baseline": student, "student": student}


def _save_student(recipe: Recipe, lab: Lab, model: Model, result: dict[str, Any], folder: Path) -> None:
    """The student as a Hugging Face folder, in the label's own units. Written again only if it differs."""
    target = folder / "student"
    if target.is_dir() and not disk.problems(target) and (folder / "result.json").exists():
        return
    if lab.data.task.kind.standardise:
        to_label_units(model.net, *lab.scale)
    scored = _without_times(result)
    model = deliver(model, folder, base=recipe.student.model or (recipe.teacher.model if recipe.teacher else ""))
    card = card_text(scored, stock=structure_of(model.net) is None)
    save_model(model, target, card=card, eval_results=eval_results_text(scored))


def _without_times(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs between two identical runs, so that student/ is the same to the last byte."""
    timeless = {key: value for key, value in result.items() if key not in ("train_seconds", "teacher_forwards", "speedup")}
    for name in ("teacher", "baseline", "student"):
        if timeless[name] is not None:
            timeless[name] = {**timeless[name], "latency_ms": None}
    return {**timeless, "verdict": verdict(timeless)}


def search_worker(folder: Path | str) -> int:
    """Work on the search of the run in `folder`, beside its own process or before it; returns the candidates tried in all."""
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise DataError(f"{folder} is not the folder of a run: it has no config.yaml. Start the run first.")
    recipe = load_recipe(folder / "config.yaml")
    set_determinism(recipe.determinism)
    with StopSignals() as stop:
        return recipe.how.join(recipe.method, Lab(recipe, folder, stop))


def write_report(folder: Path | str) -> Path:
    """report.html from what the run left on disk."""
    folder = Path(folder)
    for name in ("result.json", "details.json", "config.yaml"):
        if not (folder / name).exists():
            raise DataError(f"{folder} has no {name}: it is not a finished run. `understudy train` finishes it.")
    extra = disk.read_json(folder / "details.json")
    page = render(
        ReportInput(
            result=disk.read_json(folder / "result.json"),
            recipe=(folder / "config.yaml").read_text(encoding="utf-8"),
            history=_history(folder),
            kept=kept_by(folder),
            details=extra["details"],
            notes=extra["notes"],
            structure=extra.get("structure"),
        )
    )
    disk.write_text(folder / "report.html", page)
    return folder / "report.html"


def _history(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """step -> rows of its metrics.jsonl, in the order the steps were opened."""
    history = {}
    for mark in sorted(folder.glob("steps/*/step.json")):
        if rows := recorded(step_folder(folder, mark.parent.name)):
            history[mark.parent.name] = rows
    return history


def kept_by(folder: Path) -> dict[str, Any]:
    """step -> what was decided there once and for all (`Lab.keep`)."""
    done = {mark.parent.name: disk.read_json(mark) for mark in sorted(folder.glob("steps/*/done.json"))}
    return {name: content["value"] for name, content in done.items() if "value" in content}


def _student_of(path: Path) -> Path:
    """The model folder meant by a path: the student of a run, or the folder itself."""
    return path / "student" if (path / "student").is_dir() else path


def evaluate_folder(path: Path | str, recipe: Recipe) -> dict[str, Any]:
    """Scores of a saved model on the test sets of the recipe's task, with the rows they were measured on."""
    data = load_task(recipe.task, seed=recipe.split_seed)
    model = load_model(str(_student_of(Path(path))), task=data.task, key="DIR")
    if model.fresh_head:
        raise DataError(f"{path} has no trained head for {data.task.name}; train it first, or name another task.")
    model.net.to(accelerator().device)
    length = recipe.student.max_length or recipe.task.max_length
    metrics = {}
    for test, examples in data.tests.items():
        encoded = encode(examples, model.tokenizer, data.task, max_length=length)
        metrics[test] = compute(data.task, predict_examples(model, examples, encoded))
    return {"metrics": metrics, "rows": {test: len(examples) for test, examples in data.tests.items()}}


def predict(
    path: Path | str, rows: Path | str, *, text: str | None = None, pair: str | None = None
) -> Iterator[dict[str, Any]]:
    """One answer per row of a file: label and probability, number, labels, or words with their tags."""
    model = load_model(str(_student_of(Path(path))), key="DIR")
    model.net.to(accelerator().device)
    yield from answers(model, read_rows(Path(rows), kind=model.kind, text=text, pair=pair))


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
    else:
        say(f"{folder} is not finished yet: only its committed parts are checked.")
        for part in sorted(path.parent for path in folder.rglob(disk.MANIFEST)):
            wrong += disk.problems(part)
            files += 1
    for mark in sorted(folder.glob("steps/*/step.json")) if not wrong else ():  # a damaged mark leads nowhere
        place = step_folder(folder, mark.parent.name)
        if not place.is_relative_to(folder):
            sealed = [place] if (place / disk.MANIFEST).exists() else []  # older steps: their models only
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
