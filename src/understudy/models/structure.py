"""The record of what a student's network is when it is not a stock one, and its form in JSON.

Physical layers are those that hold weights; virtual layers are their uses. Without a schedule the two are the same, except
in ALBERT, whose stock class uses its one layer many times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from understudy.base.errors import DataError, RecipeError

Units = tuple[tuple[int, ...], ...]
Schedule = tuple[tuple[int, bool], ...]


@dataclass(frozen=True)
class Structure:
    """The units that were kept, and the order of the layers.

    Raises RecipeError where the parts contradict each other.
    """

    heads: Units | None = None
    """Kept heads of each physical layer, numbered as in the uncut model, in the order of the narrow tensors; None: all."""
    neurons: Units | None = None
    """Kept FFN neurons, likewise."""
    schedule: Schedule | None = None
    """Virtual layers as (physical layer, query and key exchanged); None: each layer once. A layer's first use comes after
    those of the layers before it, and is not exchanged: that is how physical layers are numbered."""
    own_norms: bool = False
    """Each later use of a layer has norms of its own instead of sharing those of the first."""
    embedding_rank: int | None = None
    """Word embeddings are a product of two thin matrices (lowrank.py); None: one table."""

    def __post_init__(self) -> None:
        for name, units in (("heads", self.heads), ("neurons", self.neurons)):
            for layer, kept in enumerate(units or ()):
                if len(set(kept)) != len(kept) or min(kept, default=0) < 0:
                    raise RecipeError(f"{name} of layer {layer}: {list(kept)} must be different numbers from 0.")
        if self.heads is not None and self.neurons is not None and len(self.heads) != len(self.neurons):
            raise RecipeError(
                f"heads are given for {len(self.heads)} layers, neurons for {len(self.neurons)}; give both for all."
            )
        seen = 0
        for use, (layer, exchanged) in enumerate(self.schedule or ()):
            if layer == seen and not exchanged:
                seen += 1
            elif not 0 <= layer < seen:
                raise RecipeError(
                    f"schedule entry {use}, {[layer, exchanged]}: the first uses of layers must come in the order 0, 1, "
                    f"2, … and without exchange, so [{seen}, false] has to stand before it."
                )
        if self.schedule is not None and not self.schedule:
            raise RecipeError("schedule: name at least one layer.")

    @property
    def num_physical(self) -> int | None:
        """Layers that hold weights, as far as the schedule tells."""
        return None if self.schedule is None else 1 + max(layer for layer, _ in self.schedule)

    def first_uses(self) -> list[int]:
        """The virtual layer in which each physical layer is used first. Needs a schedule."""
        order = [layer for layer, _ in self.schedule or ()]
        return [order.index(layer) for layer in range(self.num_physical or 0)]

    def to_json(self) -> dict[str, Any]:
        """Lists and plain values; what is at its default is left out."""
        return {name: _lists(value) for name, value in asdict(self).items() if value not in (None, False)}

    @classmethod
    def from_json(cls, content: Any, *, where: str = "structure") -> Structure:
        """The inverse of `to_json`. Raises DataError, naming the file or key `where`, for anything else."""
        known = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or not set(content) <= known:
            raise DataError(f"{where} must be an object with the keys {', '.join(sorted(known))} only.")
        given = {name: value for name, value in content.items() if value is not None}
        for name, value in given.items():
            good, form = _FORMS[name]
            if not good(value):
                raise DataError(f"{where}: {name} must be {form}.")
        try:
            return cls(**{name: _tuples(value) for name, value in given.items()})
        except RecipeError as error:
            raise DataError(f"{where}: {error}") from None


def structure_of(net: Any) -> Structure | None:
    """How a network differs from its stock class; None where it does not."""
    content = getattr(net.config, "understudy", None)
    return None if content is None else Structure.from_json(content, where="config.understudy")


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _units(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(kept, list) and all(map(_whole, kept)) for kept in value)


def _uses(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(use, list) and len(use) == 2 and _whole(use[0]) and isinstance(use[1], bool) for use in value
    )


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "heads": (_units, "a list of whole numbers for each layer"),
    "neurons": (_units, "a list of whole numbers for each layer"),
    "schedule": (_uses, "a list of [layer, exchanged], as in [[0, false], [0, true]]"),
    "embedding_rank": (lambda value: _whole(value) and value > 0, "a whole number from 1"),
    "own_norms": (lambda value: isinstance(value, bool), "true or false"),
}
"""What each key holds in JSON: how it is checked, and in words."""
