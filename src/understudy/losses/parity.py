"""Two errors of AutoMM on regression tasks, kept only to reproduce its numbers.

Both compare every row with every other where row should meet row: their minimum is not the teacher.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import same_shape


def mixed_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_ij (z_s,i - z_t,j)^2: what (N, 1) minus (N,) broadcasts to in AutoMM's softmax regression.

    student, teacher: predictions (N, 1). Every student prediction is drawn to the mean of the teacher's.

    >>> import torch
    >>> mixed_squared_error(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]])).item()  # not 0: (0+4+4+0) / 4
    2.0
    """
    _one_number_each(student, teacher, what="mixed_squared_error")
    return (student - teacher.detach().T).square().mean()


def mixed_cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Soft cross-entropy along the batch, as if the N rows were N classes: AutoMM's soft label loss of that name.

    student, teacher: predictions (N, 1).

    >>> import torch
    >>> mixed_cross_entropy(torch.zeros(2, 1), torch.tensor([[4.0], [9.0]])).item()  # log 2
    0.6931472420692444
    """
    _one_number_each(student, teacher, what="mixed_cross_entropy")
    target_N = F.softmax(teacher.detach().squeeze(1) / temperature, dim=0)
    return F.cross_entropy(student.squeeze(1) / temperature, target_N)


def _one_number_each(student: Tensor, teacher: Tensor, *, what: str) -> None:
    same_shape(student, teacher, what=what)
    if student.ndim != 2 or student.shape[1] != 1:
        raise ValueError(f"{what} takes predictions (N, 1); got {tuple(student.shape)}.")
