"""The settings of an adapter, a small module beside frozen weights. `train: {only: adapter, adapter: pfeiffer}`.

Names and defaults of the bottleneck are AdapterHub's, so that its `adapter_config.json` can be read and written as it is;
the strings of its command lines (`pfeiffer[reduction_factor=8]`, `lora[r=8]`) are accepted.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from understudy.recipe.types import Count, Flag, Positive, PositiveCount, Settings, Share

Role = Literal["query", "key", "value", "qkv", "out", "up", "down"]
Layers = Annotated[tuple[Count, ...], Field(min_length=1)]

_PFEIFFER = {"mh_adapter": False, "output_adapter": True, "non_linearity": "relu", "original_ln_before": True}
_HOULSBY = {"mh_adapter": True, "output_adapter": True, "non_linearity": "swish", "original_ln_before": False}
_PARALLEL = {
    "mh_adapter": False, "output_adapter": True, "non_linearity": "relu", "original_ln_before": False,
    "is_parallel": True, "reduction_factor": 2.0, "scaling": 4.0, "init_weights": "mam_adapter",
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "pfeiffer": _PFEIFFER, "seq_bn": _PFEIFFER,
    "houlsby": _HOULSBY, "double_seq_bn": _HOULSBY,
    "parallel": _PARALLEL, "par_bn": _PARALLEL, "scaled_parallel": _PARALLEL,
}  # fmt: skip
"""Well-known bottlenecks (Pfeiffer et al. 2021, Houlsby et al. 2019, He et al. 2022), old and new."""


class BottleneckAdapter(Settings):
    """A bottleneck beside the residual stream: x + U f(D x), after the FFN, after attention, or both."""

    kind: Literal["bottleneck"] = Field(
        default="bottleneck",
        description="pfeiffer (= seq_bn), houlsby (= double_seq_bn) and parallel (= par_bn) stand for a bottleneck with "
        "the settings of those papers",
    )
    mh_adapter: Flag = Field(default=False, description="one after the attention block of each layer")
    output_adapter: Flag = Field(default=True, description="one after the feed-forward block of each layer")
    reduction_factor: Positive = Field(default=16.0, description="width of the model / width of the bottleneck")
    non_linearity: Literal["relu", "gelu", "gelu_new", "swish", "silu", "tanh", "sigmoid", "leakyrelu"] = Field(
        default="relu", description="f"
    )
    original_ln_before: Flag = Field(
        default=True, description="it reads the block's output behind the residual sum and its LayerNorm"
    )
    original_ln_after: Flag = Field(
        default=True, description="the block's residual sum and LayerNorm follow it (once more)"
    )
    ln_before: Flag = Field(default=False, description="a LayerNorm of its own at its input")
    ln_after: Flag = Field(default=False, description="a LayerNorm of its own at its output")
    residual_before_ln: Flag = Field(
        default=True, description="its residual connection starts before the original LayerNorm instead of after it"
    )
    adapter_residual_before_ln: Flag = Field(
        default=False, description="its residual connection ends before its own last LayerNorm instead of after it"
    )
    is_parallel: Flag = Field(default=False, description="it reads what the block reads, instead of what it writes")
    scaling: Positive = Field(default=1.0, description="factor on what it adds")
    leave_out: tuple[Count, ...] = Field(default=(), description="layers without one, counted from 0")
    dropout: Share = Field(default=0.0, description="dropout on what it adds, while training")
    init_weights: Literal["bert", "mam_adapter", "houlsby"] = Field(
        default="bert", description="bert: normal, 0.02; mam_adapter: adds nothing at first; houlsby: truncated normal, 0.01"
    )

    @model_validator(mode="after")
    def _somewhere(self) -> BottleneckAdapter:
        if not (self.mh_adapter or self.output_adapter):
            raise ValueError("an adapter stands somewhere: set mh_adapter or output_adapter.")
        return self


class LoraAdapter(Settings):
    """A low-rank change of chosen linear maps: W + (alpha / r) B A (Hu et al. 2022). Can be merged away."""

    kind: Literal["lora"] = Field(default="lora", description="lora")
    r: PositiveCount = Field(default=8, description="rank")
    alpha: Positive = Field(default=8.0, description="the change is multiplied by alpha / r")
    dropout: Share = Field(default=0.0, description="dropout on what A reads, while training")
    targets: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        default=("query", "value"),
        description="the linear maps of each layer: query, key, value, out (of attention), up, down (of the feed-forward "
        "block); qkv where a family computes the three in one",
    )
    layers: Layers | None = Field(default=None, description="layers, counted from 0; null = all")
    rslora: Flag = Field(default=False, description="multiply by alpha / sqrt(r) instead")

    @property
    def scaling(self) -> float:
        return self.alpha / (self.r**0.5 if self.rslora else self.r)


class Ia3Adapter(Settings):
    """A learned factor for each dimension of chosen linear maps (Liu et al. 2022). Can be merged away."""

    kind: Literal["ia3"] = Field(default="ia3", description="ia3")
    targets: tuple[Role, ...] = Field(default=("key", "value"), description="maps whose output is scaled")
    feedforward: tuple[Role, ...] = Field(default=("down",), description="maps whose input is scaled")
    layers: Layers | None = Field(default=None, description="layers, counted from 0; null = all")

    @model_validator(mode="after")
    def _somewhere(self) -> Ia3Adapter:
        if not self.targets and not self.feedforward:
            raise ValueError("an adapter stands somewhere: name targets or feedforward.")
        return self


AdapterSettings = BottleneckAdapter | LoraAdapter | Ia3Adapter
ADAPTERS: dict[str, type[AdapterSettings]] = {"bottleneck": BottleneckAdapter, "lora": LoraAdapter, "ia3": Ia3Adapter}


def written_out(value: Any) -> Any:
    """`pfeiffer[reduction_factor=8]`, `lora` or `{kind: houlsby, …}` as the settings of one of the three kinds.

    >>> written_out("lora[r=4]")
    {'kind': 'lora', 'r': 4}
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict):
        kind = value.get("kind", "bottleneck")
        if kind in PRESETS:
            value = {**PRESETS[kind], **value, "kind": "bottleneck"}
        elif kind not in ADAPTERS:
            from understudy.base.suggest import did_you_mean

            known = [*PRESETS, *ADAPTERS]
            raise ValueError(f"there is no adapter '{kind}'.{did_you_mean(str(kind), known)} There are {', '.join(known)}.")
        else:
            value = {"kind": kind, **value}
        unknown = sorted(set(value) - set(ADAPTERS[value["kind"]].model_fields))
        if unknown:
            hint = " The width is set by reduction_factor." if unknown == ["r"] else ""
            raise ValueError(f"{kind} has no setting {', '.join(unknown)}.{hint}")
    return value


def _parsed(text: str) -> dict[str, Any]:
    match = re.fullmatch(r"\s*(\w+)\s*(?:\[(.*)\])?\s*", text)
    if match is None:
        raise ValueError(f"'{text}' does not name an adapter; write pfeiffer[reduction_factor=8] or lora[r=8].")
    settings: dict[str, Any] = {"kind": match[1]}
    for part in filter(None, (piece.strip() for piece in re.split(r",(?![^\[]*\])", match[2] or ""))):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"'{part}' in '{text}': a setting is written key=value.")
        settings[key.strip()] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return [_value(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    words: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text.strip("\"'")


Adapter = Annotated[Annotated[AdapterSettings, Field(discriminator="kind")], BeforeValidator(written_out)]
"""A field that takes the settings of an adapter, or its name."""
