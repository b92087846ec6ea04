"""Learning from the teacher's softened outputs (Hinton et al. 2015, section 2).

Both logits are divided by the temperature T first. Gradients then shrink about as 1/T^2; `scale_by_t2` multiplies the
loss by T^2, so that T changes what is learned and not how strongly. For squared errors the two cancel exactly: T has
no effect, unless `scale_by_t2` is off.

For tokens, pass the labelled rows: `soft_cross_entropy(*labelled(labels, student, teacher))`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from understudy.losses.rows import Reduction, over_rows, same_shape


def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    scale_by_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """-sum_c softmax(z_t/T)_c log softmax(z_s/T)_c [T^2]. Equals `soft_kl` plus the teacher's entropy.

    student, teacher: logits (N, C), C > 1.

    >>> import torch
    >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[3.0, -1.0]])).item()  # log 2, whoever is right
    0.6931471824645996
    """
    factor = _check(student, teacher, temperature, scale_by_t2, what="soft_cross_entropy", several=True)
    log_s = F.log_softmax(student / temperature, dim=1)
    p_t = F.softmax(teacher.detach() / temperature, dim=1)
    return over_rows(-(p_t * log_s).sum(dim=1) * factor, reduction)


def soft_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    scale_by_t2: bool = True,
    over: Reduction = "sum",
    reduction: Reduction = "mean",
) -> Tensor:
    """KL(softmax(z_t/T) || softmax(z_s/T)) [T^2], summed over classes.

    student, teacher: logits (N, C), C > 1. Same gradient as `soft_cross_entropy`, but 0 where the two agree.
    over: "mean" averages over the C classes instead, as the code of PKD and Pea-KD does: 1/C of the divergence.

    >>> import torch
    >>> soft_kl(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 2.0]]), temperature=2.0).item()  # same probabilities
    0.0
    """
    factor = _check(student, teacher, temperature, scale_by_t2, what="soft_kl", several=True)
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher.detach() / temperature, dim=1)
    parts = log_t.exp() * (log_t - log_s)
    return over_rows((parts.mean(dim=1) if over == "mean" else parts.sum(dim=1)) * factor, reduction)


def soft_binary_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    scale_by_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Multi-label: the soft cross-entropy of each yes-or-no label, averaged over the C labels [T^2].

    With s the sigmoid: -s(z_t/T) log s(z_s/T) - (1 - s(z_t/T)) log(1 - s(z_s/T)). student, teacher: logits (N, C).

    >>> import torch
    >>> soft_binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[4.0, -1.0]])).item()
    0.6931471824645996
    """
    factor = _check(student, teacher, temperature, scale_by_t2, what="soft_binary_cross_entropy", several=False)
    p_t = (teacher.detach() / temperature).sigmoid()
    values = F.binary_cross_entropy_with_logits(student / temperature, p_t, reduction="none")
    return over_rows(values.mean(dim=1) * factor, reduction)


def soft_binary_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    scale_by_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Multi-label: KL(Bernoulli(s(z_t/T)) || Bernoulli(s(z_s/T))), s the sigmoid, averaged over the C labels [T^2].

    student, teacher: logits (N, C). Same gradient as `soft_binary_cross_entropy`, but 0 where the two agree.

    >>> import torch
    >>> soft_binary_kl(torch.zeros(1, 2), torch.tensor([[100.0, 0.0]])).item()  # (log 2 + 0) / 2
    0.3465735912322998
    """
    factor = _check(student, teacher, temperature, scale_by_t2, what="soft_binary_kl", several=False)
    soft_s, soft_t = student / temperature, teacher.detach() / temperature
    yes = soft_t.sigmoid() * (F.logsigmoid(soft_t) - F.logsigmoid(soft_s))
    no = (-soft_t).sigmoid() * (F.logsigmoid(-soft_t) - F.logsigmoid(-soft_s))
    return over_rows((yes + no).mean(dim=1) * factor, reduction)


def soft_mse(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    scale_by_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean_c (z_s/T - z_t/T)^2 [T^2]; with T^2 that is mean_c (z_s - z_t)^2, at any T.

    student, teacher: logits or predictions (N, C).

    >>> import torch
    >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])
    >>> soft_mse(student, teacher).item(), soft_mse(student, teacher, temperature=2.0, scale_by_t2=False).item()
    (2.0, 0.5)
    """
    factor = _check(student, teacher, temperature, scale_by_t2, what="soft_mse", several=False)
    differences = student - teacher.detach()
    return over_rows(differences.square().mean(dim=1) * (factor / temperature**2), reduction)


def _check(
    student: Tensor, teacher: Tensor, temperature: float, scale_by_t2: bool, *, what: str, several: bool
) -> float:
    """Check shapes and temperature; returns the factor in front of the loss."""
    same_shape(student, teacher, what=what)
    if student.ndim != 2 or (several and student.shape[1] < 2):
        raise ValueError(
            f"{what} takes logits (N, C){' of at least two classes' if several else ''}; got {tuple(student.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"The temperature must be above 0, not {temperature}.")
    return temperature**2 if scale_by_t2 else 1.0
