"""`student.keep: best`: of all cuts of a model the one that says most nearly what the whole says, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from understudy.base.progress import say
from understudy.cache import autocast, content_digest
from understudy.data.batches import evaluation_batches
from understudy.data.encode import Encoded, collate
from understudy.lab.bench import Bench
from understudy.lab.fits import Source
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.models.signals import forward
from understudy.students.keep_layers import keep_layers, search_cuts
from understudy.train.devices import resolve_precision

ROWS = 256
"""Training rows, without their labels, on which cuts are compared."""
LEAST = 24
"""Cuts that are tried however few rows there are to train on: all those of six layers."""


def best_layers(lab: Bench, whole: Source, number: int) -> tuple[int, ...]:
    """The layers of a model to keep, chosen once; the table of cuts is in the report.

    A fine-tuned teacher's cuts are compared by their outputs, those of a model without a trained head by the states of its
    last layer. As many cuts are tried as an epoch of training pays for.
    """
    model, of = whole.model, anatomy(whole.model.net).num_layers(whole.model.net)
    by_outputs = not (model.fresh_head or model.bare or model.kind.on_vocabulary)
    encoded = lab.encoded(model, lab.sample(ROWS, "layers"), max_length=lab.recipe.student.max_length)[0]
    most = max(LEAST, of, 3 * len(lab.data.train) // len(encoded))  # forward and backward are three passes
    about = {"model": whole.digest, "number": number, "rows": content_digest(encoded), "most": most, "device": lab.device.type}

    def make() -> dict[str, Any]:
        model.net.to(lab.device)
        precision = resolve_precision(lab.recipe.train.precision, lab.device)
        says = answers(model, encoded, by_outputs=by_outputs, precision=precision)

        def score(layers: tuple[int, ...]) -> float:
            return agreement(answers(keep_layers(model, layers), encoded, by_outputs=by_outputs, precision=precision), says)

        tried = search_cuts(score, number, of, most=most)
        ranked = sorted(tried.items(), key=lambda one: (-one[1], one[0]))
        by = "outputs" if by_outputs else "states of the last layer"
        return {"of": of, "by": by, "rows": len(encoded), "cuts": [[list(layers), value] for layers, value in ranked]}

    kept = lab.keep(f"layers-{number}-of-{of}-{whole.digest[:6]}", about, make)
    say(sentence(kept))
    return tuple(kept["cuts"][0][0])


def sentence(kept: dict[str, Any]) -> str:
    """The choice in words."""
    (best, value), *others = kept["cuts"]
    text = f"student.keep: best took layers {', '.join(map(str, best))} of {kept['of']}: correlation of its {kept['by']} "
    text += f"with the whole model's {value:.3f} on {kept['rows']} rows"
    if not others:
        return f"{text}."
    return f"{text}, of {len(others) + 1} cuts; the next, {', '.join(map(str, others[0][0]))}: {others[0][1]:.3f}."


@torch.inference_mode()
def answers(model: Model, encoded: Encoded, *, by_outputs: bool, precision: str) -> Tensor:
    """What a model says about rows: logits (rows or tokens, C), or states of the last layer (tokens, D), in order of length."""
    net = model.net.eval()
    device = next(net.parameters()).device
    top = anatomy(net).num_layers(net)
    needs = Needs(logits=True) if by_outputs else Needs(hidden=(top,))
    found = []
    for rows in evaluation_batches(encoded.lengths, max_tokens=8192):
        with autocast(device, precision):
            said = forward(net, collate(encoded, rows).to(device), needs, kind=model.kind)
        values = said.logits if by_outputs else said.hidden[top]
        assert values is not None
        found.append(values.float().cpu())
    whole = torch.cat(found)
    if by_outputs and model.kind.distribution == "softmax":  # what is added to all logits of a row says nothing
        whole = whole - whole.mean(1, keepdim=True)
    return whole


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """The correlation of two (N, C) arrays over all their numbers, each column without its mean; in [-1, 1]."""
    one, other = (array.double() - array.double().mean(0) for array in (ours, theirs))
    return float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-30))
