"""The whole of understudy as one call: rows and a teacher in, a finished run out.

    run = understudy.distil(teacher="sentence-transformers/all-MiniLM-L6-v2", train=(texts, labels), student=3)
    run.scores, run.predict(["…"]), run.save("student"), run.report

No second engine: rows are written beside the run, and a recipe goes through the same check and the same durable steps as
`understudy train`. The folder is that of the command, and every command takes it.
"""

from __future__ import annotations

import hashlib
import html
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError, UnderstudyError
from understudy.base.progress import say
from understudy.data.memory import NAMELESS, guessed, table_in_memory
from understudy.data.read import Table, find_files, is_table, joined, read_table
from understudy.init import schedule
from understudy.kinds import kind as kind_of
from understudy.kinds.cells import is_blank, label_name
from understudy.recipe.load import apply_changes, recipe_from
from understudy.recipe.settings import TASK_NAMES
from understudy.steps import safe

if TYPE_CHECKING:
    from understudy.models.model import Model

ROWS = "rows"
"""The folder, inside a run's, of the rows (and the teacher) that were in memory."""
_MARK = "\0rows/"
"""Begins the name of a file whose folder is not known yet; no file is called so."""


def distil(
    teacher: Any,
    train: Any,
    *,
    student: str | Path | int | float | Sequence[int] | Mapping[str, Any] | None = None,
    test: Any = None,
    dev: Any = None,
    out: str | Path | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | Sequence[str] | None = None,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    method: str | Mapping[str, Any] | None = None,
    finetune: bool | Mapping[str, Any] | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    max_length: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Distilled:
    """Make a small model that stands in for a large one on your rows, and show how good it is.

    The same call again continues where it stopped, or returns at once where it had finished.

    Args:
        teacher: a name on the Hub, a folder, `package:NAME/FOLDER`; a pipeline of transformers, or (model, tokenizer).
        train: (texts, labels), a DataFrame, a `datasets.Dataset` or `DatasetDict`, a list or a dictionary of columns
            (`data.memory.table_in_memory`), the name of a file, or of a task that needs none (`demo/intent`, `glue/mrpc`).
            Rows with the label None are learnt from the teacher alone.
        student: how many layers of the teacher (`3`), which (`[0, 2, 4]`), the share of heads and neurons to cut (`0.5`), a
            smaller checkpoint, or the recipe's section as a dictionary. None: method `auto` chooses.
        test: rows to report on, of any form that `train` has, or several by name. None: a fifth of train is held out.
        dev: rows to choose the best checkpoint by. None: a part of train.
        out: the run's folder. None: `runs/` and a name that stands for everything that was asked for.
        text, pair, label: the columns, where they are not called so or as data sets often call them; `label` may be a list of
            columns that hold 0 or 1.
        kind: classification, regression, multilabel, tokens, … None: by the look of the labels.
        labels: their names in order. None: those found in train; those of the teacher where no row has one.
        method: a name of `understudy methods`, or the recipe's section. None: automm, or auto where no student is given.
        finetune: whether the teacher learns the task first, perhaps with settings of its own. None: unless it has a trained head
            with these labels.
        epochs, lr: of the student, `train.epochs` and `train.lr` of a recipe. None: by the teacher's size and the number of rows.
        max_length, seed: as `task.max_length` and `seed` of a recipe.
        settings: any other keys of a recipe, as on the command line: `{"train.batch_size": 16, "evaluate.bootstrap": 500}`.

    Raises:
        UnderstudyError: whatever the command would refuse, before anything is trained; the message says what to do.
    """
    asked = _Asked()
    reference = asked.teacher(teacher)
    config = asked.config(reference)
    changes = dict(settings or {})
    if isinstance(train, str) and train in TASK_NAMES:
        task, known, rows = {"name": train}, set(), 0
        what_kind = kind or "classification"
    else:
        task, known, rows = _own_rows(asked, train, dev, test, {"text": text, "pair": pair, "label": label}, kind)
        what_kind = str(task["kind"])
        if not known and kind_of(what_kind).labelled:
            changes = {"objective.hard": 0, **changes}
            if not labels and kind_of(what_kind).named:
                labels = [str(name) for name in (config.get("id2label") or {}).values()]
        task["labels"] = list(labels) if labels else None
    if finetune is None:
        finetune = not _teaches(config, what_kind, set(labels or known))
        what = "learns the task from these rows first" if finetune else "teaches as it is: its head has these labels"
        say(f"The teacher {what} (finetune={not finetune} would change that).")
    trained = {"epochs": epochs, "lr": lr}
    learns = {} if finetune is True else dict(finetune) if finetune is not False else None
    if rows:
        many, rate, more, own, _ = schedule(_size(config), rows)
        trained = {"epochs": epochs or more, "lr": lr or own}
        learns = learns if learns is None else {"epochs": many, "lr": rate, **learns}
    said = {
        "seed": seed,
        "task": {**task, "max_length": max_length},
        "teacher": {"model": reference, "finetune": learns},
        "student": _student(student),
        "method": method or ("auto" if student is None else "automm"),
        "train": trained,
    }
    said = {key: _without_none(value) for key, value in said.items() if value is not None}
    said = apply_changes(said, changes, source="settings")
    folder = Path(out) if out is not None else Path("runs") / asked.digest(said)
    recipe_from(said, source="distil")  # what is wrong in it is said before a file is written
    recipe = recipe_from(asked.written(said, folder), source="distil")
    from understudy.run import train as run

    run(recipe, folder)
    return Distilled(folder)


def _own_rows(
    asked: _Asked, train: Any, dev: Any, test: Any, columns: dict[str, Any], kind: str | None
) -> tuple[dict[str, Any], set[str], int]:
    """The recipe's section on rows of one's own, the labels that train has, and its rows; dev and test are written alike."""
    if type(train).__name__ == "DatasetDict":
        dev = train.get("validation") if dev is None else dev
        test = train.get("test") if test is None else test
        train = train["train"]
    table = _table(train, "train")
    if set(table.columns) <= set(NAMELESS):
        own = {"text": "words" if "words" in table.columns else "text", "pair": "pair", "label": "label"}
        columns = {key: name or (own[key] if own[key] in table.columns else None) for key, name in columns.items()}
    task = guessed(table, **columns)
    other = next((rows for rows in (test, dev) if rows is not None), None)
    if not kind_of(task["kind"]).labelled and kind is None and other is not None:  # their labels say what is asked for
        rows = next(iter(other.values())) if _are_several(other, task["columns"]) else other
        task = guessed(_table(rows, "test"), **columns | {"label": columns["label"] or "label"})
    task["kind"] = kind or task["kind"]
    columns = task["columns"]
    files: dict[str, Any] = {"train": asked.rows("train", train, table, columns)}
    if dev is not None:
        files["dev"] = asked.rows("dev", dev, _table(dev, "dev"), columns)
    if test is not None:
        several = test if _are_several(test, columns) else {"test": test}
        tests = {str(name): asked.rows(str(name), rows, _table(rows, str(name)), columns) for name, rows in several.items()}
        files["test"] = tests if several is test else tests["test"]
    known = _labels_found(table, columns.get("tags" if kind_of(task["kind"]).by_word else "label"))
    return {"name": "custom", **task, "files": files}, known, len(table)


def _are_several(test: Any, columns: Mapping[str, Any]) -> bool:
    """Whether these are several test sets by name, and not the columns of one."""
    return isinstance(test, Mapping) and not set(columns.values() if columns else ()) & set(test)


def _without_none(section: Any) -> Any:
    return {key: value for key, value in section.items() if value is not None} if isinstance(section, dict) else section


class Distilled:
    """A finished run: what it showed, and the student. `Distilled(folder)` opens any run, of the command too."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "result.json").is_file():
            raise DataError(f"{folder} has no result.json: it is not a finished run. `understudy train` finishes it.")
        self.result: dict[str, Any] = disk.read_json(self.folder / "result.json")
        """Everything the run showed (docs/result.md)."""

    @property
    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Teacher, baseline (the same student without a teacher) and student -> test set -> metric -> value."""
        models = {name: self.result[name] for name in ("teacher", "baseline", "student") if self.result.get(name)}
        return {
            name: {test: {metric: one["value"] for metric, one in found.items()} for test, found in model["metrics"].items()}
            for name, model in models.items()
        }

    @property
    def verdict(self) -> str:
        """What the run came to, in a sentence."""
        return self.result["verdict"]

    @property
    def advice(self) -> list[str]:
        """What to do next, in sentences."""
        return list(self.result.get("advice", []))

    @property
    def report(self) -> Path:
        """report.html; a notebook shows it where the run is the last line of a cell."""
        return self.folder / "report.html"

    @property
    def student(self) -> Path:
        """The student as a Hugging Face folder."""
        return self.folder / "student"

    @cached_property
    def model(self) -> Model:
        """The student, loaded."""
        from understudy.models.load import load_model

        return load_model(str(self.student), key="student")

    def predict(self, rows: Any, *, text: str | None = None, pair: str | None = None) -> Any:
        """The student's answers, one dictionary a row in their order; a single text or pair of texts has one answer.

        Args:
            rows: texts, pairs or lists of words, or any other form that `distil` takes; a file by its `Path`.
            text, pair: the columns, where they are not called as they were in training.
        """
        from understudy.run import predict

        single = isinstance(rows, str) or (isinstance(rows, tuple) and all(isinstance(part, str) for part in rows))
        given = [rows] if single else rows
        columns = {"text": text, "pair": pair}
        if isinstance(given, Path):
            return list(predict(self.folder, str(given), columns=columns, model=self.model))
        table = table_in_memory(given, "rows")
        if isinstance(given, list | tuple) and set(table.columns) <= set(NAMELESS):
            columns = {"text": table.columns[0], "pair": "pair" if "pair" in table.columns else None}
        answers = list(predict(self.folder, table, columns=columns, model=self.model))
        return answers[0] if single else answers

    def save(self, folder: str | Path, form: str | None = None) -> Path:
        """The student in a folder of its own: as it is, or exported (`hf`, `padded`, `exact`, `onnx`)."""
        folder = Path(folder)
        if form is not None:
            from understudy.export import export_folder

            export_folder(self.folder, form, out=folder)
            return folder
        if folder.exists() and not (folder / "task.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise RecipeError(f"{folder} exists and is not a student; name another folder, or delete it.")
        disk.copy_dir(self.student, folder)
        return folder

    def __repr__(self) -> str:
        return f"Distilled('{self.folder}'): {self.verdict}"

    def _repr_html_(self) -> str:
        page = html.escape(self.report.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 760px; border: 0" sandbox="allow-scripts"></iframe>'


class _Asked:
    """What was given in memory, by the name it will have in the run's folder. Nothing is written before all of it is known."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def rows(self, name: str, given: Any, table: Table, columns: Mapping[str, Any]) -> Any:
        """What a recipe says of these rows: the names of their files, or a mark for where they will be written."""
        if _are_files(given):
            return [str(one) for one in given] if isinstance(given, list) else str(given)
        kept: dict[str, str] = {}
        for key, named in columns.items():
            for column in [named] if isinstance(named, str) else named:
                there = column if column in table.columns else "label" if key == "tags" else key  # lists name no columns
                if there in table.columns or key in ("text", "pair", "words"):
                    kept[column] = there
        cells = zip(*(table.column(there) for there in kept.values()), strict=True)
        lines = (json.dumps(dict(zip(kept, row, strict=True)), ensure_ascii=False) + "\n" for row in cells)
        file = f"{safe(name)}.jsonl"
        self._files[file] = "".join(lines).encode()
        return _MARK + file

    def teacher(self, given: Any) -> str:
        """What a recipe says of the teacher: its name, or a mark for where it will be written."""
        if isinstance(given, str | Path):
            return str(given)
        if hasattr(given, "model") and hasattr(given, "tokenizer"):
            given = (given.model, given.tokenizer)
        if not (isinstance(given, tuple) and len(given) == 2 and all(hasattr(part, "save_pretrained") for part in given)):
            raise RecipeError(
                f"teacher: expected a name, a folder, a pipeline or (model, tokenizer), got {type(given).__name__}."
            )
        with tempfile.TemporaryDirectory() as scratch:
            given[0].save_pretrained(scratch, max_shard_size="1TB")
            given[1].save_pretrained(scratch)
            self._files |= {f"teacher/{path.name}": path.read_bytes() for path in sorted(Path(scratch).iterdir())}
        return f"{_MARK}teacher"

    def config(self, reference: str) -> dict[str, Any]:
        """The configuration of the teacher's checkpoint."""
        if reference.startswith(_MARK):
            return json.loads(self._files["teacher/config.json"])
        from understudy.models.source import resolve

        return resolve(reference, key="teacher", weights=False).config

    def digest(self, said: Mapping[str, Any]) -> str:
        """Ten digits that stand for everything that was asked for."""
        seen = hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=5)
        for name, content in sorted(self._files.items()):
            seen.update(f"\x1e{name}\x1f{len(content)}".encode() + content)
        return seen.hexdigest()

    def written(self, said: Any, folder: Path) -> Any:
        """What was said, with the files where it has marks. A run that is there is not touched: other rows are refused.

        Raises:
            RecipeError: the run in `folder` was started with different rows, or another teacher.
        """
        place = folder.resolve() / ROWS
        begun = (folder / "config.yaml").is_file() and (folder / "steps").is_dir()
        for name, content in self._files.items():
            there = (place / name).read_bytes() if (place / name).is_file() else None
            if begun and there != content:
                what = "another teacher" if name.startswith("teacher/") else f"other rows ({name.removesuffix('.jsonl')})"
                raise RecipeError(f"{folder} holds a run that was begun with {what}. Use another `out` for this one.")
            if there != content:
                disk.write_bytes(place / name, content)

        def placed(value: Any) -> Any:
            if isinstance(value, dict):
                return type(value)({key: placed(one) for key, one in value.items()})  # `objective` may be changes to a method's
            return str(place / value.removeprefix(_MARK)) if isinstance(value, str) and value.startswith(_MARK) else value

        return placed(said)


def _are_files(given: Any) -> bool:
    """Whether rows are the name of a file or of several (as `Path`s), rather than in memory."""
    several = isinstance(given, list) and len(given) > 0 and all(isinstance(one, Path) for one in given)
    return several or isinstance(given, str | Path)


def _table(given: Any, name: str) -> Table:
    """The rows as a table; of files that are no tables, one without columns would be no help, so they are refused."""
    if not _are_files(given):
        return table_in_memory(given, name)
    if isinstance(given, str) and given.startswith("hub:"):
        from understudy.data.hub import hub_table

        return hub_table(given)
    paths = find_files([str(one) for one in given] if isinstance(given, list) else str(given), key=name)
    if not all(is_table(path) for path in paths):
        raise RecipeError(f"{name}: {paths[0]} is not a table; write a recipe for it, and use `understudy train` (docs/data.md).")
    return joined([read_table(path) for path in paths])


def _labels_found(table: Table, label: Any) -> set[str]:
    """The names of the labels in a table; empty where no row has one."""
    if not isinstance(label, str):
        return set(label or ())
    cells = [cell for cell in table.column(label) if not is_blank(cell)] if label in table.columns else []
    return {label_name(one) for cell in cells for one in (cell if isinstance(cell, list | tuple) else [cell])}


def _teaches(config: Mapping[str, Any], kind: str, labels: set[str]) -> bool:
    """Whether a checkpoint has a trained head for these labels: it names them, or has as many without names."""
    head = "ForTokenClassification" if kind_of(kind).by_word else "ForSequenceClassification"
    if not str((config.get("architectures") or [""])[0]).endswith(head):
        return False
    names = [str(name) for name in (config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}).values()]
    if not kind_of(kind).named:
        return len(names) == 1
    nameless = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    return len(names) == len(labels) if nameless else labels <= set(names)


def _size(config: Mapping[str, Any]) -> int | None:
    """Parameters outside the embeddings, by the configuration alone; None for a shape that nobody knows."""
    from understudy.check import sizes_of
    from understudy.evaluate.measure import num_parameters_nonembedding

    try:
        return num_parameters_nonembedding(sizes_of(dict(config)).net)
    except UnderstudyError:
        return None


def _student(given: Any) -> dict[str, Any] | None:
    """The recipe's section for what was said of the student."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str | Path):
        return {"model": str(given)}
    if isinstance(given, bool) or not isinstance(given, int | float | Sequence):
        raise RecipeError(
            f"student: expected a number of layers (3), layers ([0, 2, 4]), a share to cut (0.5), a checkpoint or a dictionary, "
            f"got {type(given).__name__}."
        )
    if isinstance(given, Sequence):
        return {"keep": list(given)}
    return {"num_layers" if isinstance(given, int) else "sparsity": given}
