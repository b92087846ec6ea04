"""What a transfer will do, before it does it: teacher layers for each student layer, and one rule for each tensor.

A dimension of a tensor belongs to a space: what the module reads (`in`), what it writes to (`out`), or neither (the width
of a bottleneck, the rank of LoRA), which moves as it is. With two maps per place (Klimaszewski et al. 2024 have one):

    bottleneck   down.weight (M, D): axis 1 in    up.weight (D, M), up.bias (D): axis 0 out    own norms: where they stand
    lora         A (r, in): axis 1 in             B (out, r): axis 0 out
    ia3          l: axis 0, out (in, on a feed-forward map)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from understudy.adapters.bottleneck import size_of
from understudy.base.errors import RecipeError
from understudy.mapping import chosen, groups, understood
from understudy.models.anatomy import PREFIX, anatomy_of
from understudy.recipe.adapter import AdapterSettings, BottleneckAdapter, LoraAdapter
from understudy.recipe.transfer import TransferSettings

Side = Literal["in", "out"]

_RULES: dict[str, tuple[int, Side]] = {
    "down.weight": (1, "in"), "up.weight": (0, "out"), "up.bias": (0, "out"),
    "norm_before.weight": (0, "in"), "norm_before.bias": (0, "in"),
    "norm_after.weight": (0, "out"), "norm_after.bias": (0, "out"),
    "A": (1, "in"), "B": (0, "out"),
}  # fmt: skip
_RELATED = ({"bert", "distilbert"}, {"roberta", "xlm-roberta"})
"""Families whose small models are made from the large ones' layers, so that they may share a space."""


@dataclass(frozen=True)
class Shape:
    """What of a model's configuration decides how an adapter is moved."""

    family: str
    layers: int
    width: int
    heads: int
    vocabulary: int


def shape_of(config: Any) -> Shape:
    """From a Hugging Face configuration; all names go through its attribute map."""
    anatomy_of(config.model_type)
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size)
    return Shape(config.model_type.removeprefix(PREFIX), *sizes)


@dataclass(frozen=True)
class Plan:
    """`sources[j]` are the teacher layers whose module student layer j gets (several: averaged)."""

    teacher: Shape
    student: Shape
    module: AdapterSettings
    """The settings of the module in the student."""
    sources: tuple[tuple[int, ...], ...]
    align: Literal["none", "lsa", "random"]
    settings: TransferSettings

    def rule(self, place: str, tensor: str) -> tuple[int, Side] | None:
        """(axis, side) of a tensor, or None where it moves as it is."""
        if tensor == "l":
            feedforward: tuple[str, ...] = getattr(self.module, "feedforward", ())
            return (0, "in" if place in feedforward else "out")
        return _RULES.get(tensor)

    def lines(self) -> list[str]:
        """The plan in words."""
        said = [
            f"from {_words(self.teacher)} to {_words(self.student)}; module: {_settings(self.module)}",
            {"none": "dimensions keep their numbers", "random": "dimensions: a random choice (control)",
             "lsa": f"dimensions: best correlation one to one, {self.settings.maps} maps"}[self.align],
        ]  # fmt: skip
        for layer, sources in enumerate(self.sources):
            what = f"layer {sources[0]}" if len(sources) == 1 else f"{self.settings.average} average of {list(sources)}"
            said.append(f"student layer {layer} <- teacher {what}")
        return said

    def rules(self) -> list[str]:
        """What becomes of each kind of tensor, in words."""
        if self.align == "none":
            return []
        words = {"in": "by what the module reads", "out": "by what it writes to", None: "as it is"}
        said = []
        for places, tensors in _tensors(self.module):
            of = f"{', '.join(places)}: " if places else ""
            for tensor in tensors:
                rule = self.rule(places[0] if places else "", tensor)
                axis = "" if rule is None else f" axis {rule[0]}"
                said.append(f"{of}{tensor}{axis} {words[rule and rule[1]]}")
        return said

    def as_dict(self) -> dict[str, Any]:
        """For the folder of the adapter: what was done can be read there."""
        return {
            "layer_map": [list(sources) for sources in self.sources], "align": self.align,
            "settings": self.settings.model_dump(mode="json"), "module": self.module.model_dump(mode="json"),
            "teacher": vars(self.teacher), "student": vars(self.student),
        }  # fmt: skip


def plan(teacher: Any, student: Any, module: AdapterSettings, settings: TransferSettings | None = None) -> Plan:
    """Decide everything that follows from the two configurations and the module's settings.

    Args:
        teacher, student: Hugging Face configurations.

    Raises:
        RecipeError: depths that are not multiples of each other, layers that do not exist, a student wider than its teacher,
            a module that does not stand in every layer.
    """
    settings = settings or TransferSettings()
    theirs, ours = shape_of(teacher), shape_of(student)
    if "albert" in (theirs.family, ours.family):
        raise RecipeError("ALBERT applies one layer, and with it one adapter, several times; it has no layers to choose from.")
    align = settings.align
    if align == "auto":
        align = "none" if _same_space(theirs, ours) else "lsa"
    if align == "none" and theirs.width != ours.width:
        raise RecipeError(
            f"method.align: none needs equal widths, but the teacher's is {theirs.width} and the student's {ours.width}; use lsa."
        )
    if ours.width > theirs.width:
        raise RecipeError(
            f"The student is wider ({ours.width}) than the teacher ({theirs.width}): every student dimension needs a teacher "
            "dimension of its own. Swap the models, or choose a wider teacher."
        )
    partial = module.leave_out if isinstance(module, BottleneckAdapter) else module.layers
    if partial:
        raise RecipeError("Only an adapter that stands in every layer can be moved; this one leaves layers out.")
    if isinstance(module, BottleneckAdapter):
        size = size_of(theirs.width, module.reduction_factor)
        module = module.model_copy(update={"reduction_factor": _factor(ours.width, size)})
    return Plan(theirs, ours, module, layer_sources(settings.layer_map, theirs.layers, ours.layers), align, settings)


def layer_sources(layer_map: str | tuple[int, ...], teacher: int, student: int) -> tuple[tuple[int, ...], ...]:
    """The teacher layers (from 0) of each student layer.

    >>> layer_sources("skip", 6, 3), layer_sources("avg", 4, 2)
    (((0,), (2,), (4,)), ((0, 1), (2, 3)))
    """
    if not isinstance(layer_map, str):
        if len(layer_map) != student or max(layer_map) >= teacher:
            raise RecipeError(
                f"method.layer_map: {list(layer_map)} must name one teacher layer, from 0 to {teacher - 1}, for each of the "
                f"{student} student layers."
            )
        return tuple((layer,) for layer in layer_map)
    try:
        found = groups(student, teacher)
    except RecipeError as error:
        raise RecipeError(f"method.layer_map: '{layer_map}': {error}") from None
    rule = understood(layer_map, "transfer")
    return found if rule == "avg" else tuple((layer,) for layer in chosen(rule, student, teacher))


def _tensors(module: AdapterSettings) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The kinds of tensors of a module, with the places they are named apart for."""
    if isinstance(module, LoraAdapter):
        return [((), ("A", "B"))]
    if isinstance(module, BottleneckAdapter):
        norms = [name for name, there in (("norm_before", module.ln_before), ("norm_after", module.ln_after)) if there]
        return [((), tuple(f"{part}.{what}" for part in ("down", "up", *norms) for what in ("weight", "bias")))]
    outputs = tuple(role for role in module.targets if role not in module.feedforward)
    return [(places, ("l",)) for places in (outputs, module.feedforward) if places]


def _same_space(one: Shape, other: Shape) -> bool:
    related = one.family == other.family or any({one.family, other.family} <= group for group in _RELATED)
    return related and one.width == other.width and one.vocabulary == other.vocabulary


def _factor(width: int, size: int) -> float:
    """The reduction factor that gives a bottleneck of this size; division alone may round to one less."""
    factor = width / size
    while size_of(width, factor) < size:
        factor *= 1 - 1e-12
    return factor


def _words(shape: Shape) -> str:
    return f"{shape.family} ({shape.layers} layers, {shape.width} wide)"


def _settings(module: AdapterSettings) -> str:
    if isinstance(module, BottleneckAdapter):
        return f"bottleneck[reduction_factor={module.reduction_factor:g}]"
    return f"lora[r={module.r}]" if isinstance(module, LoraAdapter) else "ia3"
