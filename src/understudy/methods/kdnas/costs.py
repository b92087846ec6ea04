"""What an architecture costs before anything is trained: parameters and operations, from networks without weights.

Both are straight lines in the depth once the widths are given, and the number of heads and the activation do not enter
them; so two depths for each pair of widths tell all points of a space. A shared layer (ALBERT) makes the line of the
parameters flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from understudy.evaluate.measure import flops_without_weights, num_parameters
from understudy.methods.kdnas.space import Architecture, Space, as_config, build_space

if TYPE_CHECKING:
    from understudy.methods.kdnas.settings import SpaceSettings
    from understudy.models.model import Model


class Costs:
    """Parameters and operations of students of a teacher's family, with the teacher's vocabulary and head.

    Args:
        teacher: gives family, vocabulary and head; not changed.
        length: tokens of the one row whose operations are counted.
    """

    def __init__(self, teacher: Model, *, length: int = 128) -> None:
        self.teacher, self.length = teacher, length
        self._measured: dict[tuple[int, int, int], tuple[int, int]] = {}

    def parameters(self, architecture: Architecture) -> int:
        """All parameters, each counted once."""
        return self._line(architecture)[0]

    def flops(self, architecture: Architecture) -> int:
        """Operations of a forward pass over one row, two per multiply-add (see `evaluate.measure.flops`)."""
        return self._line(architecture)[1]

    def _line(self, one: Architecture) -> tuple[int, int]:
        first, second = (self._measure(one.hidden, one.intermediate, layers) for layers in (2, 4))
        return (
            first[0] + (second[0] - first[0]) * (one.layers - 2) // 2,
            first[1] + (second[1] - first[1]) * (one.layers - 2) // 2,
        )

    def _measure(self, hidden: int, intermediate: int, layers: int) -> tuple[int, int]:
        key = (hidden, intermediate, layers)
        if key not in self._measured:
            net = self._empty(Architecture(layers, 1, hidden, intermediate, "gelu"))
            self._measured[key] = (num_parameters(net), flops_without_weights(net, length=self.length))
        return self._measured[key]

    def _empty(self, one: Architecture) -> Any:
        import torch

        from understudy.base.seeds import torch_seed
        from understudy.models.anatomy import anatomy
        from understudy.students.fresh import resized

        # DeBERTa reads tensor values in its forward (relative positions), so its two depths are built with weights.
        where = "cpu" if anatomy(self.teacher.net).family == "deberta-v2" else "meta"
        with torch.device(where), torch_seed(0, "costs"):
            return type(self.teacher.net)(resized(self.teacher, as_config(one, self.teacher.net.config)))


def space_below(teacher: Model, settings: SpaceSettings, *, length: int) -> tuple[Space, Costs]:
    """The students that may be found below a teacher, which needs no weights for this, and what they cost.

    Raises:
        RecipeError: there are none (see `build_space`).
    """
    costs = Costs(teacher, length=length)
    config = teacher.net.config.to_dict()
    return build_space(config, settings, parameters=costs.parameters, flops=costs.flops), costs
