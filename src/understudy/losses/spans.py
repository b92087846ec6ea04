"""Where an answer begins and ends: two distributions over the tokens of one window of a text.

A window's candidates are the tokens of its text and the first token, which means that it holds no answer. Rows are candidates,
(M, 2) logits of beginning and end, those of B windows one behind the other; `sizes` are the B numbers of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.losses.rows import Reduction, over_rows, same_shape

BEGINS, ENDS = 1, 2
"""Flags of a candidate: the answer begins here, ends here; 3 is both."""


def span_cross_entropy(logits: Tensor, flags: Tensor, sizes: Sequence[int], *, reduction: Reduction = "mean") -> Tensor:
    """Half of -log p(beginning) and half of -log p(end), each of a softmax over one window; 0 for a window without flags.

    logits: (M, 2). flags: (M,) whole numbers.

    >>> import torch
    >>> logits, flags = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([0, 3])
    >>> round(span_cross_entropy(logits, flags, [2]).item(), 6)  # (log(1 + exp(-1)) + log(1 + exp(-2))) / 2
    0.220095
    """
    parts = []
    for part, marks in zip(logits.split(list(sizes)), flags.split(list(sizes)), strict=True):
        likely = part.log_softmax(dim=0)
        at = torch.stack([(marks & BEGINS) > 0, (marks & ENDS) > 0], dim=1)
        parts.append(-torch.where(at, likely, 0.0).sum() / 2)
    return over_rows(torch.stack(parts) if parts else logits.sum(dim=1)[:0], reduction)


def span_kl(
    student: Tensor, teacher: Tensor, sizes: Sequence[int], *, temperature: float = 1.0, scale_by_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:  # fmt: skip
    """Half of KL(teacher || student) of the beginning and half of that of the end, softened by T, times T^2.

    student, teacher: (M, 2).

    >>> import torch
    >>> teacher = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> span_kl(teacher + 1, teacher, [2]).item()  # what is added to all candidates says nothing
    0.0
    """
    same_shape(student, teacher, what="span_kl")
    parts = []
    for ours, theirs in zip(student.split(list(sizes)), teacher.detach().split(list(sizes)), strict=True):
        target, said = (theirs / temperature).log_softmax(dim=0), (ours / temperature).log_softmax(dim=0)
        parts.append((target.exp() * (target - said)).sum() / 2)
    found = over_rows(torch.stack(parts) if parts else student.sum(dim=1)[:0], reduction)
    return found * temperature**2 if scale_by_t2 else found
