"""Examples in the tokens of a model, encoded once; what teacher and student must have in common is checked here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from understudy.base.errors import RecipeError
from understudy.cache import content_digest
from understudy.data.encode import Encoded, encode
from understudy.data.masking import mask_inputs
from understudy.data.types import Example, Task, TaskData
from understudy.models.anatomy import anatomy
from understudy.models.embedder import prompts_of
from understudy.models.model import Model
from understudy.recipe.settings import Recipe


class Encodings:
    """Encodes for a recipe, and remembers what it encoded."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._known: dict[tuple, tuple[Sequence[Example], list[Encoded]]] = {}

    def of(
        self,
        model: Model,
        rows: TaskData,
        examples: Sequence[Example],
        *,
        scale: tuple[float, float],
        max_length: int | None = None,
    ) -> list[Encoded]:
        """One encoding, or one for each masking of plain text (`task.mask_variants`, for training rows).

        Args:
            rows: what `examples` belong to; its task decides on labels, pairs and words.
            scale: mean and deviation of a regression task's training labels.
            max_length: in place of `task.max_length`; never more than the model can take.
        """
        settings = self.recipe.task
        length = min(max_length or settings.max_length, anatomy(model.net).max_tokens(model.net))
        learning = examples is rows.train
        variants = settings.mask_variants if rows.task.kind.masked and learning else 1
        prompts = prompts_of(model.net)
        key = (tokenizer_digest(model.tokenizer), length, rows.task, scale, variants, id(examples), repr(prompts), learning)
        if key not in self._known:
            whole = encode(examples, model.tokenizer, rows.task, max_length=length, prompts=prompts, learning=learning)
            if rows.task.kind.standardise and whole.labels is not None:
                mean, deviation = scale
                whole = dataclasses.replace(whole, labels=((whole.labels - mean) / deviation).astype(np.float32))
            made = [whole]
            if rows.task.kind.masked:
                made = [self._masked(whole, model, variant) for variant in range(variants)]
            self._known[key] = (examples, made)  # the examples too, so that their id() is not used again
        return self._known[key][1]

    def _masked(self, whole: Encoded, model: Model, variant: int) -> Encoded:
        """What is hidden belongs to the rows, as the split does: with `task.split_seed` all seeds see the same, and share
        a teacher."""
        seed, probability = self.recipe.split_seed, self.recipe.task.mask_probability
        return mask_inputs(whole, model.tokenizer, seed=seed, variant=variant, probability=probability)

    def same_tokens(self, one: Model, other: Model) -> bool:
        """Whether two models cut every text of this task into the same tokens."""
        lengths = {anatomy(model.net).max_tokens(model.net) for model in (one, other)}
        cut_alike = self.recipe.student.max_length in (None, self.recipe.task.max_length)
        cut_alike = cut_alike and (len(lengths) == 1 or min(lengths) >= self.recipe.task.max_length)
        cut_alike = cut_alike and prompts_of(one.net) == prompts_of(other.net)
        return cut_alike and tokenizer_digest(one.tokenizer) == tokenizer_digest(other.tokenizer)


def require_same_masks(theirs: Sequence[Encoded], ours: Sequence[Encoded]) -> None:
    """On plain text both must see the same words, hidden in the same places.

    Raises:
        RecipeError: they do not.
    """
    if [content_digest(part) for part in theirs] != [content_digest(part) for part in ours]:
        raise RecipeError(
            "On plain text the teacher and the student must see the same masked tokens: give both the same tokenizer "
            "and the same longest input (task.max_length, student.max_length, and what the models can take)."
        )


_DIGESTS: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()
"""Tokenizer -> its number of tokens, and its digest: a vocabulary takes a tenth of a second to write down."""


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of what a tokenizer does: two with the same digest cut every text alike.

    It is made once for a tokenizer, and anew when tokens were added to it.
    """
    number, digest = _DIGESTS.get(tokenizer, (0, ""))
    if number != len(tokenizer):
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        # The tokenizer also remembers the last call's truncation and padding, which are not part of it.
        parts["truncation"] = parts["padding"] = None
        digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
        _DIGESTS[tokenizer] = len(tokenizer), digest
    return digest


def same_task(one: Task, other: Task) -> bool:
    """Whether two tasks ask the same of a model, whatever metric selects."""
    return (one.name, one.kind, one.labels) == (other.name, other.kind, other.labels)


def scale_of(rows: TaskData) -> tuple[float, float]:
    """Mean and deviation of the training labels of a regression task; 0 and 1 elsewhere."""
    if not rows.task.kind.standardise:
        return 0.0, 1.0
    labels = np.array([example.label for example in rows.train if example.label is not None] or [0.0], dtype=np.float64)
    return float(labels.mean()), float(labels.std()) or 1.0
