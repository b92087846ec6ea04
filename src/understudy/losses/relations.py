"""Relations between the tokens of a sequence: MiniLM's attention relations, and plain similarity of states.

A relation compares tokens of one sequence with each other, so widths and numbers of heads may differ between student
and teacher; tokens may not. Sequences are packed; those of equal length are computed together and nothing is padded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import Reduction, over_rows


def relations(
    student: Tensor, teacher: Tensor, sizes: Sequence[int], *, heads: int | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Self-relations q-q, k-k or v-v (Wang et al. 2021, MiniLMv2, equations 4-7; v-v is MiniLM's equation 6).

    R = softmax(X X^T / sqrt(d_r)) per relation head; the loss of a sequence of L tokens is the mean over heads and
    tokens of KL(R_t || R_s). Rows of the reduction are sequences.

    student: (T, H_s, d_s), teacher: (T, H_t, d_t), the packed queries, keys or values of one layer. sizes: the B
    lengths, which sum to T. heads: the relation heads A_r both sides are regrouped into, d_r = H d / A_r; by default
    the teacher's H_t.

    >>> import torch
    >>> x = torch.randn(5, 2, 4)
    >>> relations(x, x, [2, 3]).item(), relations(x.reshape(5, 4, 2), x, [2, 3], heads=1).item()
    (0.0, 0.0)
    """
    heads = teacher.shape[1] if heads is None else heads
    student, teacher = regroup(student, heads), regroup(teacher.detach(), heads)
    return _relation_kl((student, student), (teacher, teacher), sizes, reduction)


def attention_relations(
    student_q: Tensor,
    student_k: Tensor,
    teacher_q: Tensor,
    teacher_k: Tensor,
    sizes: Sequence[int],
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """The attention distributions themselves (Wang et al. 2020, MiniLM, equation 5): softmax(Q K^T / sqrt(d)).

    Queries and keys (T, H, d) of one layer of each side. The heads are compared one by one, so both sides need the
    same number; widths d may differ. Rows of the reduction are sequences; mean over heads and tokens within.

    >>> import torch
    >>> q, k = torch.zeros(2, 1, 1), torch.tensor([[[0.0]], [[1.0]]])
    >>> attention_relations(q, k, q, 3 * k, [2]).item()  # a query of zeros attends to all tokens alike
    0.0
    """
    if student_q.shape[1] != teacher_q.shape[1]:
        raise ValueError(
            f"attention_relations compares head with head; the student has {student_q.shape[1]} and the teacher "
            f"{teacher_q.shape[1]}. `relations` works with any numbers."
        )
    return _relation_kl((student_q, student_k), (teacher_q.detach(), teacher_k.detach()), sizes, reduction)


def token_similarity(
    student: Tensor, teacher: Tensor, sizes: Sequence[int], *, reduction: Reduction = "mean"
) -> Tensor:
    """Neuron selectivity transfer with a linear kernel (Huang & Wang 2017, equation 8), over tokens.

    The mean over the L x L entries of (X_s X_s^T - X_t X_t^T)^2, tokens normalised to length one, so that widths do
    not matter. student: (T, D_s), teacher: (T, D_t), packed hidden states. Rows of the reduction are sequences.

    >>> import torch
    >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])
    >>> token_similarity(student, teacher, [2]).item()  # orthogonal against parallel: (0 + 1 + 1 + 0) / 4
    0.5
    """
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1)
    values = []
    for s_NLD, t_NLD in _by_length(sizes, student, teacher):
        gap = s_NLD @ s_NLD.transpose(1, 2) - t_NLD @ t_NLD.transpose(1, 2)
        values.append(gap.square().mean(dim=(1, 2)))
    return over_rows(torch.cat(values), reduction)


def regroup(x_THd: Tensor, heads: int) -> Tensor:
    """(T, H, d) -> (T, heads, H d / heads): the same numbers under another count of heads (MiniLMv2, section 3.1)."""
    width = x_THd.shape[1] * x_THd.shape[2]
    if width % heads:
        raise ValueError(
            f"{heads} relation heads do not divide a width of {width}; use a number that divides both models' widths."
        )
    return x_THd.reshape(x_THd.shape[0], heads, width // heads)


def _relation_kl(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], sizes: Sequence[int], reduction: Reduction
) -> Tensor:
    values = []
    for s_q, s_k, t_q, t_k in _by_length(sizes, *student, *teacher):
        log_s, log_t = _log_relation(s_q, s_k), _log_relation(t_q, t_k)
        kl_NHL = (log_t.exp() * (log_t - log_s)).sum(dim=3)
        values.append(kl_NHL.mean(dim=(1, 2)))
    return over_rows(torch.cat(values), reduction)


def _log_relation(queries_NLHd: Tensor, keys_NLHd: Tensor) -> Tensor:
    """(N, H, L, L) log softmax of the scaled dot products, in at least fp32."""
    scores = torch.einsum("nqhd,nkhd->nhqk", queries_NLHd, keys_NLHd) / queries_NLHd.shape[3] ** 0.5
    return F.log_softmax(scores if scores.dtype == torch.float64 else scores.float(), dim=3)


def _by_length(sizes: Sequence[int], *packed: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """For every length L among `sizes`: its N sequences from each packed tensor, as (N, L, ...)."""
    total = sum(sizes)
    if any(tensor.shape[0] != total for tensor in packed):
        raise ValueError(
            f"Sizes that sum to {total} do not fit packed tensors with {[t.shape[0] for t in packed]} rows; relations "
            "between tokens need the same tokens on both sides."
        )
    if not sizes or min(sizes) < 1:
        raise ValueError("Relations between tokens need at least one sequence, each with at least one token.")
    starts_of: dict[int, list[int]] = defaultdict(list)
    start = 0
    for size in sizes:
        starts_of[size].append(start)
        start += size
    for size, starts in starts_of.items():
        rows = torch.tensor(starts)[:, None] + torch.arange(size)
        yield tuple(tensor[rows.to(tensor.device)] for tensor in packed)
