"""The nine GLUE tasks from their official folders (CoLA, SST-2, …), as the GLUE download script leaves them.

The test labels of GLUE are hidden, so results are reported on dev and selection comes from train. MRPC and STS-B were
published with labels before GLUE: where these files are present they are a further, labelled test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.base.errors import DataError
from understudy.data.read import Table, find_file, read_tsv
from understudy.data.types import Example, Splits, Task
from understudy.kinds import kind
from understudy.kinds.cells import class_number, score

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings


@dataclass(frozen=True)
class Glue:
    """One task: its folder, its labels in the order of the Hub's copy, its columns, its metrics (the first selects)."""

    folder: str
    text: str
    pair: str | None
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    codes: tuple[str, ...] = ()  # what the files call the labels, where that is not their name
    train_columns: tuple[str, ...] | None = None  # of a train and dev file without a header
    ragged: str = "error"
    devs: dict[str, str] = field(default_factory=lambda: {"dev": "dev.tsv"})


_INFERENCE = ("entailment", "not_entailment")
GLUE: dict[str, Glue] = {
    "cola": Glue(
        "CoLA", "sentence", None, "label", ("unacceptable", "acceptable"), ("mcc", "accuracy"), ("0", "1"),
        train_columns=("source", "label", "mark", "sentence"),
    ),
    "sst2": Glue("SST-2", "sentence", None, "label", ("negative", "positive"), ("accuracy",), ("0", "1")),
    "mrpc": Glue(
        "MRPC", "#1 String", "#2 String", "Quality", ("not_equivalent", "equivalent"), ("f1", "accuracy"), ("0", "1")
    ),
    # a few rows of the official train.tsv are broken in two; everybody leaves them out, and we say how many
    "qqp": Glue(
        "QQP", "question1", "question2", "is_duplicate", ("not_duplicate", "duplicate"), ("f1", "accuracy"), ("0", "1"),
        ragged="drop",
    ),
    "stsb": Glue("STS-B", "sentence1", "sentence2", "score", (), ("pearson", "spearman")),
    "mnli": Glue(
        "MNLI", "sentence1", "sentence2", "gold_label", ("entailment", "neutral", "contradiction"), ("accuracy",),
        devs={"dev_matched": "dev_matched.tsv", "dev_mismatched": "dev_mismatched.tsv"},
    ),
    "qnli": Glue("QNLI", "question", "sentence", "label", _INFERENCE, ("accuracy",)),
    "rte": Glue("RTE", "sentence1", "sentence2", "label", _INFERENCE, ("accuracy",)),
    "wnli": Glue("WNLI", "sentence1", "sentence2", "label", _INFERENCE[::-1], ("accuracy",), ("0", "1")),
}  # fmt: skip

_STS_COLUMNS = ("genre", "file", "year", "index", "score", "sentence1", "sentence2")


def glue_task(name: str) -> Task:
    """The task `glue/NAME`."""
    spec = GLUE[name.removeprefix("glue/")]
    asked = kind("classification" if spec.labels else "regression")
    return Task(name, asked, spec.labels, spec.metrics, spec.metrics[0], pair=spec.pair is not None)


def load_glue(settings: TaskSettings) -> Splits:
    """The task `settings.name` from the folder `settings.path` (the task's own folder or the one above it)."""
    name = settings.name.removeprefix("glue/")
    spec, task = GLUE[name], glue_task(settings.name)
    folder = Path(settings.path or ".").expanduser()
    folder = folder / spec.folder if (folder / spec.folder).is_dir() else folder

    notes: list[str] = []
    path = train_file(folder, notes, what=f"train.tsv of {spec.folder}")
    train = _examples(spec, read_tsv(path, columns=spec.train_columns, ragged=spec.ragged), "train", notes)
    devs: dict[str, list[Example]] = {}
    for test, file in spec.devs.items():
        if len(spec.devs) > 1 and devs and not (folder / file).is_file():
            notes.append(f"{file} is not in {folder}: results are reported on {', '.join(devs)} only.")
            continue
        table = read_tsv(
            find_file(folder, [file], what=f"{file} of {spec.folder}"), columns=spec.train_columns, ragged=spec.ragged
        )
        devs[test] = _examples(spec, table, test, notes)
    further = _published_test(name, spec, folder, notes)
    if len(spec.devs) > 1:
        return Splits(task, train, tests={**devs, **further}, notes=notes)
    return Splits(task, train, devs["dev"], further, report_dev=True, notes=notes)


def train_file(folder: Path, notes: list[str], *, what: str, official: Sequence[str] = ("train.tsv",)) -> Path:
    """The official training file, or else a subset or an unofficial one, which the notes then mention."""
    substitutes = (
        []
        if any((folder / name).is_file() for name in official)
        else sorted(
            path.name for pattern in ("train_subset*.tsv", "train_unofficial*.tsv") for path in folder.glob(pattern)
        )
    )
    path = find_file(folder, [*official, *substitutes[:1]], what=what)
    if substitutes:
        notes.append(
            f"{path.name} is trained on, because {official[0]} is not in {folder}: not the official train set."
        )
    return path


def _published_test(name: str, spec: Glue, folder: Path, notes: list[str]) -> dict[str, list[Example]]:
    """The labelled test sets that MRPC and STS-B had before GLUE hid them."""
    if name == "mrpc" and (path := folder / "msr_paraphrase_test.txt").is_file():
        table = read_tsv(path)
    elif name == "stsb" and (path := folder / "original" / "sts-test.tsv").is_file():
        table = read_tsv(path, columns=_STS_COLUMNS, ragged="longer")  # some rows end with a licence and a source
    else:
        return {}
    notes.append(f"{path.name} has the labels that GLUE's test.tsv hides, and is reported as 'test'.")
    return {"test": _examples(spec, table, "test", notes)}


def _examples(spec: Glue, table: Table, split: str, notes: list[str]) -> list[Example]:
    texts = table.column(spec.text)
    pairs = table.column(spec.pair) if spec.pair else [None] * len(texts)
    labels = table.column(spec.label)
    numbers = {code: i for i, code in enumerate(spec.codes or spec.labels)}
    rows: list[Example] = []
    for i, (text, pair, label) in enumerate(zip(texts, pairs, labels, strict=True)):
        where = table.place(i, spec.label)
        value = class_number(label, numbers, where=where) if spec.labels else score(label, where=where)
        rows.append(Example(f"{split}-{i}", text=text, pair=pair, label=value))
    if table.dropped:
        notes.append(f"{table.source}: {table.dropped} broken rows are left out.")
    if not rows:
        raise DataError(f"{table.source} has no rows. Give the complete file.")
    return rows
