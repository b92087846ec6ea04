"""The first recipe of one's own: about twenty lines for files that were looked at, with what was guessed and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.base.errors import RecipeError, UnderstudyError
from understudy.base.suggest import did_you_mean, few
from understudy.data.guess import Guess, guess_files
from understudy.data.known import lengths_of
from understudy.data.tasks import load_task
from understudy.data.types import TaskData
from understudy.demo import HUB, teacher_at_hand
from understudy.recipe.load import recipe_from, task_from
from understudy.recipe.method import Method, methods
from understudy.recipe.reference import on_one_line
from understudy.recipe.settings import Recipe

MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
_BATCH = 32
_COLUMN = 46


def first_recipe(method: str = "auto", *, data: Sequence[str] = (), teacher: str | None = None) -> str:
    """A short recipe that `check` and `train` accept.

    Args:
        method: by name.
        data: files (see `data.guess.guess_files`); none: the built-in help-desk mails.
        teacher: checkpoint to learn from; None: the small encoder of the demo, or a multilingual one for such texts.

    Raises:
        RecipeError: there is no such method, or it is not said what a file is for.
        DataError: the files cannot be read, or hold nothing to learn from.
    """
    if method not in methods():
        raise RecipeError(f"there is no method '{method}'.{did_you_mean(method, methods())} There are {', '.join(methods())}.")
    how = methods()[method]
    guess = guess_files(data) if data else Guess({"name": "demo/intent"}, {"name": "built in; yours: init --data FILE"})
    if data:
        guess.task["name"], guess.why["name"] = f"custom/{_name(data[0])}", "what reports and cards call it"
    rows = load_task(task_from(guess.task, source="init"), seed=0)
    why_teacher = "given"
    if teacher is None:
        teacher, why_teacher = _teacher(rows)
    recipe = _recipe(guess.task, teacher, how)
    size, most, lengths = _measured(recipe, rows)
    if lengths is not None:
        holds = int(np.quantile(lengths, 0.99, method="inverted_cdf"))
        fits = next((length for length in (128, 192, 256, 384, 512, 1024, 2048, 4096, 8192) if length >= holds), holds)
        guess.task["max_length"] = min(fits, most or fits)
        longer = f", more than the {most} this model reads" if most and holds > most else ""
        guess.why["max_length"] = f"99 % of the texts have at most {holds} tokens{longer}"
    if len(rows.train) < 200:
        guess.notes.append("Few rows tell little: intervals will be wide, a tie the likeliest verdict. A few hundred more help.")
    if rows.task.kind.by_word:
        guess.notes.append(f"{len(rows.task.labels)} tags: {few(rows.task.labels)}.")
    return _written(guess, teacher, why_teacher, how, rows, size)


def _name(file: str) -> str:
    """What a file is called, without its folder, endings and pattern."""
    path = Path(file.rpartition("=")[2]).resolve()
    name = re.sub(r"[^\w-]+", "-", path.name.split(".")[0]).strip("-")
    return path.parent.name if name in ("", "train", "data") else name


def _teacher(rows: TaskData) -> tuple[str, str]:
    text = "".join(" ".join(row.words) if row.words else row.text or "" for row in rows.train[:2000])
    letters = [letter for letter in text if letter.isalpha()]
    if sum(not letter.isascii() for letter in letters) > 0.01 * len(letters):
        return MULTILINGUAL, "small, of fifty languages: not all letters here are English"
    try:
        return teacher_at_hand(), "small and quick; a larger one teaches better"
    except UnderstudyError:
        return HUB, "small and quick; a larger one teaches better"


def _recipe(task: dict[str, Any], teacher: str, how: Method) -> Recipe:
    student = {} if how.finds_student else {"student": dict(how.student_example)}
    made = {"task": task, "teacher": {"model": teacher, "finetune": {}}, **student, "method": how.name}
    return recipe_from(made, source="init")


def _measured(recipe: Recipe, rows: TaskData) -> tuple[int | None, int | None, Any]:
    """(parameters outside the embeddings, longest input, tokens of some rows) of the teacher; None where it is out of reach."""
    from understudy.check import sizes_of
    from understudy.evaluate.measure import num_parameters_nonembedding
    from understudy.models.load import reader_of
    from understudy.models.source import resolve

    assert recipe.teacher is not None
    reader = reader_of(recipe, words=rows.task.kind.by_word)
    if reader is None:
        return None, None, None
    tokenizer, _, most = reader
    source = resolve(recipe.teacher.model, key="teacher.model", weights=False)
    return num_parameters_nonembedding(sizes_of(source.config).net), most, lengths_of(rows, tokenizer)


def schedule(size: int | None, rows: int) -> tuple[int, float, int, float, str]:
    """Epochs and rate of teacher and student, and why: by the teacher's size and the number of rows.

    A small encoder learns little at the rate that is for BERT-base, and few rows need more epochs (docs/data.md).
    """
    from understudy.lab.lab import SMALL  # heavy

    small = size is None or size <= SMALL
    steps = -(-rows // _BATCH)
    epochs = 8 if steps < 15 else 5 if steps < 100 else 3 if steps < 1000 else 2 if steps < 5000 else 1
    many = 2 * epochs if steps < 1000 else epochs
    what = "a small teacher" if small else "a teacher of BERT-base's size"
    unknown = " (taken for granted: it could not be looked at)" if size is None else ""
    return epochs, 2e-4 if small else 5e-5, many, 2e-4 if small else 1e-4, f"{what}{unknown}, {rows:,} rows"


def _written(guess: Guess, teacher: str, why_teacher: str, how: Method, rows: TaskData, size: int | None) -> str:
    task, why = guess.task, guess.why
    tests = ", ".join(f"{len(part):,} ({name})" for name, part in rows.tests.items())
    lines = [
        f"# {len(rows.train):,} rows to learn from, {len(rows.select):,} to select by, to report on: {tests}.",
        "# What was guessed stands behind each line; correct what is wrong, then",
        "#   understudy check run.yaml    and    understudy train run.yaml --out runs/first",
        *(f"# {note}" for note in guess.notes),
        "task:",
        _line("  name", task["name"], why.get("name", "")),
    ]
    for key in ("kind", "files", "columns", "label_separator", "delimiter", "encoding", "max_length"):
        if key not in task:
            continue
        if key == "columns":
            lines.append("  columns:")
            lines += [_line(f"    {name}", column, why.get(f"columns.{name}", "")) for name, column in task[key].items()]
        else:
            lines.append(_line(f"  {key}", task[key], why.get(key, "")))
    epochs, lr, many, rate, reason = schedule(size, len(rows.train))
    lines += ["teacher:", _line("  model", teacher, why_teacher)]
    text = not rows.task.kind.labelled
    if not text:
        lines.append(_line("  finetune", {"epochs": epochs, "lr": lr}, reason + "; `lr: auto` tries three rates"))
    if not how.finds_student:
        lines.append(_line("student", dict(how.student_example), "of the teacher's layers"))
    lines += [
        _line("method", how.name, how.summary),
        _line("train", {"epochs": many, "lr": rate}, "the student, and the same student without a teacher"),
        "# Every other setting: understudy init " + how.name + " --full",
    ]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, why: str) -> str:
    text = f"{key}: {on_one_line(value)}"
    return f"{text:<{_COLUMN - 2}}  # {why}" if why else text
