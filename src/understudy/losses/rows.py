"""What all losses share: one number per row, added or averaged; shapes that must agree; the labelled rows."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Reduction = Literal["mean", "sum", "none"]
FeatureLoss = Literal["mse", "cosine"]

IGNORE = -100  # the label of a token that has none: a later sub-word, a token that was not masked


def over_rows(values_N: Tensor, reduction: Reduction) -> Tensor:
    """One number of one number per row (N,), or with "none" those numbers. No rows: 0, for the mean too, still part of the
    graph."""
    if reduction == "none":
        return values_N
    if reduction == "sum":
        return values_N.sum()
    if reduction == "mean":
        return values_N.sum() / max(values_N.shape[0], 1)
    raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}.")


def same_shape(student: Tensor, teacher: Tensor, *, what: str) -> None:
    """Refuse to broadcast: (N, 1) against (N,) would silently compare every row with every other."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{what}: the student's shape {tuple(student.shape)} and the teacher's {tuple(teacher.shape)} differ."
        )


def same_rows(student: Tensor, teacher: Tensor, *, what: str) -> None:
    """Both sides are (N, width), with any widths, and speak of the same N rows."""
    if student.ndim != 2 or teacher.ndim != 2 or student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"{what} takes one vector per row from both sides, the same rows; got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}."
        )


def labelled(labels_T: Tensor, *packed: Tensor) -> tuple[Tensor, ...]:
    """The rows of each packed tensor (T, ...) whose label is not -100: (M, ...) each.

    This is the token version of every loss that works on rows. A tensor that already has the M labelled rows only (as
    from a teacher with another tokenizer, aligned word by word) passes unchanged.

    >>> import torch
    >>> labelled(torch.tensor([-100, 1, 0]), torch.tensor([[5.0], [6.0], [7.0]]))[0].flatten().tolist()
    [6.0, 7.0]
    """
    keep_T = labels_T != IGNORE
    num_labelled = int(keep_T.sum())
    rows = []
    for tensor in packed:
        if tensor.shape[0] == keep_T.shape[0]:
            rows.append(tensor[keep_T])
        elif tensor.shape[0] == num_labelled:
            rows.append(tensor)
        else:
            raise ValueError(
                f"A tensor of {tensor.shape[0]} rows fits neither {keep_T.shape[0]} token labels nor the "
                f"{num_labelled} of them that are set."
            )
    return tuple(rows)
