"""A recipe in, a finished run directory out; and what can be done with a run afterwards.

    DIR/
      config.yaml    the complete recipe          run.json      versions, machine, seed, state
      steps/         what each durable step left  result.json   what the run showed, for programs
      student/       a Hugging Face folder        report.html   the same, for people
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.base import disk, progress
from understudy.base.errors import DataError, RecipeError, VerifyError
from understudy.base.lock import lock
from understudy.base.progress import say
from understudy.check import require
from understudy.data.custom import load_tests, read_rows
from understudy.data.encode import encode
from understudy.data.known import facts_of, sentences
from understudy.data.tasks import columns_of, load_task
from understudy.data.types import Task, TaskData
from understudy.evaluate import measure
from understudy.evaluate.answers import answers
from understudy.evaluate.details import details
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict as predict_examples
from understudy.evaluate.reference import constant, cosine
from understudy.evaluate.result import assemble
from understudy.evaluate.thresholds import best_thresholds, move_boundaries
from understudy.evaluate.verdict import still_rising, verdict
from understudy.kinds import kind
from understudy.lab import Lab, Source
from understudy.lab.adapting import deliver
from understudy.lab.fits import copy_of
from understudy.lab.replay import Replay
from understudy.models.anatomy import anatomy
from understudy.models.card import card_text, eval_results_text
from understudy.models.handover import handed_on
from understudy.models.heads import to_label_units
from understudy.models.load import labels_of, load_model, reader_of
from understudy.models.model import Model
from understudy.models.save import save_model
from understudy.models.structure import structure_of
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.load import load_recipe, recipe_hash, task_from, to_yaml
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
        data = load_task(recipe.task, seed=recipe.split_seed)
        _claim(recipe, folder, data)
        trackers = start_trackers(recipe.track, "understudy", str(folder / "tracking")) if main else []
        lab = Lab(recipe, folder, stop, trackers)
        lab.data = data
        known = facts_of(data, *(reader_of(recipe, words=data.task.kind.by_word) or ()))
        data.notes += sentences(known)
        for note in data.notes:
            say(note)
        models = _train_models(recipe, lab)
        if recipe.evaluate.thresholds == "select":
            models = _with_thresholds(lab, models)
        result = _prove(recipe, lab, models, folder, asked.how, known)
        for tracker in trackers:
            tracker.finish()
    return result


def _claim(recipe: Recipe, folder: Path, data: TaskData) -> None:
    """Write the recipe into the folder, or check that the run there has the same one, and the same rows.

    Whatever is refused is refused before a file changes: a finished run stays finished.
    """
    config, main = folder / "config.yaml", accelerator().is_main_process
    if config.exists() and (folder / "steps").is_dir():  # before the first step there is nothing to mix up
        before = load_recipe(config)
        _same_training(before, recipe, folder)
        _same_rows(recipe, folder, data)
        if main and recipe_hash(before) != recipe_hash(recipe):
            disk.remove(folder / disk.MANIFEST)
            if before.evaluate.latency != recipe.evaluate.latency:
                disk.remove(folder / "steps" / "measure")
            disk.write_text(config, to_yaml(recipe))
    else:
        require(recipe, out=folder, data=data)  # by every process: where one stops, the others must not wait for it
        if main:
            disk.write_text(config, to_yaml(recipe))
    if main and not (folder / disk.MANIFEST).exists():
        _note_state(recipe, folder, "running", data)
    accelerator().wait_for_everyone()


def _same_training(before: Recipe, recipe: Recipe, folder: Path) -> None:
    """Refuse another recipe, but for keys that no trained step depends on."""
    free = {"track": True, "evaluate": {"latency", "examples", "bootstrap"}}
    old, new = (one.model_dump(mode="json", exclude=free) for one in (before, recipe))
    if not (changes := difference(old, new)):
        return
    more = ""
    if changes.startswith("train.epochs") and "," not in changes.split(", is ")[1]:
        more = (
            " More epochs cannot be added to these: the learning rate was planned to reach its end after the first ones, so the "
            "same weights would not come out. `train.planned_epochs` plans for more than are run."
        )
    raise RecipeError(f"{folder} holds a run with other settings: {changes}.{more} Use another --out for this one.")


def _same_rows(recipe: Recipe, folder: Path, data: TaskData) -> None:
    """Refuse other rows than those the run in the folder was begun with."""
    noted = disk.read_json(folder / "run.json").get("data") if (folder / "run.json").exists() else None
    now = _data_facts(data)
    if not noted or noted["digest"] == now["digest"]:
        return
    task = recipe.task
    files = task.files.model_dump(exclude_none=True) if task.files else {"path": task.path or task.name}
    counts = [
        f"{name} had {old:,} rows and has {new:,}" if old != new else f"{name} has {new:,} as before"
        for name, old, new in [
            *((part, noted[part], now[part]) for part in ("train", "select")),
            *((test, noted["tests"].get(test, {"rows": 0})["rows"], one["rows"]) for test, one in now["tests"].items()),
        ]
    ]
    listed = ", ".join(str(name) for name in files.values())
    raise RecipeError(
        f"{folder} was begun with other rows than its files hold now ({listed}): {'; '.join(counts)}. Restore them, or use "
        "another --out for these."
    )


def _note_state(recipe: Recipe, folder: Path, state: str, data: TaskData) -> None:
    about = {
        "recipe": recipe_hash(recipe),
        "seed": recipe.seed,
        "state": state,
        "versions": measure.versions(),
        "machine": measure.machine(),
        "ranks": accelerator().num_processes,
        "data": _data_facts(data),
    }
    disk.write_json(folder / "run.json", about)


def _train_models(recipe: Recipe, lab: Lab) -> dict[str, Source]:
    """Teacher, baseline and student, each in durable steps of its own."""
    models: dict[str, Source] = {}
    if recipe.teacher is not None and (recipe.how.needs_teacher or recipe.teacher.finetune is not None):
        models["teacher"] = lab.teacher()
    student = recipe.how.distil(recipe.method, lab) if recipe.student.searched else None  # found first
    known = any(row.label is not None for row in lab.data.train)
    if recipe.evaluate.baseline and recipe.how.needs_teacher and lab.data.task.kind.labelled and not known:
        lab.data.notes.append("There is no baseline: no training row has a label that it could learn from.")
        say(lab.data.notes[-1])
    elif recipe.evaluate.baseline and recipe.how.needs_teacher and lab.data.task.kind.labelled:
        labels, untrained = Objective(hard=hard_labels(lab.data.task.kind)), recipe.how.untrained(recipe.method, lab)
        model = lab.fit("baseline", untrained, labels, rows=lab.data.labelled(), shared=True)
        models["baseline"] = Source.of(model)
    student = student or recipe.how.distil(recipe.method, lab)
    models["student"] = Source.of(student)
    return models


def _with_thresholds(lab: Lab, models: dict[str, Source]) -> dict[str, Source]:
    """All models with the boundaries that are best on the selection rows."""
    if lab.data.task.kind.distribution != "sigmoid":
        raise RecipeError(f"evaluate.thresholds: a task of kind {lab.data.task.kind} has none; they are for several labels.")
    rows = [row for row in lab.data.select if row.label is not None]
    gold = lab.data.task.kind.gold([row.label for row in rows])

    def find() -> dict[str, list[float]]:
        found = {}
        for name, source in models.items():
            length = None if name == "teacher" else lab.recipe.student.max_length
            source.model.net.to(lab.device)
            made = predict_examples(source.model, rows, lab.encoded(source.model, rows, max_length=length)[0])
            found[name] = best_thresholds(made.scores, gold)
        return found

    kept = lab.keep("thresholds", {"models": {name: source.digest for name, source in models.items()}}, find)
    moved = {name: copy_of(source.model) for name, source in models.items()}
    for name, model in moved.items():
        move_boundaries(model, kept[name])
    lab.data.notes.append(f"Thresholds chosen on {len(rows)} selection rows are part of the weights (evaluate.thresholds).")
    return {name: Source.of(model) for name, model in moved.items()}


def _prove(
    recipe: Recipe, lab: Lab, models: dict[str, Source], folder: Path, asked: Method, known: dict[str, Any]
) -> dict[str, Any]:
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
            length=min(settings.length, *(anatomy(one.model.net).max_tokens(one.model.net) for one in models.values())),
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
        data=known,
    )
    if accelerator().is_main_process:
        disk.remove(folder / disk.MANIFEST)  # until it is finished again, files may differ from what it says
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
        _note_state(recipe, folder, "finished", lab.data)
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
    length = min(recipe.student.max_length or recipe.task.max_length, anatomy(model.net).max_tokens(model.net))
    said = recipe.task.model_dump(mode="json", exclude_defaults=True)
    handover = handed_on(said, max_length=length, pair=lab.data.task.pair)
    card = card_text(scored, stock=structure_of(model.net) is None, handover=handover)
    save_model(model, target, card=card, eval_results=eval_results_text(scored), handover=handover)


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
    disk.require_intact(folder, ("result.json", "details.json", "config.yaml"))
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
    disk.renew(folder, "report.html")
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
    """Scores of a saved model on the test sets of the recipe's task, with the rows they were measured on.

    Test files are read by themselves, with the labels the model knows: their rows are scored, or there is an error. Without test
    files the rows are those that the run in `path` held out of its training file; where these cannot be had again (the file, or
    a key that decides on them, is another one), there is an error too.
    """
    run, folder = Path(path), _student_of(Path(path))
    if recipe.task.files is not None and recipe.task.files.test is not None:
        task, tests, notes = load_tests(recipe.task, labels_of(str(folder), key="DIR"))
    else:
        data = load_task(recipe.task, seed=recipe.split_seed)
        task, tests, notes = data.task, data.tests, data.notes
        before = disk.read_json(run / "run.json").get("data") if (run / "run.json").is_file() else None
        if data.held_out and before and before["tests"] != _data_facts(data)["tests"]:
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
    metrics = {}
    for test, examples in tests.items():
        encoded = encode(examples, model.tokenizer, task, max_length=min(length, anatomy(model.net).max_tokens(model.net)))
        metrics[test] = compute(task, predict_examples(model, examples, encoded))
    return {"metrics": metrics, "rows": {test: len(examples) for test, examples in tests.items()}}


def _data_facts(data: TaskData) -> dict[str, Any]:
    """How many rows a run learns from, and which it is reported on, for run.json."""
    digests = {name: replace(data, train=[], select=[], tests={name: rows}).digest() for name, rows in data.tests.items()}
    return {"digest": data.digest(), "train": len(data.train), "select": len(data.select), "tests": {
        name: {"rows": len(rows), "digest": digests[name]} for name, rows in data.tests.items()
    }}  # fmt: skip


def predict(
    path: Path | str,
    rows: str,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    columns: Mapping[str, str | None] | None = None,
) -> Iterator[dict[str, Any]]:
    """One answer per row of a file, in its order: label and probability, number, labels, or words with their tags.

    The file is read as those of the task were that the model was trained on (a run and a student's folder know it), or as the
    task of `recipe` says; `overrides` (`task.key=value`) and `columns` (text, pair, id) change that.
    """
    folder = _student_of(Path(path))
    model = load_model(str(folder), key="DIR")
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
    pair = bool(layouts[0].pair) or (handover.pair if handover else False)
    task = Task(settings.name, model.kind, model.labels, pair=pair)
    if settings.kind is not None and kind(settings.kind) is not model.kind:
        raise RecipeError(f"task.kind: {path} was trained for {model.kind}, not for {settings.kind}.")
    examples, notes = read_rows(settings, task, rows, columns=layouts)
    for note in notes:
        say(note)
    model.net.to(accelerator().device)
    length = settings.max_length if any(text.startswith("task.max_length=") for text in overrides) else None
    yield from answers(model, examples, task, max_length=length)


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
