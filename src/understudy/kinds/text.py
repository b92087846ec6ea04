"""Plain text: what stood at masked tokens is to be said. Scores are the summed loss of each row's masked tokens (N,), gold
their number (N,)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.kinds.arithmetic import Statistic, ratio
from understudy.kinds.kind import Kind, Label, architecture_of

if TYPE_CHECKING:
    from torch import Tensor


class Text(Kind):
    labelled = False
    masked = True
    by_objective = True
    named = False
    auto = "AutoModelForMaskedLM"
    peft_type = None
    pipeline = "fill-mask"
    pipeline_options = ', tokenizer_kwargs={"truncation": True}'
    pipeline_row = "f'My printer is on {answer.tokenizer.mask_token}.'"
    per_token = True
    on_vocabulary = True
    no_confidence = "plain text has no labels to be right about"
    metrics = ("loss", "perplexity")
    errors = frozenset({"loss", "perplexity"})
    onnx_rows = '["My printer is on [MASK].", "Thanks!"]'
    onnx_answer = "print([tokenizer.decode(row) for row in outputs.argmax(-1)])"

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        return []

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        return None

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        return None

    def targets(self, labels: Sequence[Any], outputs: int) -> None:
        return None  # `data.masking` makes them

    def has_head(self, config: Any) -> bool:
        return super().has_head(config) or architecture_of(config) in ("BertForPreTraining", "AlbertForPreTraining")

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean") -> Tensor:
        """Cross-entropy over the masked tokens."""
        from understudy import losses

        return losses.token_cross_entropy(logits, labels, reduction=reduction)

    def read(self, logits: Tensor, *, labels: Tensor | None, sizes: Sequence[int], words: Sequence[Any]) -> list:
        """(summed loss, number) of the masked tokens of each row; logits are those of the masked tokens alone."""
        assert labels is not None
        from understudy.losses.rows import IGNORE

        masked = labels != IGNORE
        losses = logits.new_zeros(len(labels))
        losses[masked] = self.loss(logits, labels, reduction="none")
        parts = zip(losses.split(list(sizes)), masked.split(list(sizes)), strict=True)
        return [np.array([loss.sum().item(), mask.sum().item()]) for loss, mask in parts]

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        both = np.stack(rows) if rows else np.empty((0, 2))
        return both[:, 0], both[:, 1]

    def decide(self, scores: Any) -> np.ndarray:
        return np.asarray(scores, dtype=np.float64).reshape(-1)

    def one_answer(self, decisions: Any) -> bool:
        return False

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("loss", "perplexity")

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        summed, tokens = self.decide(scores), np.asarray(gold, dtype=np.float64)

        def loss(weights: np.ndarray) -> np.ndarray:
            return ratio(weights @ summed, weights @ tokens)

        return {"loss": loss, "perplexity": lambda weights: np.exp(loss(weights))}


KIND = Text("text")
