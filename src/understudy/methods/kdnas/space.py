"""The search space: every legal architecture, listed once, so that none is ever proposed that cannot be built.

An architecture is legal when its heads divide its width and nothing in it exceeds the teacher. By default the choices are
ratios of the teacher's configuration, snapped to multiples of the width of its heads: bert-base gives widths 384, 576 and
768, inner widths 768, 1024, 1536, 2048, 2304 and 3072. (The original's flooring gave inner widths of 1013 and 2027, and
half of its width and head pairs could not be built.) The original's fixed list is the preset `kdnas-paper`.

What a point costs before anything is trained, parameters and operations, is read off networks without weights (`Costs`).

The order of the list is fixed by the choices alone: the number of a point means the same architecture in every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.base.errors import RecipeError
from understudy.base.seeds import numpy_rng
from understudy.evaluate.measure import flops_without_weights, num_parameters
from understudy.methods.kdnas.settings import SpaceSettings

if TYPE_CHECKING:
    from understudy.models.model import Model

DIMENSIONS = ("layers", "heads", "hidden", "intermediate", "activation")

KDNAS_PAPER: dict[str, tuple[Any, ...]] = {
    "layers": (3, 4, 6, 10, 12),
    "heads": (2, 3, 4, 6, 12),
    "hidden": (384, 768),
    "intermediate": (384, 512, 576, 768, 1024, 1536, 2048, 3072),
    "activation": ("gelu", "relu", "silu"),
}
"""The 1,200 architectures of the released code, all of them legal below bert-base."""


@dataclass(frozen=True)
class Architecture:
    """One student: depth, heads, width, width inside the feed-forward blocks, activation."""

    layers: int
    heads: int
    hidden: int
    intermediate: int
    activation: str

    def __str__(self) -> str:
        return f"{self.layers} layers, {self.heads} heads, {self.hidden}/{self.intermediate}, {self.activation}"


def shape_of(config: Mapping[str, Any]) -> Architecture:
    """The teacher as a point of its own space, from its config.json under any family's names."""

    def read(*names: str) -> Any:
        for name in names:
            if config.get(name) is not None:
                return config[name]
        raise RecipeError(f"The teacher's config.json has no {names[0]}; its architecture cannot be searched.")

    return Architecture(
        layers=read("num_hidden_layers", "n_layers"),
        heads=read("num_attention_heads", "n_heads"),
        hidden=read("hidden_size", "dim"),
        intermediate=read("intermediate_size", "hidden_dim"),
        activation=str(read("hidden_act", "hidden_activation", "activation")),
    )


def as_config(architecture: Architecture, config: Any) -> dict[str, Any]:
    """The sizes under the names of `students.fresh` and of the family's configuration object."""
    activation = next(name for name in ("hidden_act", "hidden_activation", "activation") if hasattr(config, name))
    return {
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "hidden_size": architecture.hidden,
        "intermediate_size": architecture.intermediate,
        activation: architecture.activation,
    }


class Space:
    """The legal points of a product of choices. Iterating gives them in the order of their numbers.

    Attributes:
        choices: dimension -> its choices in rising order (activations as given), only those some legal point uses.
        points: the legal architectures; the number of a point is its place here.
        refused: reason -> how many combinations it ruled out; a combination counts for the first reason only.
    """

    def __init__(
        self,
        choices: Mapping[str, Sequence[Any]],
        *,
        teacher: Architecture | None = None,
        rules: Mapping[str, Callable[[Architecture], bool]] | None = None,
    ) -> None:
        """
        Args:
            teacher: nothing may exceed it; None for a space of its own.
            rules: name of a budget -> whether an architecture keeps it.

        Raises:
            RecipeError: no point is legal; the message says which rule refused how many.
        """
        self.refused: dict[str, int] = {}
        self.combinations = math.prod(len(choices[name]) for name in DIMENSIONS)
        points = []
        for values in product(*(_sorted(choices[name]) for name in DIMENSIONS)):
            architecture = Architecture(*values)
            reason = _illegal(architecture, teacher, rules or {})
            if reason is None:
                points.append(architecture)
            else:
                self.refused[reason] = self.refused.get(reason, 0) + 1
        if not points:
            why = ", ".join(f"{reason} ({count})" for reason, count in self.refused.items())
            raise RecipeError(
                f"method.space: none of {self.combinations} architectures is legal: {why}. Widen a budget or a list."
            )
        self.points: tuple[Architecture, ...] = tuple(points)
        used = {name: {getattr(point, name) for point in points} for name in DIMENSIONS}
        self.choices: dict[str, tuple[Any, ...]] = {
            name: tuple(value for value in _sorted(choices[name]) if value in used[name]) for name in DIMENSIONS
        }

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, number: int) -> Architecture:
        return self.points[number]

    @cached_property
    def _numbers(self) -> dict[Architecture, int]:
        return {point: number for number, point in enumerate(self.points)}

    def number(self, architecture: Architecture) -> int:
        """The number of a point; KeyError where it is not legal here."""
        return self._numbers[architecture]

    @cached_property
    def _codes(self) -> np.ndarray:
        """(points, dimensions): the codes of every point."""
        places = {name: {value: place for place, value in enumerate(values)} for name, values in self.choices.items()}
        return np.array([[places[name][getattr(point, name)] for name in DIMENSIONS] for point in self.points])

    def values(self, number: int) -> dict[str, Any]:
        """A point as a flat mapping, as samplers want it."""
        return asdict(self.points[number])

    def codes(self, number: int) -> tuple[int, ...]:
        """The place of each of a point's values among the choices of its dimension."""
        return tuple(self._codes[number].tolist())

    def draw(self, seed: int, *names: object, without: Collection[int] = ()) -> int:
        """A point drawn uniformly, not one of `without` unless all are."""
        free = [number for number in range(len(self)) if number not in without] or list(range(len(self)))
        return free[int(numpy_rng(seed, *names).integers(len(free)))]

    def nearest(self, values: Mapping[str, Any], seed: int, *names: object, without: Collection[int] = ()) -> int:
        """The legal point closest to any combination of sizes: itself where it is legal and not in `without`.

        The distance is the sum over dimensions of the difference of places, each divided by the number of places;
        activations have no order and differ by 1 or not at all. Ties are broken by the seed and names.
        """
        wanted = np.array([_place(values[name], self.choices[name]) for name in DIMENSIONS])
        apart = np.abs(self._codes - wanted) / np.array([max(1, len(self.choices[name]) - 1) for name in DIMENSIONS])
        apart[:, -1] = self._codes[:, -1] != wanted[-1]
        distances = apart.sum(axis=1).round(9)
        if len(without) < len(self):
            distances[list(without)] = np.inf
        closest = np.flatnonzero(distances == distances.min())
        return int(closest[numpy_rng(seed, *names).integers(len(closest))])

    def describe(self) -> str:
        """One sentence for people: how many points, out of what, and what was refused."""
        shown = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in self.choices.items())
        left_out = "".join(f", {count:,} {reason}" for reason, count in self.refused.items())
        return f"{len(self):,} architectures ({shown}) out of {self.combinations:,} combinations{left_out}."


def build_space(
    teacher: Mapping[str, Any],
    settings: SpaceSettings | None = None,
    *,
    parameters: Callable[[Architecture], int] | None = None,
    flops: Callable[[Architecture], int] | None = None,
) -> Space:
    """The legal space below a teacher.

    Args:
        teacher: its config.json.
        settings: ratios, lists, preset and budgets; None takes the defaults.
        parameters, flops: what an architecture costs, needed where the settings hold a budget for it.

    Raises:
        RecipeError: no legal point, or an explicit list with a value above the teacher.
    """
    settings = settings or SpaceSettings()
    shape = shape_of(teacher)
    choices = _choices(shape, settings)
    rules: dict[str, Callable[[Architecture], bool]] = {}
    for name, cost in (("max_parameters", parameters), ("max_flops", flops)):
        limit = getattr(settings, name)
        if limit is not None:
            if cost is None:
                raise ValueError(f"{name} needs the cost of an architecture")
            rules[f"above {name}"] = lambda one, cost=cost, limit=limit: cost(one) <= limit
    return Space(choices, teacher=shape, rules=rules)


def _choices(teacher: Architecture, settings: SpaceSettings) -> dict[str, Sequence[Any]]:
    if settings.preset == "kdnas-paper":
        listed: dict[str, Sequence[Any]] = {
            name: getattr(settings, name) or KDNAS_PAPER[name] for name in DIMENSIONS[:-1]
        }
        listed["activation"] = settings.activations or (teacher.activation,)
        return listed
    step = max(1, teacher.hidden // teacher.heads)
    found: dict[str, Sequence[Any]] = {
        "layers": settings.layers or snapped(teacher.layers, settings.depth_ratios, 1),
        "heads": settings.heads or snapped(teacher.heads, settings.depth_ratios, 1),
        "hidden": settings.hidden or snapped(teacher.hidden, settings.hidden_ratios, step),
        "intermediate": settings.intermediate or snapped(teacher.intermediate, settings.intermediate_ratios, step),
        "activation": settings.activations or (teacher.activation,),
    }
    for name in ("layers", "heads", "hidden", "intermediate"):
        above = [value for value in found[name] if value > getattr(teacher, name)]
        if above:
            raise RecipeError(
                f"method.space.{name}: {above[0]} is more than the teacher's {getattr(teacher, name)}; a student may not "
                "exceed its teacher."
            )
    return found


def snapped(whole: int, ratios: Sequence[float], step: int) -> tuple[int, ...]:
    """Ratios of a whole, rounded half up to multiples of a step, between one step and the whole.

    >>> snapped(3072, [0.25, 0.33, 0.5, 0.66, 0.75, 1.0], 64)
    (768, 1024, 1536, 2048, 2304, 3072)
    """
    values = {max(step, math.floor(whole * ratio / step + 0.5) * step) for ratio in ratios}
    return tuple(sorted({min(value, whole) for value in values}))


def _place(value: Any, choices: Sequence[Any]) -> int:
    """The place of a value, or of the choice closest to it."""
    return choices.index(value) if value in choices else min(range(len(choices)), key=lambda i: abs(choices[i] - value))


def _illegal(
    one: Architecture, teacher: Architecture | None, rules: Mapping[str, Callable[[Architecture], bool]]
) -> str | None:
    if one.hidden % one.heads:
        return "whose heads do not divide the width"
    if teacher is not None and any(getattr(one, name) > getattr(teacher, name) for name in DIMENSIONS[:-1]):
        return "above the teacher"
    return next((name for name, keeps in rules.items() if not keeps(one)), None)


def _sorted(values: Sequence[Any]) -> list[Any]:
    unique = list(dict.fromkeys(values))
    return unique if any(isinstance(value, str) for value in unique) else sorted(unique)


class Costs:
    """Parameters and operations of students of a teacher's family, with the teacher's vocabulary and head.

    Both are straight lines in the depth once the widths are given, and the number of heads and the activation do not enter
    them; so networks of two depths for each pair of widths, without weights, tell all points of a space. A shared layer (ALBERT)
    makes the line of the parameters flat.

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
