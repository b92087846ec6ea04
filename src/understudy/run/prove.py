"""What a run shows: models are scored, measured and compared, and everything is written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.progress import say
from understudy.data.known import new_rows
from understudy.evaluate import measure
from understudy.evaluate.details import details
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict as predict_examples
from understudy.evaluate.reference import constant, cosine
from understudy.evaluate.result import UNKNOWN, assemble
from understudy.evaluate.samples import samples
from understudy.evaluate.verdict import still_rising, verdict
from understudy.lab import Lab, Source
from understudy.lab.adapting import deliver
from understudy.lab.vocabulary import vocabulary_facts
from understudy.models.anatomy import anatomy
from understudy.models.card import card_text, eval_results_text
from understudy.models.handover import handed_on
from understudy.models.heads import to_label_units
from understudy.models.model import Model
from understudy.models.save import save_model
from understudy.models.structure import structure_of
from understudy.recipe.method import Method
from understudy.recipe.settings import Recipe
from understudy.report.structure import facts
from understudy.run.claim import note_state
from understudy.run.finished import history, write_report
from understudy.steps import kept_by
from understudy.train.devices import accelerator


def prove(
    recipe: Recipe, lab: Lab, models: dict[str, Source], folder: Path, asked: Method, known: dict[str, Any]
) -> dict[str, Any]:
    """Score, measure, compare, write down."""
    task = lab.data.task
    if models["student"].model.bare:  # it says nothing about words: its score is its objective on the test rows
        task = replace(task, metrics=("loss",), select="loss")
    beside = models.get("teacher") if task.kind.beside_teacher else None
    if isinstance(beside, Source) and lab.same_tokens(beside.model, models["student"].model):
        task = replace(task, metrics=tuple(dict.fromkeys((*task.metrics, *task.kind.beside_teacher))))
    else:
        beside = None
    predictions: dict[str, dict] = {test: {} for test in lab.data.tests}
    for name, source in models.items():
        if task.kind.masked and name != "student":
            continue
        for test, made in lab.predictions(name, source, is_teacher=name == "teacher", beside=beside).items():
            predictions[test][name] = made
    if told := lab.answers():
        answered = {test: told.predictions(rows) for test, rows in lab.data.tests.items()}
        for test, made in answered.items():
            predictions[test] |= {"teacher": made} if made else {}
    if recipe.student.vocabulary is not None:
        vocabulary_facts(lab, models.get("teacher"), models["student"].model, predictions)
    settings, student = recipe.evaluate.latency, recipe.student.model or "student"
    measured = lab.keep(
        "measure",
        {"models": {name: source.digest for name, source in models.items()}, **settings.model_dump()},
        lambda: measure.costs(
            {name: source.model.net.to(lab.device) for name, source in models.items()},
            names={"teacher": recipe.teacher.model if recipe.teacher else "", "baseline": student, "student": student},
            batch_size=settings.batch_size,
            length=min(settings.length, *(anatomy(one.model.net).max_tokens(one.model.net) for one in models.values())),
            repeats=settings.repeats,
            threads=settings.threads,
        ),
    )
    result = assemble(
        task,
        predictions,
        costs=measured | ({"teacher": UNKNOWN | {"name": told.name}} if told else {}),
        method=recipe.method.model_dump(mode="json"),
        seed=recipe.seed,
        resamples=recipe.evaluate.bootstrap,
        train_seconds=lab.seconds,
        teacher_forwards=lab.teacher_examples,
        versions=measure.versions(),
        machine=measure.machine(),
        search=recipe.how.search_result(kept_by(folder)),
        references=_references(recipe, lab),
        rising=still_rising(history(folder), task.select),
        data=known,
        new={test: rows for test, rows in new_rows(lab.data).items()  # not where some rows alone are judged
             if task.kind.labelled and len(predictions[test]["student"]) == len(lab.data.tests[test])},
        **({"samples": _samples(recipe, lab, models)} if task.kind.causal else {}),
    )
    for line in result["advice"]:
        if "are in train too" in line:
            say(line)
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
            # The recipe's own method speaks, `auto` for instance, not the one it settled on.
            "notes": [
                *_of_vectors(models, measured),
                *asked.notes(folder, result["student"]),
                *lab.data.notes,
                *dict.fromkeys(of_models),
            ],
            "structure": facts(models["student"].model.net),
        }
        disk.write_json(folder / "details.json", extra)
        note_state(recipe, folder, "finished", lab.data)
        write_report(folder)
        kept_open = tuple(f"{name}/" for name in recipe.how.databases)
        files = disk.manifest(folder, without=kept_open)
        disk.write_json(folder / disk.MANIFEST, {"files": files, "without": list(kept_open)})
    accelerator().wait_for_everyone()
    return result


def _of_vectors(models: dict[str, Source], costs: dict[str, Any]) -> list[str]:
    """What an embedding model costs beside its own weights: the index of its vectors, and texts a second."""
    if not models["student"].model.kind.pooled:
        return []
    width, time = models["student"].model.net.head.width, costs["student"]["latency_ms"]
    speeds = [f"the {name} {1000 * time['batch_size'] / one['latency_ms']['median']:,.0f}" for name, one in costs.items()
              if name != "baseline" and one["latency_ms"]]  # fmt: skip
    index = f"an index takes {4 * width:,} bytes a text in fp32, {width:,} in int8, {-(-width // 8):,} as bits"
    return [
        f"A vector has {width:,} dimensions: {index}.",
        f"Texts of {time['length']} tokens a second, {time['batch_size']} at once: {', '.join(speeds)}.",
    ]


def _samples(recipe: Recipe, lab: Lab, models: dict[str, Source]) -> list[dict[str, str]]:
    """What the models write from the beginnings of some test rows; made once."""
    begun = {(row.text or "")[:40]: row for row in reversed(next(iter(lab.data.tests.values())))}  # of equal beginnings the first
    rows = list(reversed(begun.values()))[: recipe.evaluate.samples]
    named = {name: source.model for name, source in models.items() if isinstance(source, Source)}
    about = {"models": {name: models[name].digest for name in named}, "rows": [[row.text, row.pair] for row in rows]}

    def write() -> list[dict[str, str]]:
        for model in named.values():
            model.net.to(lab.device)
        return samples(named, rows, max_length=min(anatomy(one.net).max_tokens(one.net) for one in named.values()))

    return lab.keep("samples", about, write)


def _references(recipe: Recipe, lab: Lab) -> dict[str, Any]:
    """What needs no training of ours: an answer that knows the labels alone, the encoder's own cosine, and the teacher before
    it is fine-tuned, where it has a head for the task."""
    data, length = lab.data, recipe.task.max_length
    start = lab.pretrained() if recipe.teacher is not None and recipe.teacher.finetune is not None else None

    def find() -> dict[str, Any]:
        found = constant(data.task, data.train, data.tests)
        if start is None:
            return found
        model = start.model
        model.net.to(lab.device)
        found |= cosine(data.task, model, data.select, data.tests, max_length=length)
        if data.task.kind.labelled and not model.fresh_head and not data.task.kind.standardise:
            made = {test: predict_examples(model, rows, lab.encoded(model, rows)[0]) for test, rows in data.tests.items()}
            found["the teacher before fine-tuning"] = {test: compute(data.task, one) for test, one in made.items()}
        return found

    about = {"data": data.digest(), "encoder": start.digest if start else None, "length": length}
    return lab.keep("references", about, find)


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
