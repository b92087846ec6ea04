"""Does an export say what the student says? Real rows, padded into batches, through both.

Shapes: B rows, L padded length, C outputs. A `Call` takes input_ids, attention_mask and perhaps token_type_ids, all
(B, L) int64, and returns logits (B, C); (B, L, C) for tokens and text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from understudy.base.errors import DataError, UnderstudyError, VerifyError
from understudy.base.progress import say
from understudy.data.demo_sets import load_demo
from understudy.data.encode import Encoded, encode
from understudy.data.tasks import data_of
from understudy.data.types import Task
from understudy.kinds import Kind, kind
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.recipe.settings import Recipe

Call = Callable[[dict[str, np.ndarray]], np.ndarray]

TOLERANCE = 1e-4
"""Largest difference of a logit, for each unit of the largest logit: fp32 in another order of summation stays below
1e-6 in shallow models, and a wrong weight is far above."""
MOST_ROWS = 1000  # of each split, for the agreement of int8: enough for a share to within a percent or two
_COMPARED = 64
_BATCH = 8


@dataclass(frozen=True)
class Rows:
    """Encoded rows to compare on: split -> rows. `what` names them in messages and in structure.json."""

    what: str
    parts: dict[str, Encoded] = field(default_factory=dict)


def rows_of(recipe: Recipe, model: Model) -> Rows:
    """Selection and test rows of a recipe's task, as the student reads them; the built-in texts where they are gone."""
    try:
        data = data_of(recipe)
    except UnderstudyError as error:
        say(f"The rows of the task cannot be read ({error}) The built-in texts are used for the comparison.")
        return built_in_rows(model)
    length = recipe.student.max_length or recipe.task.max_length
    task = replace(data.task, windows=None)  # a graph answers for one window
    parts = {"select": data.select, **data.tests}
    encoded = {
        name: encode(examples[:MOST_ROWS], model.tokenizer, task, max_length=length)
        for name, examples in parts.items()
        if examples
    }
    return Rows(data.task.name, encoded)


def built_in_rows(model: Model) -> Rows:
    """The built-in help desk: sentences in words for heads on tokens, pairs of sentences for all others."""
    by_word = model.kind.by_word
    name = "demo/entities" if by_word else "demo/paraphrase"
    examples = [replace(example, label=None) for example in load_demo(name).train]
    length = min(128, anatomy(model.net).max_tokens(model.net))
    task = Task(name, kind("tokens" if by_word else "text"), pair=not by_word)
    return Rows(f"the built-in texts {name}", {name: encode(examples, model.tokenizer, task, max_length=length)})


def takes_types(model: Model) -> bool:
    """Whether token type ids are an input that matters: the model knows several, and the tokenizer gives them."""
    return anatomy(model.net).uses_token_types(model.net) and "token_type_ids" in model.tokenizer.model_input_names


def pad_id(model: Model) -> int:
    """The padding id: the model's own, because RoBERTa derives positions from it."""
    known = model.net.config.pad_token_id
    return int(known if known is not None else model.tokenizer.pad_token_id or 0)


def batches(model: Model, encoded: Encoded, *, limit: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `limit` rows: one alone, which needs no padding, then eight at a time, which do."""
    number = min(limit, len(encoded))
    starts = [0, *range(1, number, _BATCH)]
    for start, end in zip(starts, [*starts[1:], number], strict=True):
        yield _padded(encoded, range(start, end), pad=pad_id(model), types=takes_types(model))


def _padded(encoded: Encoded, rows: range, *, pad: int, types: bool) -> dict[str, np.ndarray]:
    shape = (len(rows), int(encoded.lengths[list(rows)].max()))
    ids, mask, kinds = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        inside = slice(encoded.offsets[row], encoded.offsets[row + 1])
        length = encoded.lengths[row]
        ids[place, :length], mask[place, :length] = encoded.input_ids[inside], 1
        if encoded.token_type_ids is not None:
            kinds[place, :length] = encoded.token_type_ids[inside]
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | {"token_type_ids": kinds} if types else inputs


def torch_call(net: Any) -> Call:
    """The stock forward of a network, without gradients and dropout."""
    import torch

    net.eval()

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            out = net(**{name: torch.from_numpy(value) for name, value in inputs.items()}, return_dict=True)
        return out[0].float().numpy()

    return run


def require_equal(model: Model, student: Call, exported: Call, rows: Rows, *, form: str) -> dict[str, Any]:
    """Compare logits at every real token (or row) of up to 64 real rows.

    Returns:
        {"on", "rows", "max_abs_difference", "largest_logit"} for structure.json.

    Raises:
        VerifyError: the largest difference is above `TOLERANCE`, or not a number.
    """
    some = next((encoded for encoded in rows.parts.values() if len(encoded)), None)
    if some is None:
        raise DataError(f"{rows.what} has no rows to compare an export on; name a recipe with some by --recipe.")
    number = 0
    distances, sizes = [0.0], [0.0]
    for inputs in batches(model, some, limit=_COMPARED):
        wanted, given = (_real(call(inputs), inputs, model.kind) for call in (student, exported))
        if wanted.shape != given.shape:
            raise VerifyError(
                f"The {form} export has outputs of shape {given.shape}, the student {wanted.shape}; nothing was written."
            )
        apart = np.abs(wanted.astype(np.float64) - given.astype(np.float64))
        distances.append(float(apart.max(initial=0.0)))
        sizes.append(float(np.abs(wanted).max()))
        number += len(inputs["input_ids"])
    worst, largest = float(np.max(distances)), float(np.max(sizes))  # unlike max(), np.max propagates NaN
    if not worst <= TOLERANCE * max(1.0, largest):
        raise VerifyError(
            f"The {form} export differs from the student by {worst:.3g} on {rows.what} (largest output {largest:.3g}, "
            f"allowed {TOLERANCE * max(1.0, largest):.1g}). Nothing was written; choose another --to, and report this."
        )
    return {"on": rows.what, "rows": number, "max_abs_difference": worst, "largest_logit": largest}


def agreement(model: Model, student: Call, other: Call, rows: Rows) -> dict[str, dict[str, Any]]:
    """How often an inexact export decides as the student does.

    Returns:
        split -> {"rows", "same" (share of rows, or of tokens, with the same decision; None for numbers and hidden
        states, which decide nothing), "mean_abs_difference"}
    """
    return {name: _agreement(model, student, other, encoded) for name, encoded in rows.parts.items()}


def _agreement(model: Model, student: Call, other: Call, encoded: Encoded) -> dict[str, Any]:
    same: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    for inputs in batches(model, encoded, limit=MOST_ROWS):
        wanted, given = (_real(call(inputs), inputs, model.kind) for call in (student, other))
        distances.append(np.abs(wanted - given).reshape(len(wanted), -1).mean(axis=1))
        if decides(model) and (alike := model.kind.same(wanted, given)) is not None:
            same.append(alike)
    return {
        "rows": min(MOST_ROWS, len(encoded)),
        "same": float(np.concatenate(same).mean()) if same else None,
        "mean_abs_difference": float(np.concatenate(distances).mean()),
    }


def decides(model: Model) -> bool:
    """False for a backbone without a head, whose outputs are hidden states."""
    return model.net.base_model is not model.net


def _real(outputs: np.ndarray, inputs: Mapping[str, np.ndarray], kind: Kind) -> np.ndarray:
    """Outputs without those of padding: (rows, C), or (tokens, C)."""
    return outputs[inputs["attention_mask"] == 1] if kind.per_token or kind.pooled else outputs


