"""What the terms of an objective must know of the two models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from understudy.base.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from understudy.kinds import Kind
    from understudy.objective.projections import Projection


@dataclass(frozen=True)
class Side:
    """What an objective must know of one of the two models."""

    width: int
    """D, of hidden states and features."""
    layers: int
    """As they are run: shared layers count as often as they are used."""
    attention: Callable[[], Sequence[tuple[int, int]]] = tuple
    """For each layer its attention heads and the width of all of them together, which pruning changes; looked up when asked."""
    outputs: bool = True
    """False for a bare encoder of plain text, without a head on the vocabulary."""
    head: Callable[[], tuple[Tensor, Tensor | None]] | None = None
    """Weight (C, D) and bias (C,) of the last Linear, when asked; None where there is none at hand."""
    states: bool = True
    """False for a teacher that is known by its answers alone: it has outputs, and no layers or features to compare."""
    vector: int | None = None
    """V, of the vectors of an embedding model, where that is not D."""
    causal: bool = False
    """A decoder: tokens see only what stands before them."""

    @property
    def feature(self) -> int:
        """Width of the pooled feature."""
        return self.vector or self.width


@dataclass(frozen=True)
class Pair:
    """The two models, the kind of task, and the modules that the terms of one objective share."""

    kind: Kind
    student: Side
    teacher: Side | None
    num_labels: int = 1
    class_weights: tuple[float, ...] = ()
    """How much a row of each class counts where labels are learnt from; () = all alike."""
    seed: int = 0
    same_tokens: bool = False
    """Whether both cut every text into the same tokens."""
    variances: Callable[[Sequence[int]], Mapping[int, Tensor]] | None = None
    """Teacher layers -> (D_t,) variance of each dimension of their hidden states over the training tokens."""
    modules: dict[str, tuple[str, Projection]] = field(default_factory=dict)

    @property
    def taught(self) -> Side:
        """The teacher, for a term that cannot do without."""
        if self.teacher is None:
            raise RecipeError("it asks a teacher, and here nobody teaches; leave it out, or choose another method.")
        return self.teacher

    @property
    def sizes(self) -> dict[str, int]:
        """Widths and seed, as projections ask for them."""
        return {"student_width": self.student.width, "teacher_width": self.taught.width, "seed": self.seed}

    def adaptor(self, term: str, kind: str, *, own: bool) -> Projection:
        """The map from the student's feature to the teacher's; one for all terms, unless they ask for their own."""
        from understudy.objective.projections import projection

        name = f"adaptor_{term}" if own else "adaptor"
        if name not in self.modules:
            sizes = {"student_width": self.student.feature, "teacher_width": self.taught.feature, "seed": self.seed}
            self.modules[name] = kind, projection(name, kind, **sizes)
        made, module = self.modules[name]
        if made != kind:
            raise RecipeError(f"its adaptor is {kind}, but it shares one that is {made}; give both one, or own_adaptor: true.")
        return module


ANSWERS = Side(width=0, layers=0, states=False)
"""A teacher that is known by its answers alone."""


def side_of(net: Any, *, outputs: bool = True, head: bool = True) -> Side:
    """A network as one side of a pair.

    Args:
        outputs: whether it answers the task; a bare encoder of plain text does not.
        head: whether its last Linear is at hand.
    """
    from understudy.models.anatomy import anatomy
    from understudy.models.restructure import num_units, schedule_of

    row = anatomy(net)

    def attention() -> list[tuple[int, int]]:
        heads, width = num_units(net)[0], row.head_dim(net)
        return [(heads[i], heads[i] * width) for i, _ in schedule_of(net)]

    def last() -> tuple[Tensor, Tensor | None]:
        linear = row.final_linear(net)
        return linear.weight, linear.bias

    vector = net.head.width if getattr(net.config, "sentence", None) else None
    head = head and outputs and vector is None
    return Side(row.width(net), row.num_layers(net), attention, outputs, last if head else None, vector=vector,
                causal=row.causal)  # fmt: skip
