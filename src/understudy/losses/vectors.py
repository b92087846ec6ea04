"""Vectors of texts: each should be the teacher's, or lie to the others as the teacher's do, or nearest to what answers it.

What compares the rows of a batch sees all of it, takes no `reduction` and cannot be split. Rows are (N, V); student and teacher
may have different widths wherever vectors are only compared with each other. Everything is at least fp32: a cosine in bf16 has
three digits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import Reduction, over_rows, same_rows, same_shape

VectorLoss = Literal["cosine", "squared", "distance"]
FEWEST_TEXTS = 3
"""Two texts have one similarity: nothing to be distributed over."""
_SAME = 1e-6  # two texts that a teacher finds this much alike are one
_TINY = 1e-12


def vector(student: Tensor, teacher: Tensor, *, kind: VectorLoss = "cosine", reduction: Reduction = "mean") -> Tensor:
    """cosine: 1 - cos(s, t); squared: |s - t|^2; distance: |s - t| (EmbedDistill, equation 7).

    student, teacher: (N, V). All are sums over V: sentence-transformers' MSELoss is the mean, V times less.

    >>> import torch
    >>> s, t = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]])
    >>> [round(vector(s, t, kind=kind).item(), 6) for kind in ("cosine", "squared", "distance")]
    [0.4, 16.0, 4.0]
    """
    same_shape(student, teacher, what="vector")
    teacher = teacher.detach()
    if kind == "cosine":
        return over_rows(1 - F.cosine_similarity(student, teacher, dim=1), reduction)
    squares = (student - teacher).square().sum(dim=1)
    if kind == "squared":
        return over_rows(squares, reduction)
    if kind != "distance":
        raise ValueError(f"vector takes kind cosine, squared or distance, not {kind!r}.")
    return over_rows(squares.clamp(min=_TINY).sqrt(), reduction)  # the root has no slope at 0


def similarity_squared(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pairs of different texts of (cos(s_i, s_j) - cos(t_i, t_j))^2.

    student: (N, V_s), teacher: (N, V_t). Fewer than three texts: zero, still part of the graph.

    >>> import torch
    >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # cosines 0, 0, -1
    >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # cosines 0, -1, 0
    >>> round(similarity_squared(student, teacher).item(), 6)  # (0 + 1 + 1) / 3
    0.666667
    """
    same_rows(student, teacher, what="similarity_squared")
    if len(student) < FEWEST_TEXTS:
        return student.sum() * 0.0
    with _exactly(student):
        ours, theirs, others = _similarities(student, teacher)
        return ((ours - theirs).square() * others).sum() / others.sum().clamp(min=1)


def similarity_kl(student: Tensor, teacher: Tensor, *, temperature: float = 0.05) -> Tensor:
    """KL(softmax_j(cos(t_i, t_j) / T) || softmax_j(cos(s_i, s_j) / T)) over j != i, mean over i.

    Without the text itself, whose cosine is 1 and would take all of the mass at a small T, and without copies of it.

    student: (N, V_s), teacher: (N, V_t). Fewer than three texts: zero, still part of the graph.

    >>> import torch
    >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> similarity_kl(5 * teacher, teacher).item()  # lengths do not count
    0.0
    """
    same_rows(student, teacher, what="similarity_kl")
    if len(student) < FEWEST_TEXTS:
        return student.sum() * 0.0
    with _exactly(student):
        ours, theirs, others = _similarities(student, teacher)
        none = torch.finfo(ours.dtype).min
        target = (theirs / temperature).masked_fill(~others, none).log_softmax(dim=1)
        said = (ours / temperature).masked_fill(~others, none).log_softmax(dim=1)
        parts = torch.where(others, target.exp() * (target - said), 0.0)
        return parts.sum() / len(student)


def contrastive(queries: Tensor, passages: Tensor, positive: Tensor, allowed: Tensor, *, temperature: float = 0.05) -> Tensor:
    """InfoNCE: -log of the softmax of cos(q, d) / T at a positive, over it and all passages that are not positive.

    Args:
        queries: (Q, V). passages: (P, V), of all queries together.
        positive: (Q, P) bool. A query with several is as many rows of the mean.
        allowed: (Q, P) bool: those that count as negative; copies of a positive must not.

    >>> import torch
    >>> queries, passages = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> positive, allowed = torch.tensor([[True, False]]), torch.tensor([[True, True]])
    >>> round(contrastive(queries, passages, positive, allowed, temperature=1.0).item(), 6)  # log(1 + exp(0 - 1))
    0.313262
    """
    with _exactly(queries):
        scores = F.normalize(_wide(queries), dim=1) @ F.normalize(_wide(passages), dim=1).T / temperature
        none = torch.finfo(scores.dtype).min
        against = scores.masked_fill(~(allowed & ~positive), none).logsumexp(dim=1, keepdim=True)
        losses = torch.logaddexp(scores, against) - scores
        return torch.where(positive, losses, 0.0).sum() / positive.sum().clamp(min=1)


def margin_mse(student: Tensor, teacher: Tensor, lists: Tensor) -> Tensor:
    """((s+ - s-) - (Z+ - Z-))^2, mean over the others of a list, then over lists (Hofstätter et al. 2020).

    The first of a list by the teacher's score is its positive.

    Args:
        student, teacher: (P,) scores of passages.
        lists: (P,) the number of the list each belongs to. A list of one is no margin and is left out.

    >>> import torch
    >>> student, teacher = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([5.0, 2.0, 4.0])
    >>> margin_mse(student, teacher, torch.tensor([0, 0, 0])).item()  # ((1 - 3)^2 + (0.5 - 1)^2) / 2
    2.125
    """
    total, number = student.sum() * 0.0, 0
    for rows in _members(lists):
        if len(rows) > 1:
            best = rows[teacher[rows].argmax()]
            others = rows[rows != best]
            margin = (student[best] - student[others]) - (teacher[best] - teacher[others])
            total, number = total + margin.square().mean(), number + 1
    return total / max(number, 1)


def list_kl(student: Tensor, teacher: Tensor, lists: Tensor, *, temperature: float = 1.0, scale: float = 1.0) -> Tensor:
    """KL(softmax(Z / T) || softmax(s / τ)) over the passages of a list, mean over lists.

    Args:
        student, teacher: (P,) scores of passages.
        lists: (P,) the number of the list each belongs to. A list of one is a constant and is left out.
        temperature: T of the teacher's scores.
        scale: τ of the student's; cosines need a small one.

    >>> import torch
    >>> teacher, lists = torch.tensor([2.0, 0.0, 7.0]), torch.tensor([0, 0, 1])
    >>> round(list_kl(torch.tensor([1.0, 0.0, 3.0]), teacher, lists, scale=0.5).item(), 6)  # 1 / 0.5 - 0 is the teacher's margin
    0.0
    """
    total, number = student.sum() * 0.0, 0
    for rows in _members(lists):
        if len(rows) > 1:
            target, said = (teacher[rows] / temperature).log_softmax(0), (student[rows] / scale).log_softmax(0)
            total, number = total + (target.exp() * (target - said)).sum(), number + 1
    return total / max(number, 1)


def _members(lists: Tensor) -> list[Tensor]:
    return [torch.nonzero(lists == number).flatten() for number in lists.unique()]


def _similarities(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, N) cosines of both sides, and where two texts are different ones."""
    ours = F.normalize(_wide(student), dim=1)
    theirs = F.normalize(_wide(teacher.detach()), dim=1)
    theirs = theirs @ theirs.T
    others = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device) & (theirs < 1 - _SAME)
    return ours @ ours.T, theirs, others


def _wide(rows: Tensor) -> Tensor:
    return rows if rows.dtype == torch.float64 else rows.float()


def _exactly(rows: Tensor) -> AbstractContextManager[object]:
    return torch.autocast(rows.device.type, enabled=False)
