"""The settings of a pruned student: `student: {sparsity: 0.9, prune: {…}}`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from understudy.recipe.types import Count, Flag, Positive, PositiveCount, Settings


class BudgetSettings(Settings):
    """How large a pruned student may be, in place of `student.sparsity`: exactly one of these."""

    parameters: PositiveCount | None = Field(default=None, description="parameters, counted as `student.prune.count` says")
    flops: Positive | None = Field(
        default=None, description="operations of one forward pass of `evaluate.latency.batch_size` rows of `length` tokens"
    )
    latency_ms: Positive | None = Field(
        default=None, description="milliseconds of that forward pass, measured on this machine as the report measures it"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("parameters", "flops", "latency_ms") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of `parameters`, `flops` and `latency_ms`, not {' and '.join(given) or 'none'}.")
        return self


class PruneSettings(Settings):
    """How heads and FFN neurons are chosen: by the slope of the loss when they are faded out, ranked over all layers."""

    importance_rows: PositiveCount | None = Field(
        default=2048, description="rows of train that importance is measured on, drawn by the seed; null = all"
    )
    granularity: Literal["example", "batch"] | None = Field(
        default=None,
        description="example = sum the importance of each row by itself; batch = as released, of batches of 32; "
        "null = example, batch under parity",
    )
    count: Literal["encoder", "total"] = Field(
        default="encoder",
        description="what `student.sparsity` is a share of: encoder = of all heads and of all neurons (90 % gone is what papers "
        "call 90S); total = of all parameters, embeddings, which stay, included",
    )  # fmt: skip
    budget: BudgetSettings | None = Field(
        default=None, description="how large the student may be, in place of `student.sparsity`"
    )
    min_heads: Count = Field(default=0, description="heads that every layer keeps at least")
    min_neurons: Count = Field(default=0, description="neurons that every layer keeps at least")
    uniform: Flag = Field(
        default=False, description="take the same share of every layer, so that stock formats can hold more of the result"
    )
    multiple: PositiveCount = Field(
        default=8, description="neurons of a layer go in blocks of so many; the total is right to half a block"
    )
    parity: Flag | None = Field(
        default=None,
        description="as MiniDisc released it: importance from the rows that choose checkpoints, each layer's width rounded by "
        "itself, no bias of an empty block; null = what the method's own parity says (minidisc, maxidisc)",
    )
