"""Learning over a vocabulary, from hidden states and heads: logits exist for a few rows at a time.

One fp32 matrix of N = 8,192 rows and V = 151,936 ids takes 5 GB, and a KL divergence written with autograd keeps about six. Here
rows go through the vocabulary in chunks. Weights and counts are known beforehand, so each chunk's gradient is computed at
once, and only its products with head and hidden states are kept:

    dh = dz W        dW += dz^T h        (fp32; none for a head that is not trained)

Memory beside that: `BUFFERS` matrices of `chunk_bytes`. Logits are fp32 out of the product of hidden states and head: rounding
them to bf16 first moves the gradient by some 8 % (Liger-Kernel issue 1432 reports 4 to 23 %).

Shapes: N scored positions, V ids, D width, K stored ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from understudy.losses.divergences import Divergence, forward_kl

CHUNK_BYTES = 2**28
"""Size of one matrix of logits. Smaller ones are bound by the time it takes to start a kernel."""
BUFFERS = 6
"""How many matrices of that size exist at once, at most."""


def peak_bytes(
    rows: int, vocabulary: int, width: int, *, trains_head: bool = True, chunk_bytes: int = CHUNK_BYTES
) -> int:
    """Memory that `over_vocabulary` takes beside its arguments: chunks, the gradients of hidden states and head."""
    chunk = 4 * vocabulary * _chunk_rows(rows, vocabulary, chunk_bytes, 4)
    return BUFFERS * chunk + 4 * rows * width + (4 * vocabulary * width if trains_head else 0)


@dataclass(frozen=True)
class Head:
    """What a head reads and the head, in place of its logits: softcap(scale (hidden weight^T + bias)), in that order.

    As in stock models: the final norm is behind us, `scale` is Cohere's and Granite's factor, `softcap` Gemma 2's c tanh(z / c).
    """

    hidden: Tensor  # (N, D)
    weight: Tensor  # (V, D)
    bias: Tensor | None = None  # (V,)
    softcap: float | None = None
    scale: float = 1.0
    real: bool = False
    """Of a teacher: its rows are the real ids, and those that the student has beyond them are padding."""

    def first(self, ids: int) -> Head:
        """Only the first ids, before the softmax: the others pad the head to a round size and never occur."""
        return replace(self, weight=self.weight[:ids], bias=None if self.bias is None else self.bias[:ids], real=True)

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """(n, V) of some rows, without a graph; fp32 (fp64 from fp64)."""
        z = product(self.hidden[rows].detach(), self.weight.detach().T)
        if self.bias is not None:
            z.add_(self.bias.detach())
        if self.scale != 1.0:
            z.mul_(self.scale)
        if self.softcap is not None:
            z.div_(self.softcap).tanh_().mul_(self.softcap)
        return z

    def compare(self, rows: slice, log_q: Tensor, divergence: Divergence, temperature: float) -> tuple[Tensor, Tensor]:
        """As a teacher (see `Teaches`)."""
        return divergence(log_q, log_softmax_(self.logits(rows), temperature))

    def map(self, change: Callable[[Tensor], Tensor]) -> Head:
        """The same with the hidden states changed. The head is the model's own and stays what and where it is."""
        return replace(self, hidden=change(self.hidden))


class Teaches(Protocol):
    """Whatever says what a teacher thinks of N positions: its head, or a record of it (`Sparse`, `align.Aligned`)."""

    def compare(self, rows: slice, log_q: Tensor, divergence: Divergence, temperature: float) -> tuple[Tensor, Tensor]:
        """The divergence of some rows of the student's log-probabilities (n, V): loss (n,), gradient in z / T (n, V).

        Raises ValueError where it cannot be said at this temperature, or over this vocabulary.
        """
        ...

    def map(self, change: Callable[[Tensor], Tensor]) -> Teaches:
        """The same with every tensor that has a row for each position changed: moved, or cut to some rows."""
        ...


@dataclass(frozen=True)
class Sparse:
    """What is kept of a teacher's distribution: its most likely ids, the mass of all others and, perhaps, ids drawn from those.

    With draws the forward KL's gradient is q - t, t = p on the top ids and an equal share of the other mass for each draw: its
    expectation is the full gradient, and only the tail has variance. Without draws, and for other divergences, the ids that are
    not stored are one class, the rest: never negative, 0 where both agree on these K + 1 classes, blind to the tail's shape.
    """

    ids: Tensor  # (N, K) int64, distinct
    log_p: Tensor  # (N, K)
    rest: Tensor  # (N,) log of the mass on all other ids
    entropy: Tensor  # (N,) of the whole distribution
    label_log_p: Tensor  # (N,) of the id that comes next
    draws: Tensor | None = None  # (N, M) int64, from the other ids

    @classmethod
    def of(cls, teacher: Head, labels: Tensor, top: int, uniform: Tensor | None = None, draws: int = 0) -> Sparse:
        """What is kept of a teacher's distributions.

        Args:
            top: K, at most V.
            uniform: (N,) in [0, 1), one number per position, from which all its `draws` are made: systematic sampling, points
                (m + u) / M of the tail's cumulative distribution. An id of tail probability r is drawn floor(M r) or ceil(M r)
                times, M r times on average.
        """
        vocabulary = teacher.weight.shape[0]
        top, draws = min(top, vocabulary), draws if uniform is not None and top < vocabulary else 0
        kept: list[list[Tensor]] = []
        for rows in _chunks(len(labels), vocabulary, CHUNK_BYTES // 2, teacher.hidden.element_size()):
            log_p = log_softmax_(teacher.logits(rows), 1.0)
            values, ids = log_p.topk(top, dim=-1)
            label = log_p.gather(1, labels[rows, None]).squeeze(1)
            p = log_p.exp()
            entropy = -_sum_products(p, log_p)
            tail = p.scatter_(1, ids, 0.0).double()
            mass = tail.sum(-1, keepdim=True)
            kept.append([ids, values, mass.squeeze(1).log().to(values.dtype), entropy, label])
            if draws and uniform is not None:
                points = (torch.arange(draws, device=ids.device) + uniform[rows, None].to(mass)) / draws * mass
                below = tail.cumsum(-1)
                points = torch.minimum(points, torch.nextafter(below[:, -1:], torch.zeros_like(mass)))
                kept[-1].append(torch.searchsorted(below, points, right=True))
        columns = [torch.cat(parts) for parts in zip(*kept, strict=True)]
        return cls(*columns)

    def compare(self, rows: slice, log_q: Tensor, divergence: Divergence, temperature: float) -> tuple[Tensor, Tensor]:
        """As a teacher (see `Teaches`)."""
        if temperature != 1.0:
            raise ValueError(
                f"A record of the teacher's most likely ids says nothing at temperature {temperature:g}: that asks for the whole "
                "tail. Use temperature 1, or the teacher's hidden states."
            )
        ids, log_p, rest = self.ids[rows], self.log_p[rows].to(log_q.dtype), self.rest[rows].to(log_q.dtype)
        if self.draws is not None and divergence is forward_kl:
            draws = self.draws[rows]
            tail = (rest.exp() / draws.shape[1])[:, None].expand(draws.shape)
            everything, weights = torch.cat([ids, draws], 1), torch.cat([log_p.exp(), tail], 1)
            loss = -(weights * log_q.gather(1, everything)).sum(-1) - self.entropy[rows].to(log_q.dtype)
            return loss, log_q.exp().scatter_add_(1, everything, -weights)
        known = log_q.gather(1, ids)
        others = log_q.scatter(1, ids, -torch.inf).logsumexp(-1, keepdim=True)
        loss, gradient = divergence(torch.cat([known, others], 1), torch.cat([log_p, rest[:, None]], 1))
        spread = (log_q - others).exp_().mul_(gradient[:, -1:])  # inside the rest as the student has it
        return loss, spread.scatter_(1, ids, gradient[:, :-1])

    def map(self, change: Callable[[Tensor], Tensor]) -> Sparse:
        """The same with every tensor changed."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            changed[field.name] = None if value is None else change(value)
        return Sparse(**changed)


@dataclass(frozen=True)
class Soft:
    """How the teacher's distribution counts: its weight, the divergence, and the temperature of both sides."""

    weight: float = 1.0
    divergence: Divergence = forward_kl
    temperature: float = 1.0
    scale_by_t2: bool = True

    @property
    def factor(self) -> float:
        return self.temperature**2 if self.scale_by_t2 else 1.0


def over_vocabulary(
    student: Head,
    labels: Tensor,
    teacher: Teaches | None = None,
    *,
    soft: Soft | None = None,
    hard: float = 0.0,
    row_weights: Tensor | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Tensor, Tensor, Tensor]:
    """soft.weight * divergence from the teacher + hard * cross-entropy, in one pass over the vocabulary.

    Args:
        labels: (N,) the id that comes next; every row counts.
        teacher: needed for `soft`.
        hard: weight of the cross-entropy, always at temperature 1.
        row_weights: (N,) how much each row counts; None: 1.

    Returns:
        The total, to differentiate (once: its gradients are computed here); and the sums over rows of the divergence and of the
        cross-entropy, without `soft.weight` and `hard`, and without a graph.

    Raises ValueError for shapes that do not fit, and what the teacher's `compare` raises.

    >>> h, w = torch.eye(2, requires_grad=True), torch.eye(2)
    >>> total, soft, hard = over_vocabulary(Head(h, w), torch.tensor([0, 1]), Head(2 * w, w), soft=Soft())
    >>> total.backward(); round(soft.item(), 4), round(hard.item(), 4), [round(x, 4) for x in h.grad[0].tolist()]
    (0.1343, 0.6265, [-0.1497, 0.1497])
    """
    if len(labels) != len(student.hidden):
        raise ValueError(f"{len(student.hidden)} rows of hidden states and {len(labels)} labels.")
    if soft is not None and teacher is None:
        raise ValueError("A divergence needs a teacher.")
    if teacher is not None and isinstance(teacher, Head) and teacher.weight.shape[0] != student.weight.shape[0]:
        raise ValueError(
            f"The teacher's vocabulary has {teacher.weight.shape[0]} ids, the student's {student.weight.shape[0]}: they cannot "
            "be compared id by id. Cut both to the ids they share, or align them."
        )
    kind = student.hidden.device.type
    if kind != "cpu" and torch.is_autocast_enabled(kind):
        student = replace(student, hidden=student.hidden.to(torch.get_autocast_dtype(kind)))
    job = _Job(student, labels, teacher, soft, hard, row_weights, chunk_bytes, torch.is_grad_enabled())
    return _OverVocabulary.apply(student.hidden, student.weight, student.bias, job)


@dataclass(frozen=True)
class _Job:
    student: Head
    labels: Tensor
    teacher: Teaches | None
    soft: Soft | None
    hard: float
    row_weights: Tensor | None
    chunk_bytes: int
    learns: bool


class _OverVocabulary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> Any:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        wants = [job.learns and needed for needed in ctx.needs_input_grad[:3]]
        gradients: list[Tensor | None] = [
            None if tensor is None or not wanted else tensor.new_zeros(tensor.shape, dtype=wide)
            for tensor, wanted in zip((hidden, weight, bias), wants, strict=True)
        ]
        sums = hidden.new_zeros(3, dtype=wide)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _chunks(len(hidden), weight.shape[0], job.chunk_bytes, sums.element_size()):
                dz = _one_chunk(job, rows, sums, any(wants))
                if dz is not None:
                    _add_gradients(hidden[rows], weight, rows, dz, gradients)
        ctx.kept = (gradients, [None if t is None else t.dtype for t in (hidden, weight, bias)])
        ctx.mark_non_differentiable(soft := sums[1].clone(), hard := sums[2].clone())
        return sums[0].clone(), soft, hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.kept is None:
            raise RuntimeError(
                "A loss over a vocabulary can be differentiated once; its gradients are gone afterwards."
            )
        (gradients, dtypes), ctx.kept = ctx.kept, None
        return *(
            None if gradient is None else gradient.mul_(grads[0].to(gradient.dtype)).to(dtype)
            for gradient, dtype in zip(gradients, dtypes, strict=True)
        ), None


def _one_chunk(job: _Job, rows: slice, sums: Tensor, learns: bool) -> Tensor | None:
    """Adds the losses of some rows to `sums` (total, soft, hard); the gradient in what the head's product gave."""
    student, labels = job.student, job.labels[rows, None]
    z = student.logits(rows)
    weights = None if job.row_weights is None else job.row_weights[rows].to(z.dtype)
    slope = None if student.softcap is None or not learns else (z / student.softcap).square_().neg_().add_(1)

    def total(values: Tensor) -> Tensor:
        return values.sum() if weights is None else torch.dot(values, weights)

    at_one = job.soft is None or job.soft.temperature == 1.0
    gradient: Tensor | None = None
    if job.soft is not None:
        assert job.teacher is not None
        log_q = log_softmax_(z if at_one else z.clone(), job.soft.temperature)
        values, gradient = job.teacher.compare(rows, log_q, job.soft.divergence, job.soft.temperature)
        del log_q
        value = total(values) * job.soft.factor
        sums[0] += job.soft.weight * value
        sums[1] += value
        gradient.mul_(job.soft.weight * job.soft.factor / job.soft.temperature)
    log_q = z if job.soft is not None and at_one else log_softmax_(z, 1.0)
    value = -total(log_q.gather(1, labels).squeeze(1))
    sums[0] += job.hard * value
    sums[2] += value
    if not learns:
        return None
    if job.hard:
        q = log_q.exp_().scatter_add_(1, labels, log_q.new_full(labels.shape, -1.0)).mul_(job.hard)
        gradient = q if gradient is None else gradient.add_(q)
    if gradient is None:
        return None
    if weights is not None:
        gradient.mul_(weights[:, None])
    if slope is not None:
        gradient.mul_(slope)
    return gradient.mul_(student.scale) if student.scale != 1.0 else gradient


def _add_gradients(hidden: Tensor, weight: Tensor, rows: slice, dz: Tensor, gradients: list[Tensor | None]) -> None:
    of_hidden, of_weight, of_bias = gradients
    if of_bias is not None:
        of_bias.add_(dz.sum(0))
    if halves(hidden):
        dz = dz.to(hidden.dtype)
    if of_hidden is not None:
        of_hidden[rows] = product(dz, weight)
    if of_weight is not None:
        if halves(hidden):
            of_weight.add_(product(dz.T, hidden))
        else:
            of_weight.addmm_(dz.T, hidden.to(dz.dtype))


def product(one: Tensor, other: Tensor) -> Tensor:
    """one @ other in fp32 (fp64 where `one` is), out of a product of halves added up in fp32 where a GPU is given halves."""
    if halves(one):
        return torch.mm(one, other.to(one.dtype), out_dtype=torch.float32)
    dtype = torch.float64 if one.dtype == torch.float64 else torch.float32
    return torch.mm(one.to(dtype), other.to(dtype))


def halves(tensor: Tensor) -> bool:
    """Whether products of this tensor are made in half precision: on GPUs; a CPU multiplies in fp32."""
    return tensor.is_cuda and tensor.dtype in (torch.bfloat16, torch.float16)


def log_softmax_(z: Tensor, temperature: float) -> Tensor:
    """log softmax(z / T), in place."""
    if temperature != 1.0:
        z.div_(temperature)
    return z.sub_(z.logsumexp(-1, keepdim=True))


def _sum_products(p: Tensor, log_p: Tensor) -> Tensor:
    return (p * log_p).masked_fill_(p == 0, 0.0).sum(-1)


def _chunk_rows(rows: int, vocabulary: int, chunk_bytes: int, size: int) -> int:
    return max(1, min(rows, chunk_bytes // (vocabulary * size)))


def _chunks(rows: int, vocabulary: int, chunk_bytes: int, size: int) -> Iterator[slice]:
    step = _chunk_rows(rows, vocabulary, chunk_bytes, size)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
