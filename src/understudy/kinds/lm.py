"""Language modelling: each token of a document is predicted from those before it. What `sft` and `chat` have in common with it
is here too: `Causal`.

Scores are (N, 2): summed loss in nats and number of scored tokens of each example; beside a teacher that reads the same tokens
(N, 4): also the summed KL divergence from it, and the number of tokens at which both have the same favourite. Gold is the number
of UTF-8 bytes of the scored text (N,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds.arithmetic import Statistic, ratio
from understudy.kinds.kind import Kind, Label

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Passage:
    """An example as a causal model reads it."""

    text: str
    spans: Sequence[tuple[int, int]]
    """The parts of it that are to be predicted, in characters."""
    begins: bool = True
    """Whether the tokenizer's token for the beginning of a text stands before it; a rendered template holds it already."""
    ends: bool = True
    """Whether the end-of-text token follows, and is to be predicted in training."""
    header: int | None = None
    """Characters before the first span that stay where the prompt is cut because all is too long: the header of the answer. None
    where there is no prompt: what is too long is read in windows."""


class Causal(Kind):
    labelled = False
    named = False
    auto = "AutoModelForCausalLM"
    peft_type = "CAUSAL_LM"
    pipeline = "text-generation"
    pipeline_options = ""
    pipeline_row = '"Once upon a time"'
    per_token = True
    on_vocabulary = True
    causal = True
    rows = "documents"
    no_confidence = "text has no labels to be right about"
    metrics = ("bpb", "loss", "perplexity", "compression", "kl", "agreement")
    beside_teacher = ("kl", "agreement")
    errors = frozenset({"bpb", "loss", "perplexity", "kl"})
    onnx_rows = '["Once upon a time"]'
    onnx_answer = "print([tokenizer.decode(row) for row in outputs.argmax(-1)])"

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return []

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        return None

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        return None

    def targets(self, labels: Sequence[Any], outputs: int) -> None:
        return None  # `data.encode` makes them from the tokens

    def trained(self, config: Any) -> bool:
        return self.has_head(config)

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean") -> Tensor:
        """Cross-entropy over the scored tokens."""
        from understudy import losses

        return losses.token_cross_entropy(logits, labels, reduction=reduction)

    def read(
        self,
        logits: Tensor,
        *,
        labels: Tensor | None,
        sizes: Sequence[int],
        words: Sequence[Any],
        reference: Tensor | None = None,
    ) -> list:
        """Sums over the scored tokens of each row: loss and number; beside a teacher's logits (M, V) divergence and agreement."""
        import torch

        from understudy.losses.rows import IGNORE

        assert labels is not None

        scored = labels != IGNORE
        columns = [self.loss(logits, labels, reduction="none"), logits.new_ones(len(logits))]
        if reference is not None:
            theirs = reference.float().log_softmax(dim=-1)
            columns.append((theirs.exp() * (theirs - logits.log_softmax(dim=-1))).sum(dim=-1))
            columns.append((theirs.argmax(dim=-1) == logits.argmax(dim=-1)).float())
        table = torch.stack(columns, dim=-1).double()
        values = table.new_zeros(len(labels), len(columns))
        values[scored] = table
        return [part.sum(dim=0).cpu().numpy() for part in values.split(list(sizes))]

    def by_example(self, rows: Sequence[np.ndarray], source: np.ndarray, num_bytes: np.ndarray, number: int) -> list[np.ndarray]:
        """Sums of windows become sums of the `number` examples that they were cut from, their bytes behind."""
        each = np.column_stack([np.stack(rows), num_bytes])
        sums = np.zeros((number, each.shape[1]))
        np.add.at(sums, source, each)
        return list(sums)

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Any = None) -> tuple[Any, Any]:
        both = np.stack(rows) if rows else np.empty((0, 3))
        return both[:, :-1], both[:, -1]

    def decide(self, scores: Any) -> np.ndarray:
        return np.asarray(scores, dtype=np.float64)[:, 0]

    def one_answer(self, decisions: Any) -> bool:
        return False

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("bpb", "loss", "perplexity")

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        """bpb: bits per UTF-8 byte, which compares models of any tokenizer; loss: nats per token; compression: 1 - bpb / 8, the
        share of a byte's eight bits that is saved, for choices that need a score of at most 1 of which more is better."""
        scores, bytes_of = np.asarray(scores, dtype=np.float64), np.asarray(gold, dtype=np.float64)
        tokens = scores[:, 1]

        def per_token(column: int) -> Statistic:
            return lambda weights: ratio(weights @ scores[:, column], weights @ tokens)

        def bpb(weights: np.ndarray) -> np.ndarray:
            return ratio(weights @ scores[:, 0], weights @ bytes_of * math.log(2))

        found: dict[str, Statistic] = {
            "bpb": bpb,
            "compression": lambda weights: 1 - bpb(weights) / 8,
            "loss": per_token(0),
            "perplexity": lambda weights: np.exp(per_token(0)(weights)),
        }
        if scores.shape[1] > 2:
            found |= {"kl": per_token(2), "agreement": per_token(3)}
        return found


class Lm(Causal):
    layouts = ("document",)

    def passages(self, text: str, pair: str | None, tokenizer: Any) -> list[Passage]:
        return [Passage(text, [(0, len(text))])]

    def prompt(self, text: str, pair: str | None, tokenizer: Any) -> tuple[str, bool]:
        """The first eight words of a document, or its first half where it is short."""
        words = text.split(" ")
        return " ".join(words[: max(1, min(8, len(words) // 2))]), True


KIND = Lm("lm")
