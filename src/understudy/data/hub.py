"""The public sets from the Hugging Face Hub, by name, through `datasets`; no script of a data set is ever run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from understudy.base.errors import DataError, RecipeError
from understudy.data.crosslingual import (
    PAWSX,
    PAWSX_LANGUAGES,
    XNLI,
    XNLI_LANGUAGES,
    chosen,
    with_all,
    without_untranslated,
)
from understudy.data.glue import GLUE, glue_task
from understudy.data.ner import CONLL2003, WIKINEURAL, WIKINEURAL_LANGUAGES, tagged_examples
from understudy.data.read import Table, table_of
from understudy.data.tags import Sentence
from understudy.data.types import Example, Splits, Task

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

_GLUE_COLUMNS = {"mnli": ("premise", "hypothesis"), "mrpc": ("sentence1", "sentence2")}
_CONVERTED = "refs/convert/parquet"  # the Hub's own Parquet copy of a set that was published as a script


def fetch(name: str, *, config: str | None = None, split: str, revision: str | None = None) -> Any:
    """One split of a set on the Hub (or of its copy in the cache). Unreachable or unknown: a DataError."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # no network, set, configuration or split: each library below raises its own
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"'{name}' ({config or 'default'}, {split}) could not be had from the Hugging Face Hub: {reason} "
            "Give task.path with the folder of the downloaded files, or connect once so that the copy is cached."
        ) from None


def hub_table(reference: str) -> Table:
    """`hub:OWNER/NAME:SPLIT` or `hub:OWNER/NAME/CONFIG:SPLIT` as a table, for your own recipes."""
    name, colon, split = reference.removeprefix("hub:").partition(":")
    parts = name.split("/")
    if not colon or not split or len(parts) not in (2, 3) or not all(parts):
        raise RecipeError(f"task.files: '{reference}' is not hub:OWNER/NAME:SPLIT or hub:OWNER/NAME/CONFIG:SPLIT.")
    data = fetch("/".join(parts[:2]), config=parts[2] if len(parts) == 3 else None, split=split)
    return table_of(data, reference)


def load_hub(settings: TaskSettings) -> Splits:
    """The task `settings.name` from the Hub: the same splits, labels and ids as from the official files."""
    if settings.name.startswith("glue/"):
        return _glue(settings.name)
    if settings.name == "pawsx":
        return _pawsx(settings)
    if settings.name == "xnli":
        return _xnli(settings)
    if settings.name == "conll2003":
        return _conll2003()
    return _wikineural(settings)


def _rows(
    data: Any, task: Task, columns: Sequence[str], prefix: str, *, group: str | None = None, language: str | None = None
) -> list[Example]:
    """Rows of a set whose text, pair (where there is one) and label columns are named; classes are mapped by name."""
    texts = data[columns[0]]
    pairs = data[columns[1]] if len(columns) == 3 else [None] * len(texts)
    names = getattr(data.features[columns[-1]], "names", None)
    order = [task.labels.index(name) if name in task.labels else i for i, name in enumerate(names or task.labels)]
    examples: list[Example] = []
    keys = data["id"] if "id" in data.column_names else range(len(texts))  # PAWS-X numbers its rows, as its files do
    for key, text, pair, label in zip(keys, texts, pairs, data[columns[-1]], strict=True):
        value = order[label] if task.labels else float(label)
        source = f"{group}-{key}" if group else None
        examples.append(Example(f"{prefix}-{key}", text=text, pair=pair, label=value, group=source, language=language))
    return examples


def _glue(name: str) -> Splits:
    short = name.removeprefix("glue/")
    task, spec = glue_task(name), GLUE[short]
    texts = _GLUE_COLUMNS.get(short, tuple(column for column in (spec.text, spec.pair) if column))

    def part(split: str, prefix: str) -> list[Example]:
        return _rows(fetch("nyu-mll/glue", config=short, split=split), task, (*texts, "label"), prefix)

    train = part("train", "train")
    if short == "mnli":
        tests = {f"dev_{which}": part(f"validation_{which}", f"dev_{which}") for which in ("matched", "mismatched")}
        return Splits(task, train, tests=tests)
    return Splits(task, train, part("validation", "dev"), report_dev=True)


def _pawsx(settings: TaskSettings) -> Splits:
    languages = chosen(settings.languages, PAWSX_LANGUAGES, key="task.languages", where="PAWS-X")
    learned = chosen(settings.train_languages or languages, PAWSX_LANGUAGES, key="task.train_languages", where="PAWS-X")
    notes: list[str] = []

    def part(language: str, split: str, name: str) -> list[Example]:
        data = fetch("google-research-datasets/paws-x", config=language, split=split)
        columns = ("sentence1", "sentence2", "label")
        return _rows(data, PAWSX, columns, f"{language}-{name}", group=name, language=language)

    train = [r for name in learned for r in without_untranslated(part(name, "train", "train"), name, notes)]
    dev = [row for language in learned for row in part(language, "validation", "dev")]
    return Splits(PAWSX, train, dev, with_all({name: part(name, "test", "test") for name in languages}), notes=notes)


def _xnli(settings: TaskSettings) -> Splits:
    languages = chosen(settings.languages, XNLI_LANGUAGES, key="task.languages", where="XNLI")
    learned = chosen(settings.train_languages or ("en",), XNLI_LANGUAGES, key="task.train_languages", where="XNLI")

    def part(language: str, split: str, name: str) -> list[Example]:
        data = fetch("facebook/xnli", config=language, split=split)
        columns = ("premise", "hypothesis", "label")
        return _rows(data, XNLI, columns, f"{language}-{name}", group=name, language=language)

    train = [row for language in learned for row in part(language, "train", "train")]
    dev = [row for language in learned for row in part(language, "validation", "dev")]
    notes = [f"XNLI has no training part: MNLI in {', '.join(learned)} is trained on."]
    return Splits(XNLI, train, dev, with_all({name: part(name, "test", "test") for name in languages}), notes=notes)


def _tagged(data: Any, task: Task, split: str, notes: list[str], language: str | None = None) -> list[Example]:
    feature = data.features["ner_tags"]
    names = getattr(getattr(feature, "feature", feature), "names", None) or task.labels
    sentences = [
        Sentence(tuple(words), tuple(names[tag] for tag in tags), line)
        for line, (words, tags) in enumerate(zip(data["tokens"], data["ner_tags"], strict=True), 1)
    ]
    source = f"{task.name} {split}"
    return tagged_examples(sentences, task.labels, split=split, source=source, notes=notes, language=language)


def _conll2003() -> Splits:
    notes: list[str] = []

    def part(split: str, name: str) -> list[Example]:
        data = fetch("eriktks/conll2003", config="conll2003", split=split, revision=_CONVERTED)
        return _tagged(data, CONLL2003, name, notes)

    train, dev, test = part("train", "train"), part("validation", "dev"), part("test", "test")
    return Splits(CONLL2003, train, dev, {"test": test}, notes=notes)


def _wikineural(settings: TaskSettings) -> Splits:
    there, notes = WIKINEURAL_LANGUAGES, []
    languages = chosen(settings.languages, there, key="task.languages", where="WikiNEuRal")
    learned = chosen(settings.train_languages or languages, there, key="task.train_languages", where="WikiNEuRal")

    def part(language: str, split: str) -> list[Example]:
        data = fetch("Babelscape/wikineural", split=f"{split}_{language}")
        return _tagged(data, WIKINEURAL, split, notes, language)

    train = [row for language in learned for row in part(language, "train")]
    dev = [row for language in learned for row in part(language, "val")]
    return Splits(WIKINEURAL, train, dev, with_all({name: part(name, "test") for name in languages}), notes=notes)
