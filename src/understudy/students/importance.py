"""How much each head and each neuron matters: the slope of the loss when it is faded out (Michel et al., 1905.10650).

A mask of ones multiplies the context of each head just before attention's output projection, and each neuron after the
nonlinearity (after the gate, where there is one) just before the second matrix of the feed-forward block. The score of
a unit is |dL/dmask| at 1. The masks are hooks on stock layers, so every family of `models.anatomy` has them.

Every example of a batch has a mask of its own: one backward pass then gives the slopes of all examples at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from understudy.base.errors import DataError, RecipeError
from understudy.data.batches import evaluation_batches
from understudy.data.encode import IGNORE, Batch, Encoded, collate
from understudy.kinds import Kind
from understudy.models.anatomy import Net, anatomy
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.models.restructure import num_units, physical_layers
from understudy.models.signals import forward
from understudy.models.structure import structure_of
from understudy.students.allocation import Scores

Granularity = Literal["example", "batch"]


def importance(
    model: Model,
    data: Encoded,
    *,
    granularity: Granularity = "example",
    batch_size: int = 32,
    max_tokens: int = 8192,
) -> Scores:
    """First-order scores of all heads and neurons on labelled rows, in eval mode and fp32.

    Args:
        model: with a trained head; left as it was.
        data: the rows in the model's own tokens, with labels.
        granularity: example = the sum over examples of the absolute slope of each one's own loss, which does not depend
            on how rows are put into batches; batch = the sum over consecutive batches of the absolute slope of the
            batch's mean loss, as MiniDisc released it, in which examples of opposite slope cancel out.
        batch_size: rows per batch for granularity batch.
        max_tokens: of one forward pass for granularity example; a matter of memory only.

    Returns:
        Scores: per physical layer, (H,) and (F,), float64.

    Raises:
        DataError: rows without labels.
        RecipeError: a model without outputs, or one that was pruned already.
    """
    _require_loss(model, data)
    structure = structure_of(model.net)
    if structure is not None and (structure.heads is not None or structure.neurons is not None):
        raise RecipeError(
            f"'{model.source}' was pruned already. What goes next was decided when the first units went: take the scores of "
            "the model it was pruned from, and a higher student.sparsity."
        )
    net, device = model.net, next(model.net.parameters()).device
    was_training = net.training
    net.eval()
    num_heads, num_neurons = num_units(net)
    totals = [np.zeros(number) for number in (*num_heads, *num_neurons)]
    if granularity == "example":
        batches = evaluation_batches(data.lengths, max_tokens=max_tokens)
    else:
        batches = [np.arange(start, min(start + batch_size, len(data))) for start in range(0, len(data), batch_size)]
    try:
        for rows in batches:
            slopes = _slopes(model, collate(data, rows).to(device), per_example=granularity == "example")
            for total, slope_BU in zip(totals, slopes, strict=True):
                # Over thousands of rows fp32 would lose the slopes of units that matter little: the ones to be told apart.
                slope_BU = slope_BU.double()
                gathered = slope_BU.abs().sum(0) if granularity == "example" else slope_BU.sum(0).abs()
                total += gathered.cpu().numpy()
    finally:
        net.train(was_training)
    return Scores(heads=tuple(totals[: len(num_heads)]), neurons=tuple(totals[len(num_heads) :]))


def _require_loss(model: Model, data: Encoded) -> None:
    if model.bare:
        raise RecipeError(f"'{model.source}' has no outputs and so no loss to measure importance by; give one with a head.")
    if model.kind.pooled:
        raise RecipeError(
            f"'{model.source}' gives vectors, and importance is measured by a loss on labels. Keep some of its layers "
            "(student.keep, student.num_layers), or give a smaller checkpoint (student.model)."
        )
    if data.labels is None:
        raise DataError("Importance is measured by the loss on labelled rows, and these have no labels; label them first.")


def channel_importance(model: Model, data: Encoded, *, max_tokens: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """First-order scores of the channels that layers pass on, and of the inputs of the head's last Linear: (D,) each, float64.

    As `importance` for each example by itself: the sum of the absolute slopes of its loss when a channel is faded out wherever
    a norm, or the embeddings, write it.

    Raises:
        DataError, RecipeError: as `importance`.
    """
    _require_loss(model, data)
    net, device = model.net, next(model.net.parameters()).device
    row, was_training = anatomy(net), net.training
    pools = not model.kind.on_vocabulary  # there the head goes with the embeddings, and has no inputs of its own
    widths = row.width(net), row.final_linear(net).in_features if pools else row.width(net)
    totals = [np.zeros(width) for width in widths]
    net.eval()
    try:
        for rows in evaluation_batches(data.lengths, max_tokens=max_tokens):
            batch = collate(data, rows).to(device)
            masks = [torch.ones(len(batch), width, device=device, requires_grad=True) for width in widths]
            with torch.enable_grad(), _faded(net, batch, *masks, pools=pools):
                signals = forward(net, batch, Needs(logits=True), kind=model.kind)
                assert signals.logits is not None and batch.labels is not None
                loss = _loss(model.kind, signals.logits, batch, batch.labels, per_example=True)
                slopes = torch.autograd.grad(loss, masks, allow_unused=True, materialize_grads=True)
            for total, slope_BD in zip(totals, slopes, strict=True):
                total += slope_BD.double().abs().sum(0).cpu().numpy()
    finally:
        net.train(was_training)
    return totals[0], totals[1]


@contextmanager
def _faded(net: Net, batch: Batch, channels: Tensor, pooled: Tensor, *, pools: bool) -> Iterator[None]:
    """Hooks that multiply what norms and embeddings write, and what the head's last Linear reads, by masks (B, D)."""
    row = anatomy(net)
    example_T = torch.repeat_interleave(torch.arange(len(batch), device=batch.lengths.device), batch.lengths)

    def faded(mask_BD: Tensor, state: Tensor) -> Tensor:
        if state.shape[-1] != mask_BD.shape[1]:  # embeddings narrower than the width
            return state
        places = state.numel() // state.shape[-1]
        if places == len(batch):  # first tokens only
            return state * mask_BD.view_as(state)
        if places == len(example_T):  # packed
            return state * mask_BD.index_select(0, example_T).view_as(state)
        return state * mask_BD[:, None]  # padded, (B, L, D)

    def on_output(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return faded(channels, output)

    def on_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (faded(pooled, inputs[0]), *inputs[1:])

    norms = {id(norm): norm for layer in physical_layers(net) for norm in row.norms(layer)}
    hooks = [norm.register_forward_hook(on_output) for norm in norms.values()]
    hooks.append(row.embeddings(net).register_forward_hook(on_output))
    if pools:
        hooks.append(row.final_linear(net).register_forward_pre_hook(on_input))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _slopes(model: Model, batch: Batch, *, per_example: bool) -> tuple[Tensor, ...]:
    """dL/dmask at masks of one: (B, H) for each layer, then (B, F) for each layer."""
    net, rows, device = model.net, len(batch), batch.input_ids.device
    heads, neurons = ([torch.ones(rows, n, device=device, requires_grad=True) for n in each] for each in num_units(net))
    with torch.enable_grad(), _masked(net, batch, heads, neurons):
        signals = forward(net, batch, Needs(logits=True), kind=model.kind)
        assert signals.logits is not None and batch.labels is not None
        loss = _loss(model.kind, signals.logits, batch, batch.labels, per_example=per_example)
        # Masks that the loss does not reach (a layer without heads) have a slope of zero, not none.
        return torch.autograd.grad(loss, [*heads, *neurons], allow_unused=True, materialize_grads=True)


@contextmanager
def _masked(net: Net, batch: Batch, heads: list[Tensor], neurons: list[Tensor]) -> Iterator[None]:
    """Hooks that multiply by the masks, one row of a mask for each example of the batch."""
    row = anatomy(net)
    head_dim = row.head_dim(net)
    example_T = torch.repeat_interleave(torch.arange(len(batch), device=batch.lengths.device), batch.lengths)

    def multiply(mask_BU: Tensor, width: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            mask_BW = mask_BU.repeat_interleave(width, dim=1)
            if not row.packs:  # (B, L, W)
                spread = mask_BW[:, None]
            elif inputs[0].shape[1] == len(batch):  # (1, B, W): the last layer, first tokens only
                spread = mask_BW[None]
            else:  # (1, T, W)
                spread = mask_BW.index_select(0, example_T)[None]
            return (inputs[0] * spread, *inputs[1:])

        return hook

    hooks = []
    try:
        for layer, head_mask, neuron_mask in zip(physical_layers(net), heads, neurons, strict=True):
            hooks.append(row.out(layer).register_forward_pre_hook(multiply(head_mask, head_dim)))
            hooks.append(row.down(layer).register_forward_pre_hook(multiply(neuron_mask, 1)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _loss(kind: Kind, logits: Tensor, batch: Batch, labels: Tensor, *, per_example: bool) -> Tensor:
    """The task's own loss: the sum over examples of each one's mean, or the mean of the batch."""
    if kind.per_token:
        labelled = labels != IGNORE
        losses = kind.loss(logits, labels, reduction="none")
        if not per_example:
            return losses.sum() / max(1, len(losses))
        example = torch.repeat_interleave(torch.arange(len(batch), device=labels.device), batch.lengths)[labelled]
        labels_of = torch.bincount(example, minlength=len(batch))
        return (losses / labels_of[example]).sum()
    losses = kind.loss(logits, labels, reduction="none")
    return losses.sum() if per_example else losses.mean()
