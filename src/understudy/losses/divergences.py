"""Divergences between a teacher's p and a student's q over C classes, each with its gradient in the student's logits.

A loss sum_c F(p_c, q_c) with q = softmax(z) has, with F' = dF/dq,

    dL/dz_c = q_c (F'_c - sum_j q_j F'_j)

so each function here returns (loss (N,), gradient (N, C)) from log q and log p, both (N, C), and no autograd graph of the size of
the logits is ever kept. Everything is computed from logarithms; a class that the teacher rules out (log p = -inf) counts as 0.

Sources: forward and reverse KL; JSD as in GKD (Agarwal et al. 2024, eq. 1); skew KL (Ko et al. 2024, DistiLLM); total variation
(Wen et al. 2023); alpha-beta (Wang et al. 2025, ABKD); adaptive KL (Wu et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

Divergence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(log q (N, C), log p (N, C)) -> (loss (N,), its gradient in the student's logits (N, C))."""


def forward_kl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) = sum p log(p/q); the gradient is q - p."""
    p = log_p.exp()
    loss = _expected(p, log_p - log_q)
    return loss, log_q.exp().sub_(p)


def reverse_kl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q || p) = sum q log(q/p); the gradient is q (a - E_q a), a = log q/p."""
    return _centred(log_q.exp(), log_q - log_p)


def jsd(log_q: Tensor, log_p: Tensor, *, beta: float = 0.5, scaled: bool = False) -> tuple[Tensor, Tensor]:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q.

    beta: in (0, 1), the teacher's weight in m. As beta goes to 0 or 1 the loss goes to 0.
    scaled: divide by beta (1 - beta); then it goes to the forward KL (beta to 0) and to the reverse KL (to 1).
    """
    log_m = _mixed(log_p, log_q, beta)
    from_p = _expected(log_p.exp(), log_p - log_m)
    from_q, gradient = _centred(log_q.exp(), log_q - log_m)
    factor = 1 / (beta * (1 - beta)) if scaled else 1.0
    return (beta * from_p + (1 - beta) * from_q) * factor, gradient.mul_((1 - beta) * factor)


def skew_kl(log_q: Tensor, log_p: Tensor, *, alpha: float = 0.1) -> tuple[Tensor, Tensor]:
    """KL(p || m), m = alpha p + (1 - alpha) q; the gradient is q E_p w - p w, w = (1 - alpha) q / m."""
    log_m, p = _mixed(log_p, log_q, alpha), log_p.exp()
    loss = _expected(p, log_p - log_m)
    share = _times(p, log_m.neg_().add_(log_q).exp_().mul_(1 - alpha))
    del p
    return loss, log_q.exp().mul_(share.sum(-1, keepdim=True)).sub_(share)


def skew_reverse_kl(log_q: Tensor, log_p: Tensor, *, alpha: float = 0.1) -> tuple[Tensor, Tensor]:
    """KL(q || m), m = alpha q + (1 - alpha) p; the gradient is q (a - E_q a), a = log q/m - alpha q/m."""
    ratio, q = _mixed(log_q, log_p, alpha).neg_().add_(log_q), log_q.exp()
    loss = _expected(q, ratio.clone())
    return loss, _centred(q, ratio.sub_(ratio.exp(), alpha=alpha))[1]


def tvd(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Total variation: sum |p - q| / 2."""
    q = log_q.exp()
    difference = q - log_p.exp()
    loss = difference.abs().sum(-1) / 2
    return loss, _centred(q, difference.sign_().div_(2))[1]


def ab(log_q: Tensor, log_p: Tensor, *, alpha: float = 0.2, beta: float = 0.7) -> tuple[Tensor, Tensor]:
    """-1/(a b) sum [p^a q^b - a/(a+b) p^(a+b) - b/(a+b) q^(a+b)]. a = 1, b to 0 is the forward KL, a to 0, b = 1 the reverse."""
    both, whole = (log_p * alpha + log_q * beta).exp_(), alpha + beta
    of_q = (log_q * whole).exp_()
    loss = both.sum(-1) - alpha / whole * (log_p * whole).exp_().sum(-1) - beta / whole * of_q.sum(-1)
    q_times_f = of_q.sub_(both).div_(alpha)
    total = q_times_f.sum(-1, keepdim=True)
    return loss.div_(-alpha * beta), q_times_f.sub_(log_q.exp().mul_(total))


def adaptive_kl(log_q: Tensor, log_p: Tensor, *, mass: float = 0.5) -> tuple[Tensor, Tensor]:
    """Forward and reverse KL, weighted by how far p and q are apart on the teacher's head and on its tail.

    The head is the smallest set of classes of teacher mass >= `mass`. (g_h FKL + g_t RKL) / (g_h + g_t) with g = sum |p - q|
    over head and tail, constants to the gradient; half and half where both are 0.
    """
    p = log_p.exp()
    apart = log_q.exp().sub_(p).abs_()
    few = max(1, len(p) // 16)  # rows at once: the head of a flat distribution is most of it
    head = torch.cat([_of_head(*parts, mass) for parts in zip(p.split(few), apart.split(few), strict=True)])
    whole = apart.sum(-1)
    share = torch.where(whole > 0, head / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0.5)
    del apart, p
    loss, gradient = forward_kl(log_q, log_p)
    other, more = reverse_kl(log_q, log_p)
    return share * loss + (1 - share) * other, gradient.mul_(share[:, None]).add_(more.mul_(1 - share[:, None]))


NAMES: dict[str, tuple[Callable[..., tuple[Tensor, Tensor]], tuple[str, ...]]] = {
    "forward_kl": (forward_kl, ()),
    "reverse_kl": (reverse_kl, ()),
    "jsd": (jsd, ("beta", "scaled")),
    "skew_kl": (skew_kl, ("alpha",)),
    "skew_reverse_kl": (skew_reverse_kl, ("alpha",)),
    "tvd": (tvd, ()),
    "ab": (ab, ("alpha", "beta")),
    "adaptive_kl": (adaptive_kl, ("mass",)),
}
"""What each divergence is called in a recipe, and the options it takes."""


def divergence(name: str, **options: float | bool | None) -> Divergence:
    """The divergence of this name; options that are None keep their defaults.

    Raises ValueError for an option that it does not have, or a number for which it is not defined.

    >>> import torch
    >>> loss, gradient = divergence("jsd", beta=0.1)(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.5, 0.5]]).log())
    >>> loss.item(), gradient.tolist()
    (0.0, [[0.0, 0.0]])
    """
    function, known = NAMES[name]
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            takes = " and ".join(known) or "no options"
            raise ValueError(f"{name} has no {key}; it takes {takes}.")
        if name == "ab":
            if value == 0:
                raise ValueError(
                    f"ab is not defined for {key} = 0; its limits are forward_kl (alpha 1) and reverse_kl (beta 1)."
                )
        elif key != "scaled" and not 0 < value < 1:
            ends = "; its ends are forward_kl and reverse_kl" if name == "jsd" else ""
            raise ValueError(f"{key} of {name} must lie between 0 and 1, got {value:g}{ends}.")
    if name == "ab" and given.get("alpha", 0.2) + given.get("beta", 0.7) == 0:
        raise ValueError("ab is not defined for alpha + beta = 0.")
    return partial(function, **given) if given else function


def between_logits(student: Tensor, teacher: Tensor, *, divergence: Divergence, temperature: float = 1.0) -> Tensor:
    """(N,) divergence of softmax(teacher / T) and softmax(student / T), logits (N, C), with its gradient in the student's.

    >>> import torch
    >>> student = torch.zeros(1, 2, requires_grad=True)
    >>> loss = between_logits(student, torch.tensor([[3.0, 0.0]]).log_softmax(-1), divergence=tvd)
    >>> loss.backward(torch.ones(1)); round(loss.item(), 4), [round(x, 4) for x in student.grad[0].tolist()]
    (0.4526, [-0.25, 0.25])
    """
    if student.shape != teacher.shape:
        raise ValueError(f"Logits of one shape are compared, got {tuple(student.shape)} and {tuple(teacher.shape)}.")
    return _BetweenLogits.apply(student, teacher.detach(), divergence, temperature)


class _BetweenLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, divergence: Divergence, temperature: float) -> Tensor:
        loss, gradient = divergence((student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1))
        ctx.save_for_backward(gradient.div_(temperature))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.saved_tensors[0] * grads[0][:, None], None, None, None


def _times(weight: Tensor, value: Tensor) -> Tensor:
    """weight * value, in place of `value`; 0 where the weight is 0, whatever the value."""
    return value.mul_(weight).masked_fill_(weight == 0, 0.0)


def _expected(weight: Tensor, value: Tensor) -> Tensor:
    return _times(weight, value).sum(-1)


def _centred(q: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """(E_q a, q (a - E_q a)). `a` is overwritten."""
    product = _times(q, a)
    mean = product.sum(-1)
    return mean, product.addcmul_(q, mean[:, None], value=-1)


def _mixed(log_one: Tensor, log_other: Tensor, share: float) -> Tensor:
    """log(share * one + (1 - share) * other)."""
    log_m = log_one + math.log(share)
    return torch.logaddexp(log_m, log_other + math.log1p(-share), out=log_m)


def _of_head(p: Tensor, values: Tensor, mass: float) -> Tensor:
    """(N,) sum of the values of the smallest set of classes of this mass. Few classes are looked at, not all sorted."""
    number = min(64, p.shape[-1])
    while True:
        likely, classes = p.topk(number, dim=-1)
        before = likely.cumsum(-1) - likely
        if number == p.shape[-1] or bool((before[:, -1] + likely[:, -1] >= mass).all()):
            return values.gather(1, classes).mul_(before < mass).sum(-1)
        number = min(8 * number, p.shape[-1])
