"""Tagging: each word of a sentence has a tag: BIO tags of entities, or others. Scores and gold are one array of tag numbers
(words,) per sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds.arithmetic import Statistic, f1, precision, ratio, recall
from understudy.kinds.classification import named_counts
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor

OUTSIDE = "O"
BEGINS = {"B": True, "I": False, "E": False, "S": True, "L": False, "U": True}
"""What each scheme calls the parts of an entity, and whether it begins one: begin, inside, end, single (IOBES), last, unit."""


def bio_labels(types: Iterable[str]) -> tuple[str, ...]:
    """O, B-X, I-X, B-Y, … for entity types; tags are taken as they are.

    >>> bio_labels(["PER", "LOC"])
    ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC')
    """
    names = [name.removeprefix("B-").removeprefix("I-") for name in types if name != OUTSIDE]
    return (OUTSIDE, *(f"{part}-{name}" for name in dict.fromkeys(names) for part in "BI"))


def has_scheme(tag: str) -> bool:
    """Whether a tag says which part of an entity its word is.

    >>> has_scheme("B-PER"), has_scheme("VERB"), has_scheme("O")
    (True, False, False)
    """
    prefix, dash, kind = tag.partition("-")
    return bool(dash and kind) and prefix in BEGINS


def is_bio(labels: Iterable[str]) -> bool:
    """Whether a label set is one of entities, rather than of parts of speech or the like."""
    return all(label == OUTSIDE or has_scheme(label) for label in labels)


def entities(tags: tuple[str, ...]) -> frozenset[tuple[str, int, int]]:
    """The (type, start, end) spans of one sentence's tags in strict IOB2, end exclusive; an I- without B- is nothing.

    >>> sorted(entities(("B-PER", "I-PER", "O", "I-LOC")))
    [('PER', 0, 2)]
    """
    return _entities(tuple(tags))


# Remembered: the gold tags return at every evaluation, and most sentences are tagged alike by all models.
@lru_cache(maxsize=1 << 16)
def _entities(tags: tuple[str, ...]) -> frozenset[tuple[str, int, int]]:
    from seqeval.scheme import IOB2
    from seqeval.scheme import Tokens as Tagged

    return frozenset((span.tag, span.start, span.end) for span in Tagged(list(tags), scheme=IOB2).entities)


class Tokens(Kind):
    by_word = True
    auto = "AutoModelForTokenClassification"
    peft_type = "TOKEN_CLS"
    pipeline = "token-classification"
    pipeline_options = ', aggregation_strategy="first"'  # the tag of a word is that of its first sub-word
    per_token = True
    no_confidence = (
        "nearly all words are tagged O, rightly and with a confidence of nearly 1, so that four classes of words would tell "
        "rounding errors apart"
    )
    metrics = ("f1", "precision", "recall", "accuracy", "macro_f1")
    onnx_rows = '[["My", "printer", "is", "on", "fire"], ["Thanks"]]'
    onnx_answer = 'print([[config["id2label"][str(i)] for i in row] for row in outputs.argmax(-1)])'

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        raise NotImplementedError("sentences are read by `data.tags`")

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        seen = {tag for tags in labels if isinstance(tags, tuple) for tag in tags}
        if len(seen) > 1 or (seen != {0} and is_bio(names)):
            return None
        if not is_bio(names):
            return f"all words of the training rows have the tag '{names[min(seen)]}'; at least two are needed."
        return "no word of the training rows has a tag but O. Is task.columns.tags right?"

    def classes(self, label: Any) -> set[int]:
        return set(label)

    def gold(self, labels: Sequence[Any]) -> list[np.ndarray]:
        return [np.asarray(tags, np.int64) for tags in labels]

    def targets(self, labels: Sequence[Any], outputs: int) -> None:
        return None  # `data.encode` gives the first sub-word of each word its tag

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean", weights: Tensor | None = None) -> Tensor:
        """Cross-entropy over the labelled tokens: the first sub-word of each word. weights: (C,), how much each tag counts."""
        from understudy import losses

        return losses.token_cross_entropy(logits, labels, weights=weights, reduction=reduction)

    def read(self, logits: Tensor, *, labels: Tensor | None, sizes: Sequence[int], words: Sequence[Any]) -> list:
        """The tag of each word of a sentence is that of its first sub-word; -1 for words that were cut off."""
        best = logits.argmax(dim=1).cpu().numpy()
        rows, start = [], 0
        for number, index in words:
            tags = np.full(number, -1, np.int64)
            present, first = np.unique(index, return_index=True)
            inside = present >= 0
            tags[present[inside]] = best[start + first[inside]]
            rows.append(tags)
            start += len(index)
        return rows

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        labels = [example.label for example in examples]
        return rows, None if any(label is None for label in labels) else self.gold(labels)

    def completed(self, scores: Any, labels: Sequence[str]) -> Any:
        """Of entities nothing is found in words that were not read: "O". Of other tags such words have none, -1, and count as
        answered wrongly."""
        return [np.maximum(row, 0) for row in scores] if is_bio(labels) else scores

    def broken(self, scores: Any) -> bool:
        return False

    def decide(self, scores: Any) -> list[np.ndarray]:
        """Tag numbers, one array per sentence."""
        return [np.asarray(row) for row in scores]

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        made: dict[str, Any] = {"words": list(words), "tags": [labels[tag] if tag >= 0 else None for tag in map(int, scores)]}
        if is_bio(labels):
            made["entities"] = [
                {"text": " ".join(words[start:end]), "label": label, "start": start, "end": end}
                for label, start, end in self._spans(scores, labels)
            ]
        return made

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        if not is_bio(labels):
            return " ".join(labels[tag] if tag >= 0 else "–" for tag in map(int, decision))
        spans = self._spans(decision, labels)
        return " · ".join(f"{' '.join(words[start:end])} ({label})" for label, start, end in spans) or "no entity"

    def right(self, said: Any, gold: Any) -> np.ndarray:
        return np.array([np.array_equal(a, b) for a, b in zip(said, gold, strict=True)])

    def distance(self, one: Any, other: Any) -> np.ndarray:
        """How many words the two tag otherwise."""
        return np.array([float((a != b).sum()) for a, b in zip(self.decide(one), self.decide(other), strict=True)])

    def one_answer(self, decisions: Any) -> bool:
        tags = np.concatenate(decisions)
        return len(decisions) > 1 and bool((tags == tags[:1]).all())

    def constant(self, labels: Sequence[Any], outputs: int, sizes: Sequence[int]) -> list[np.ndarray]:
        """The most frequent tag for every word."""
        most = np.bincount(np.concatenate(self.gold(labels)), minlength=outputs).argmax()
        return [np.full(size, most, np.int64) for size in sizes]

    def problem(self, ids: Sequence[str], scores: Any, gold: Any, labels: Sequence[str]) -> str | None:
        for name, said, true in zip(ids, scores, gold, strict=True):
            if len(said) != len(true):
                return f", row '{name}': {len(said)} predicted tags for {len(true)} words."
        return None

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("f1", "precision", "recall") if is_bio(labels) else ("accuracy", "macro_f1")

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        """Of whole entities in strict IOB2, as seqeval has it; accuracy and macro F1 of words, over the tags that occur.
        Where the tags are not those of entities, f1, precision and recall are macro averages over words too."""
        counts = np.zeros((3, len(gold), len(labels)))  # hits, said and true words of each tag, by sentence
        for row, (true, said) in enumerate(zip(gold, scores, strict=True)):
            true, said = np.asarray(true, np.int64), np.asarray(said, np.int64)
            for place, tags in enumerate((true[true == said], said, true)):
                counts[place, row] = np.bincount(tags[tags >= 0], minlength=len(labels))

        def macro(score: Callable[..., np.ndarray]) -> Statistic:
            def value(weights: np.ndarray) -> np.ndarray:
                hit, said, true = (weights @ part for part in counts)
                return ratio(score(hit, said, true).sum(axis=1), ((said + true) > 0).sum(axis=1))

            return value

        hits, words = counts[0].sum(axis=1), counts[2].sum(axis=1)
        by_word = {"accuracy": lambda weights: ratio(weights @ hits, weights @ words), "macro_f1": macro(f1)}
        if not is_bio(labels):
            return {"f1": macro(f1), "precision": macro(precision), "recall": macro(recall), **by_word}
        spans = [(entities(a), entities(b)) for a, b in zip(_tag_names(labels, gold), _tag_names(labels, scores), strict=True)]
        per_row = np.array([(len(a & b), len(b), len(a)) for a, b in spans], dtype=np.float64)

        def entity(score: Callable[..., np.ndarray]) -> Statistic:
            return lambda weights: score(*(weights @ per_row).T)

        whole = {"f1": entity(f1), "precision": entity(precision), "recall": entity(recall)}
        return {**whole, **{f"entity_{name}": measure for name, measure in whole.items()}, **by_word}

    def class_counts(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, tuple[int, int, int]]:
        if not is_bio(labels):
            said, true = np.concatenate(scores), np.concatenate(gold)
            parts = (true[true == said], said, true)
            return named_counts(labels, *(np.bincount(tags[tags >= 0], minlength=len(labels)) for tags in parts))
        counts: dict[str, list[int]] = {}
        for true, said in zip(_tag_names(labels, gold), _tag_names(labels, scores), strict=True):
            one, other = entities(true), entities(said)
            for place, spans in enumerate((one & other, other, one)):
                for label, *_ in spans:
                    counts.setdefault(label, [0, 0, 0])[place] += 1
        return {label: (hit, said, true) for label, (hit, said, true) in counts.items()}

    def _spans(self, tags: Any, labels: Sequence[str]) -> list[tuple[str, int, int]]:
        """(type, start, end) of each entity, in the order of the sentence."""
        return sorted(entities(_tag_names(labels, [tags])[0]), key=lambda span: span[1])


def _tag_names(labels: Sequence[str], rows: Sequence[Any]) -> list[tuple[str, ...]]:
    return [tuple(labels[int(tag)] for tag in row) for row in rows]


KIND = Tokens("tokens")
