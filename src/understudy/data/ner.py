"""Named entities: CoNLL-2003 (English) and WikiNEuRal (nine languages)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.data.crosslingual import chosen, with_all
from understudy.data.read import find_file
from understudy.data.split import hold_out
from understudy.data.tags import Sentence, checked_bio, read_conll, tag_numbers
from understudy.data.types import Example, Splits, Task
from understudy.kinds import kind
from understudy.kinds.tokens import bio_labels, is_bio

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

_TYPES = ("PER", "ORG", "LOC", "MISC")  # in the order of the Hub's copies of both sets
_METRICS = ("f1", "precision", "recall")
CONLL2003 = Task("conll2003", kind("tokens"), bio_labels(_TYPES), _METRICS, "f1")
WIKINEURAL = Task("wikineural", kind("tokens"), bio_labels(_TYPES), _METRICS, "f1")
WIKINEURAL_LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "ru")


def load_conll2003(settings: TaskSettings) -> Splits:
    """CoNLL-2003 from eng.train, eng.testa (dev) and eng.testb (test): four columns, tags in IOB1."""
    folder = Path(settings.path or ".").expanduser()
    notes: list[str] = []
    parts: list[list[Example]] = []
    for split, names in (
        ("train", ("eng.train", "train.txt")),
        ("dev", ("eng.testa", "valid.txt")),
        ("test", ("eng.testb", "test.txt")),
    ):
        path = find_file(folder, names, what=f"the {split} file of CoNLL-2003")
        sentences, said = read_conll(path, comments=False)
        parts.append(tagged_examples(sentences, CONLL2003.labels, split=split, source=str(path), notes=notes))
        notes += said
    train, dev, test = parts
    return Splits(CONLL2003, train, dev, {"test": test}, notes=notes)


def load_wikineural(settings: TaskSettings, *, seed: int) -> Splits:
    """WikiNEuRal from LANGUAGE/{train,val,test}.conllu: `index TAB word TAB tag`.

    Languages without a train.conllu learn on a part of their val.conllu; the rest of it is selected on.
    """
    folder = Path(settings.path or ".").expanduser()
    folder = next((folder / name for name in ("data/wikineural", "wikineural") if (folder / name).is_dir()), folder)
    there = [name for name in WIKINEURAL_LANGUAGES if (folder / name).is_dir()]
    languages = chosen(settings.languages, there, key="task.languages", where=str(folder))
    learned = chosen(settings.train_languages or languages, there, key="task.train_languages", where=str(folder))
    notes: list[str] = []

    def part(language: str, file: str) -> list[Example]:
        path = find_file(folder / language, [file], what=f"the {language} {file} of WikiNEuRal")
        sentences, _ = read_conll(path, words=1, tags=2, delimiter="\t", comments=False)
        split = file.removesuffix(".conllu")
        return tagged_examples(
            sentences, WIKINEURAL.labels, split=split, source=str(path), notes=notes, language=language
        )

    train: list[Example] = []
    dev: list[Example] = []
    for language in learned:
        held_out = part(language, "val.conllu")
        if (folder / language / "train.conllu").is_file():
            train += part(language, "train.conllu")
        else:
            kept, held_out = hold_out(held_out, seed=seed)
            train += kept
            notes.append(
                f"WikiNEuRal {language} has no train.conllu here: {len(kept)} sentences of val.conllu are trained "
                f"on and the other {len(held_out)} selected on (by the seed)."
            )
        dev += held_out
    tests = {language: part(language, "test.conllu") for language in languages}
    return Splits(WIKINEURAL, train, dev, with_all(tests), notes=notes)


def tagged_examples(
    sentences: Sequence[Sentence],
    labels: Sequence[str],
    *,
    split: str,
    source: str,
    notes: list[str],
    language: str | None = None,
) -> list[Example]:
    """Sentences as examples with one tag number per word, after any scheme of entities became BIO."""
    numbers = {label: i for i, label in enumerate(labels)}
    prefix = f"{language}-{split}" if language else split
    examples: list[Example] = []
    converted = 0
    entities = is_bio(labels)
    for i, sentence in enumerate(sentences):
        if not sentence.tags:
            examples.append(Example(sentence.id or f"{prefix}-{i}", words=sentence.words, group=sentence.group))
            continue
        tags, changed = checked_bio(sentence, source=source) if entities else (sentence.tags, 0)
        converted += changed
        label = tag_numbers(sentence, tags, numbers, source=source)
        name = sentence.id or f"{prefix}-{i}"
        examples.append(Example(name, words=sentence.words, label=label, group=sentence.group, language=language))
    if converted:
        notes.append(f"{source}: {converted} tags are converted to BIO (entities that started with I-, or IOBES).")
    return examples
