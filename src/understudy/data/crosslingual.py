"""PAWS-X and XNLI: the same rows in several languages, train in some of them, report on each and on all together.

Row i is the same pair in every language, so all its translations share a group and never fall on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import did_you_mean
from understudy.data.glue import train_file
from understudy.data.read import Table, find_file, read_tsv
from understudy.data.types import Example, Splits, Task
from understudy.kinds import kind
from understudy.kinds.cells import class_number

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

PAWSX_LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")
XNLI_LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
PAWSX = Task("pawsx", kind("classification"), ("not_paraphrase", "paraphrase"), ("accuracy", "f1"), "accuracy", pair=True)
XNLI = Task("xnli", kind("classification"), ("entailment", "neutral", "contradiction"), ("accuracy",), "accuracy", pair=True)
UNTRANSLATED = "NS"
_XNLI_CODES = {**{name: i for i, name in enumerate(XNLI.labels)}, "contradictory": 2}  # XNLI-MT's word for it


def load_pawsx(settings: TaskSettings) -> Splits:
    """PAWS-X from its official layout: LANGUAGE/{train or translated_train, dev_2k, test_2k}.tsv."""
    folder = _inside(settings.path, ("x-final", "pawsx"))
    there = [name for name in PAWSX_LANGUAGES if (folder / name).is_dir()]
    languages = chosen(settings.languages, there, key="task.languages", where=str(folder))
    notes: list[str] = []
    train: list[Example] = []
    asked = settings.train_languages or settings.languages
    learned: list[str] = []
    for language in chosen(asked, there, key="task.train_languages", where=str(folder)):
        official = ("train.tsv", "translated_train.tsv")
        if not settings.train_languages and not list((folder / language).glob("*train*.tsv")):
            continue  # without task.train_languages: the languages that have a training file
        path = train_file(folder / language, notes, what=f"the {language} training file of PAWS-X", official=official)
        train += without_untranslated(_pawsx_rows(read_tsv(path), "train", language), language, notes)
        learned.append(language)
    if not train:
        raise DataError(
            f"{folder}: no training file for {', '.join(languages)}. Looked for LANGUAGE/train.tsv and "
            "translated_train.tsv; give the languages that have one as task.train_languages."
        )
    if asked is None or learned != list(asked):
        notes.append(f"Trained on {', '.join(learned)}.")

    def part(language: str, file: str, split: str) -> list[Example]:
        path = find_file(folder / language, [file], what=f"{file} of PAWS-X")
        return _pawsx_rows(read_tsv(path), split, language)

    dev = [row for language in learned for row in part(language, "dev_2k.tsv", "dev")]
    tests = {language: part(language, "test_2k.tsv", "test") for language in languages}
    return Splits(PAWSX, train, dev, with_all(tests), notes=notes)


def load_xnli(settings: TaskSettings) -> Splits:
    """XNLI: dev and test in the official layout (xnli.{dev,test}.tsv) or as LANGUAGE/{dev,test}.tsv; train from MNLI.

    XNLI has no training part of its own: models learn on MNLI's English train.tsv, or on its machine translations
    (multinli.train.LANGUAGE.tsv of XNLI-MT).
    """
    folder = _inside(settings.path, ("XNLI-1.0", "xnli"))
    official = (folder / "xnli.test.tsv").is_file()
    if official:
        there: Sequence[str] = XNLI_LANGUAGES
    else:
        there = [name for name in XNLI_LANGUAGES if (folder / name).is_dir()]
        if not there:
            find_file(folder, ["xnli.test.tsv", "en/test.tsv"], what="the test file of XNLI")
    languages = chosen(settings.languages, there, key="task.languages", where=str(folder))
    notes: list[str] = []
    train = _xnli_train(settings, folder, notes)
    learned = sorted({row.language or "en" for row in train})

    def part(split: str, wanted: Sequence[str]) -> dict[str, list[Example]]:
        if official:
            return _xnli_official(find_file(folder, [f"xnli.{split}.tsv"], what=f"XNLI's {split} file"), split, wanted)
        return {name: _xnli_own(folder / name, split, name) for name in wanted}

    dev = part("dev", [name for name in learned if name in there])
    select = [row for rows in dev.values() for row in rows]
    return Splits(XNLI, train, select, with_all(part("test", languages)), notes=notes)


def chosen(asked: Sequence[str] | None, there: Sequence[str], *, key: str, where: str) -> list[str]:
    """The languages asked for, or all there are; an unknown one is an error with what there is."""
    if not there:
        raise DataError(f"{where}: no folder of a known language (such as en). Give the right folder as task.path.")
    for language in asked or ():
        if language not in there:
            raise RecipeError(
                f"{key}: there is no '{language}' in {where}.{did_you_mean(language, there)} "
                f"Languages there: {', '.join(there)}."
            )
    return list(dict.fromkeys(asked or there))


def with_all(tests: dict[str, list[Example]]) -> dict[str, list[Example]]:
    """One test set per language, and 'all' with their rows in a row where there are several."""
    return tests if len(tests) < 2 else {**tests, "all": [row for rows in tests.values() for row in rows]}


def without_untranslated(rows: list[Example], language: str, notes: list[str]) -> list[Example]:
    """Training rows of PAWS-X without those where a side could not be translated (the text is `NS`, the label 0)."""
    kept = [row for row in rows if UNTRANSLATED not in (row.text, row.pair)]
    if len(kept) < len(rows):
        notes.append(f"PAWS-X {language}: {len(rows) - len(kept)} untranslated rows (NS) are left out of train.")
    return kept


def _inside(path: str | None, names: Sequence[str]) -> Path:
    folder = Path(path or ".").expanduser()
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def _pawsx_rows(table: Table, split: str, language: str) -> list[Example]:
    columns = (table.column(name) for name in ("id", "sentence1", "sentence2", "label"))
    numbers = {"0": 0, "1": 1}
    return [
        Example(
            f"{language}-{split}-{id_}", text=text, pair=pair, group=f"{split}-{id_}", language=language,
            label=class_number(label, numbers, where=table.place(i, "label")),
        )
        for i, (id_, text, pair, label) in enumerate(zip(*columns, strict=True))
    ]  # fmt: skip


def _xnli_rows(
    table: Table, split: str, language: str, columns: Sequence[str], *, grouped: bool = True
) -> list[Example]:
    """Rows of a table whose text, pair and label columns are `columns`; row i of each language is the same pair."""
    texts, pairs, labels = (table.column(name) for name in columns)
    return [
        Example(
            f"{language}-{split}-{i}", text=text, pair=pair, language=language,
            group=f"{split}-{i}" if grouped else None,
            label=class_number(label, _XNLI_CODES, where=table.place(i, columns[2])),
        )
        for i, (text, pair, label) in enumerate(zip(texts, pairs, labels, strict=True))
    ]  # fmt: skip


def _xnli_own(folder: Path, split: str, language: str) -> list[Example]:
    table = read_tsv(find_file(folder, [f"{split}.tsv"], what=f"the {language} {split} file of XNLI"))
    return _xnli_rows(table, split, language, ("premise", "hypothesis", "label"))


def _xnli_official(path: Path, split: str, languages: Sequence[str]) -> dict[str, list[Example]]:
    table = read_tsv(path)
    column = table.column("language")
    parts: dict[str, list[Example]] = {}
    for language in languages:
        chosen_rows = [i for i, name in enumerate(column) if name == language]
        if not chosen_rows:
            raise DataError(f"{path}: no rows in '{language}'. Languages there: {', '.join(sorted(set(column)))}.")
        parts[language] = _xnli_rows(table.only(chosen_rows), split, language, ("sentence1", "sentence2", "gold_label"))
    return parts


def _xnli_train(settings: TaskSettings, folder: Path, notes: list[str]) -> list[Example]:
    """MNLI in English, or XNLI-MT's translations of it for task.train_languages."""
    roots = list(dict.fromkeys((folder, Path(settings.path or ".").expanduser())))
    languages = settings.train_languages or ("en",)
    rows: list[Example] = []
    for language in languages:
        path = _mnli_file(roots, language, notes)
        table = read_tsv(path)
        translated = "premise" in table.columns
        columns = ("premise", "hypo", "label") if translated else ("sentence1", "sentence2", "gold_label")
        # lines of the translations correspond to each other; MNLI alone has no copies and needs no groups
        rows += _xnli_rows(table, "train", language, columns, grouped=len(languages) > 1)
        notes.append(f"XNLI has no training part: {path.name} ({language}) is trained on.")
    return rows


def _mnli_file(roots: Sequence[Path], language: str, notes: list[str]) -> Path:
    """MNLI's training file in a language, in one of the folders where people keep it."""
    names = [f"multinli.train.{language}.tsv", f"XNLI-MT-1.0/multinli/multinli.train.{language}.tsv"]
    folders = ["MNLI", "glue_data/MNLI"] if language == "en" else []
    for root in roots:
        for path in (root / name for name in names):
            if path.is_file():
                return path
        for mnli in (root / name for name in folders):
            if any(mnli.glob("train*.tsv")):
                return train_file(mnli, notes, what="train.tsv of MNLI")
    looked = [*names, *(f"{name}/train.tsv" for name in folders)]
    raise DataError(
        f"{roots[-1]}: XNLI has no training part of its own; the official setting trains on MNLI. Looked for "
        f"{', '.join(looked)}: put MNLI's file there under one of these names."
    )
