"""The tokens a student keeps: chosen by what it will read, and what that changes before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from understudy.base.errors import RecipeError
from understudy.data.custom import read_rows
from understudy.data.encode import Encoded, encode
from understudy.data.tasks import load_task
from understudy.data.types import Example, Task, TaskData
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict
from understudy.evaluate.predictions import Predictions
from understudy.kinds import kind
from understudy.lab.bench import Bench
from understudy.lab.fits import Source
from understudy.models.model import Model, digest
from understudy.recipe.load import task_from
from understudy.recipe.settings import ColumnSettings, Recipe
from understudy.students.vocabulary import counted, kept_tokens, needed_below, parts, trim, with_rank

Encode = Callable[[Sequence[Example]], Encoded]
"""Rows in the whole model's tokens."""


def with_embeddings(lab: Bench, model: Model) -> Model:
    """A student with the tokens that `student.vocabulary` keeps, and embeddings of `student.embedding_rank`; one that is so
    already is returned as it is."""

    def encoded(examples: Sequence[Example]) -> Encoded:
        return lab.encoded(model, examples, max_length=lab.recipe.student.max_length)[0]

    small = trimmed(lab.recipe, lab.data, model, encoded)
    rank = lab.recipe.student.embedding_rank
    return small if rank is None else with_rank(small, rank)


def trimmed(recipe: Recipe, data: TaskData, model: Model, encoded: Encode) -> Model:
    """The vocabulary of `with_embeddings`, by anything that encodes rows. Raises RecipeError as `tokens_for`."""
    if recipe.student.vocabulary is None:
        return model
    return trim(model, tokens_for(recipe, data, model.tokenizer, encoded, below=needed_below(model)))


def tokens_for(recipe: Recipe, data: TaskData, tokenizer: Any, encoded: Encode, *, below: int = 0) -> list[int]:
    """The tokens of a tokenizer that `student.vocabulary`, which is there, keeps. Test rows have no say.

    Raises:
        RecipeError: plain text, where teacher and student must know the same words; or see `kept_tokens`.
    """
    settings = recipe.student.vocabulary
    assert settings is not None
    require_labelled(data.task)
    if settings.number is not None and len(tokenizer) <= settings.number:
        return list(range(len(tokenizer)))
    counts = [encoded(data.train), encoded(data.select)]
    if settings.languages is not None:
        rows = load_task(recipe.task.model_copy(update={"train_languages": settings.languages}), seed=recipe.split_seed)
        counts.append(encoded(rows.train))
    if settings.texts is not None:
        counts.append(encode_texts(tokenizer, read_texts(settings.texts, settings.column)))
    return kept_tokens(tokenizer, counted(counts), number=settings.number, scripts=settings.scripts or (), below=below)


def require_labelled(task: Task) -> None:
    """Refuse what a smaller vocabulary cannot learn from a teacher with a larger one."""
    if task.kind.on_vocabulary:
        raise RecipeError(
            f"student.vocabulary: on tasks of kind {task.kind} both models answer with the words they know, which must be the "
            "same. Trim the teacher (`understudy trim MODEL --texts … --out …`) and name the new folder as teacher.model."
        )


def read_texts(files: Sequence[str], column: str | None) -> list[Example]:
    """Texts of files, in their order: lines, or the cells of a table's column."""
    found: list[Example] = []
    for file in files:
        layout = task_from({"name": "custom", "kind": "text", "files": {"train": file}}, source=file)
        found += read_rows(layout, Task("texts", kind("text")), file, columns=[ColumnSettings(text=column)])[0]
    return found


def encode_texts(tokenizer: Any, texts: Sequence[Example]) -> Encoded:
    """Whole texts in a tokenizer's tokens, however long."""
    return encode(texts, tokenizer, Task("texts", kind("text")), max_length=1_000_000)


def vocabulary_facts(
    lab: Bench, teacher: Source | None, student: Model, predicted: Mapping[str, Mapping[str, Predictions]]
) -> dict[str, Any]:
    """What the report says of a student with a smaller vocabulary; found out once.

    Args:
        predicted: test set -> model -> its predictions, the teacher's among them where there is one.

    `parts`: model -> part -> parameters. `spelled`: test set -> the share of the teacher's tokens there that the student has
    to spell. `scores`: test set -> metric -> [the teacher's, that of the teacher with the student's vocabulary].
    """
    about = {"student": digest(student.net), "teacher": teacher.digest if teacher else None, "data": lab.data.digest()}

    def make() -> dict[str, Any]:
        made: dict[str, Any] = {"parts": {"student": parts(student.net)}, "tokens": {"student": len(student.tokenizer)}}
        if teacher is None or lab.recipe.student.model is not None:
            return made
        whole = teacher.model
        made["parts"] = {"teacher": parts(whole.net), **made["parts"]}
        made["tokens"]["teacher"] = len(whole.tokenizer)
        known = set(student.tokenizer.get_vocab())
        gone = np.array([piece not in known for piece in whole.tokenizer.convert_ids_to_tokens(range(len(whole.tokenizer)))])
        small = trim(whole, np.flatnonzero(~gone).tolist())
        small.net.to(lab.device)
        made["spelled"], made["scores"] = {}, {}
        for test, rows in lab.data.tests.items():
            theirs = lab.encoded(whole, rows)[0]
            made["spelled"][test] = float(gone[theirs.input_ids].mean()) if len(theirs.input_ids) else 0.0
            again = predict(small, rows, lab.encoded(small, rows)[0], scale=lab.scale)
            before, after = (compute(lab.data.task, one) for one in (predicted[test]["teacher"], again))
            made["scores"][test] = {metric: [value, after[metric]] for metric, value in before.items()}
        return made

    return lab.keep("vocabulary", about, make)
