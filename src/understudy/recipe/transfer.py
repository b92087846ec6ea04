"""How an adapter is rewritten for another model: which layers, which dimensions, found on which tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from understudy.recipe.types import Count, Flag, PositiveCount, Settings

_PARITY = {
    "layer_map": "skip", "average": "released", "maps": "shared", "probe": "released", "sample": "first",
    "token_match": "exact",
}  # fmt: skip


class TransferSettings(Settings):
    """How an adapter is moved from one model to another (mKD)."""

    parity: Flag = Field(
        default=False,
        description="as the released code: skip, one shared map, its average, its probe, the first rows, tokens by position",
    )
    layer_map: Literal["skip", "last", "avg"] | Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        default="skip", description="what each student layer gets: the first (skip) or the last of its group of teacher layers, "
        "their average (avg), or the teacher layer listed for it, counted from 0"
    )  # fmt: skip
    average: Literal["mean", "released"] = Field(
        default="mean", description="avg: mean = of all layers of a group, for lora of B A and by SVD; released = the "
        "original's, which leaves out the last layer of each group"
    )  # fmt: skip
    align: Literal["auto", "none", "lsa", "random"] = Field(
        default="auto", description="which dimension of the teacher becomes which of the student: lsa = best correlation, one to "
        "one; random = a control; none = the same numbers; auto = lsa where width, family or vocabulary differ"
    )  # fmt: skip
    maps: Literal["separate", "shared"] = Field(
        default="separate", description="separate = one map for what a module reads and one for what it writes; shared = the "
        "original's single map"
    )  # fmt: skip
    probe: Literal["own", "released"] = Field(
        default="own", description="lora: compare the models' own activations, or those of the original, in which every "
        "layer runs the last layer's query projection"
    )  # fmt: skip
    num_samples: PositiveCount = Field(default=1000, description="training rows to correlate on (the original's topk)")
    sample: Literal["random", "first"] = Field(default="random", description="which of them: drawn by the seed, or the first")
    token_match: Literal["offsets", "exact"] = Field(
        default="offsets", description="tokens of two tokenizers that belong together: same place in the text, or same position "
        "and same string"
    )  # fmt: skip
    transfer_head: Literal["never", "if_compatible"] = Field(
        default="never", description="start from the teacher's head as well, where labels, shape and space are the same"
    )

    @model_validator(mode="before")
    @classmethod
    def _original_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "topk" in data:
            data = {"num_samples": data["topk"], **{key: value for key, value in data.items() if key != "topk"}}
        return {**_PARITY, **data} if data.get("parity") is True else data


def transfer_settings(arguments: list[str]) -> TransferSettings:
    """From `key=value` arguments. Raises RecipeError for one that is not known or out of bounds."""
    from pydantic import ValidationError

    from understudy.base import yaml
    from understudy.base.errors import RecipeError
    from understudy.recipe.problems import Origin, explain

    given: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise RecipeError(f"command line: '{argument}': a setting is written key=value, as in layer_map=last.")
        given[key] = yaml.parse(value, f"command line: {key}").data
    try:
        return TransferSettings.model_validate(given)
    except ValidationError as error:
        raise RecipeError(explain(error, given, Origin("command line", {}, "command line", ()), TransferSettings)) from None
