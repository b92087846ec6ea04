"""Extractive question answering: the answer to a question is a part of a text, or the text has none.

Scores are (J, 5) for each question: where the best answer begins and ends (characters of its text, end exclusive), by how much it
is better than none, and what exact match and F1 the answer given earns, as SQuAD's official script computes them. Where a set has
questions without an answer, none is given if it is the better one (threshold 0); elsewhere there is always one.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.kinds.arithmetic import Statistic, mean_of
from understudy.kinds.kind import Kind, Label

BEST = 20
"""Beginnings and ends of a window that are combined."""
LONGEST = 30
"""Tokens of an answer, at most."""


class Spans(Kind):
    rows = "squad"
    spans = True
    named = False
    own = {"hard": 1.0, "soft": {"weight": 1.0, "temperature": 2.0}}
    auto = "AutoModelForQuestionAnswering"
    peft_type = "QUESTION_ANS"
    pipeline = "question-answering"
    code = (
        "from understudy.run import predict", "",
        "# questions.jsonl: an object with `question` and `context` on each line",
        'for answer in predict(".", "questions.jsonl"):', "    print(answer)",
    )  # fmt: skip
    per_token = True
    no_confidence = "an answer is partly right as often as right or wrong"
    metrics = ("f1", "exact_match")
    shown = {"exact_match": "exact match"}

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return []

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        raise NotImplementedError("questions are read by `data.squad`")

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        return None

    def targets(self, labels: Sequence[Any], outputs: int) -> None:
        return None  # `data.squad` marks the tokens of each window

    def outputs(self, labels: Sequence[str]) -> int:
        return 2

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return self.metrics

    def gold(self, labels: Sequence[Any]) -> np.ndarray:
        """Nothing: what an answer earns is in its scores."""
        return np.zeros(len(labels))

    def read(
        self, logits: Any, *, labels: Any, sizes: Sequence[int], words: Sequence[Any], reference: Any = None
    ) -> list[np.ndarray]:
        """(m, 2) of each window's candidates."""
        marked = [int((part != -100).sum()) for part in labels.split(list(sizes))]
        return [part.cpu().numpy() for part in logits.split(marked)]

    def collect(self, rows: Sequence[Any], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        """rows: of each example its windows, each its candidates' logits (m, 2) and characters (m, 2)."""
        may_have_none = any(row.label == () for row in examples)
        scores = np.array([self._answered(windows, row, may_have_none) for windows, row in zip(rows, examples, strict=True)])
        known = not any(row.label is None for row in examples)
        return scores.reshape(-1, 5), self.gold(examples) if known else None

    def _answered(self, windows: Sequence[tuple[np.ndarray, np.ndarray]], row: Any, may_have_none: bool) -> list[float]:
        start, end, score, none = best_span(windows)
        margin = score - none if may_have_none else np.inf
        said = row.pair[start:end] if margin > 0 else ""
        gold = [text for _, text in row.label or ()] or [""]
        return [start, end, min(margin, 1e9), exact_match(said, gold), token_f1(said, gold)]

    def decide(self, scores: Any) -> np.ndarray:
        return np.asarray(scores, dtype=np.float64)

    def same(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        return None

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        start, end, margin = int(scores[0]), int(scores[1]), float(scores[2])
        found = "".join(words)[start:end] if margin > 0 else ""
        return {"answer": found, "start": start, "end": end} | ({"margin": round(margin, 4)} if margin < 1e9 else {})

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        if not np.ndim(decision):
            return "the truth"
        return f"characters {int(decision[0])} to {int(decision[1])}" if decision[2] > 0 else "no answer"

    def right(self, said: Any, gold: Any) -> np.ndarray:
        return said[:, 3] == 1

    def distance(self, one: Any, other: Any) -> np.ndarray:
        return np.abs(self.decide(one)[:, 4] - self.decide(other)[:, 4])

    def one_answer(self, decisions: Any) -> bool:
        """Whether no question is answered."""
        return len(decisions) > 1 and bool((decisions[:, 2] <= 0).all())

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        scores = np.asarray(scores, dtype=np.float64)
        return {"f1": mean_of(scores[:, 4]), "exact_match": mean_of(scores[:, 3])}


def best_span(windows: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[int, int, float, float]:
    """(first character, behind the last, its score, the score of no answer) over the windows of a question.

    A span lies in one window, ends where it begins or later, has at most `LONGEST` tokens and the sum of its two logits as
    score; the first candidate is no text, and what its logits add up to, the least over the windows, stands for no answer.
    """
    best, none = (0, 0, -np.inf), np.inf
    for logits, chars in windows:
        none = min(none, float(logits[0].sum()))
        inside = np.arange(1, len(logits))
        begins, ends = (inside[np.argsort(-logits[1:, side], kind="stable")[:BEST]] for side in (0, 1))
        for begin in begins:
            for end in ends:
                score = float(logits[begin, 0] + logits[end, 1])
                if begin <= end < begin + LONGEST and score > best[2]:
                    best = (int(chars[begin, 0]), int(chars[end, 1]), score)
    return best[0], best[1], max(best[2], -1e9), float(none)


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and further blanks: what SQuAD's script compares.

    >>> normalised("The  U.S. Army!")
    'us army'
    """
    text = "".join(mark for mark in text.lower() if mark not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(said: str, gold: Sequence[str]) -> float:
    """1 if the answer is one of the true ones."""
    return float(max(normalised(said) == normalised(one) for one in gold))


def token_f1(said: str, gold: Sequence[str]) -> float:
    """The best F1 of words over the true answers; where either side is empty, whether both are."""
    return max(_f1(normalised(said).split(), normalised(one).split()) for one in gold)


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    shared = sum((Counter(said) & Counter(gold)).values())
    return 2 * shared / (len(said) + len(gold))


KIND = Spans("spans")
