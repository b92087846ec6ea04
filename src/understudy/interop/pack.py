"""Padded batches, as Hugging Face data collators make them, become packed ones.

Shapes: B rows padded to L; T real tokens in all; C outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.base.errors import DataError
from understudy.data.encode import IGNORE, Batch
from understudy.kinds import Kind

TEACHER = "teacher_"
"""What the names of inputs in the teacher's own tokens begin with: `teacher_input_ids`, …"""
ROW = "row"
"""The number of each row of the batch in what a store of signals was made from (B,)."""


def ours(name: str) -> bool:
    """Whether an input is for the teacher, so that no stock model knows it."""
    return name == ROW or name.startswith(TEACHER)


def pack(inputs: Mapping[str, Any], kind: Kind, *, prefix: str = "") -> Batch:
    """The real tokens of a padded batch, sequences end to end.

    Args:
        inputs: input_ids (B, L), attention_mask (B, L) or none where nothing is padded, on either side; token_type_ids
            (B, L) or none; labels (B,), (B, C) or, for tokens and text, (B, L); or none.
        prefix: read `teacher_input_ids` in place of `input_ids`, and so on.

    Raises:
        DataError: no input_ids, a mask of another shape, or a row without tokens.
    """
    real = real_tokens(inputs, prefix=prefix)
    sizes = real.sum(dim=1)
    listed = sizes.tolist()
    if 0 in listed:
        raise DataError(f"Row {listed.index(0)} of a batch has no tokens: its {prefix}attention_mask is all 0.")
    types = inputs.get(f"{prefix}token_type_ids")
    return Batch(
        input_ids=inputs[f"{prefix}input_ids"][real],
        token_type_ids=None if types is None else types[real],
        lengths=sizes,
        sizes=listed,
        labels=_labels(inputs.get(f"{prefix}labels"), real, kind),
        indices=np.arange(len(listed)),
    )


def count(batches: Sequence[Mapping[str, Any]], kind: Kind) -> Tensor:
    """Examples, tokens and labels of some batches, int64 (3,), as `objective.Counts` has them."""
    total = torch.zeros(3, dtype=torch.int64)
    for inputs in batches:
        real = real_tokens(inputs)
        labels = inputs.get("labels")
        labelled = torch.as_tensor(len(real))
        if kind.per_token and labels is not None:
            labelled = ((labels != IGNORE) & real).sum()
        total += torch.stack([torch.as_tensor(len(real)), real.sum().cpu(), labelled.cpu()])
    return total


def real_tokens(inputs: Mapping[str, Any], *, prefix: str = "") -> Tensor:
    """(B, L) bool: which positions are no padding."""
    ids, mask = inputs.get(f"{prefix}input_ids"), inputs.get(f"{prefix}attention_mask")
    if ids is None or ids.ndim != 2:
        raise DataError(f"A batch needs {prefix}input_ids (rows, length); it has {', '.join(inputs) or 'nothing'}.")
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.shape != ids.shape:
        raise DataError(
            f"{prefix}attention_mask is {tuple(mask.shape)}, but only one number per token, {tuple(ids.shape)}, is supported."
        )
    return mask.bool()


def _labels(labels: Tensor | None, real: Tensor, kind: Kind) -> Tensor | None:
    """Labels as the losses take them: (B,) int64 or float, (B, C) float, (T,) int64."""
    if labels is None:
        return None
    if kind.per_token:
        if labels.shape != real.shape:
            raise DataError(f"Labels of kind {kind} are one per token, {tuple(real.shape)}; got {tuple(labels.shape)}.")
        return labels[real]
    try:
        return kind.batch_labels(labels)
    except ValueError as error:
        raise DataError(f"{error}.") from None
