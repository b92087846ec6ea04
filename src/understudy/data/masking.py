"""Masked inputs for plain text, as in the training of masked language models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from understudy.base.errors import DataError
from understudy.base.seeds import numpy_rng
from understudy.data.encode import IGNORE, Encoded


def mask_inputs(encoded: Encoded, tokenizer: Any, *, seed: int, variant: int, probability: float) -> Encoded:
    """The same rows with some tokens hidden, and what stood there as labels (T,) int64, -100 elsewhere.

    Each token that is not special is chosen with `probability`; of the chosen ones 80 % become the mask token, 10 % a
    random other token and 10 % stay (Devlin et al. 2019, section 3.1, Task #1). A pure function of its arguments:
    training goes round through `variant` 0, 1, … so that teacher signals can be computed once for each.
    """
    if tokenizer.mask_token_id is None:
        name = type(tokenizer).__name__
        raise DataError(f"{name} has no mask token; text without labels needs a masked language model.")
    rng = numpy_rng(seed, "mask", variant)
    special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int32)
    total = len(encoded.input_ids)
    chosen = (rng.random(total) < probability) & ~np.isin(encoded.input_ids, special)
    fate = rng.random(total)
    ordinary = np.setdiff1d(np.arange(len(tokenizer), dtype=np.int32), special)
    random_ids = ordinary[rng.integers(len(ordinary), size=total)]

    input_ids = encoded.input_ids.copy()
    input_ids[chosen & (fate < 0.8)] = tokenizer.mask_token_id
    swapped = chosen & (fate >= 0.8) & (fate < 0.9)
    input_ids[swapped] = random_ids[swapped]
    labels = np.where(chosen, encoded.input_ids, IGNORE).astype(np.int64)
    return replace(encoded, input_ids=input_ids, labels=labels, per_token=True)
