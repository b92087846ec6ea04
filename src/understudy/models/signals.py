"""One forward for every family: what a model says about a batch, without computing what nobody asked for.

Batches come packed, sequences one behind the other, and so do all signals per token: T is the number of real tokens, and
padding does not exist for the losses. Families whose layers can run on packed rows do; the others are padded inside and
packed again. The result equals the stock forward either way (tests/unit/models/test_signals.py).

Two things are left out where nothing needs them: layers above the last one asked for, and in the last layer everything
but the first token of each sequence.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from understudy.models.anatomy import Anatomy, Net, anatomy
from understudy.models.attention import attend, pad, pad_index
from understudy.models.needs import Needs, Signals

if TYPE_CHECKING:
    from understudy.data.encode import Batch

__all__ = ["Needs", "Signals", "forward"]

_ROWS = 128
"""What the number of packed rows is rounded up to where kernels are made for it."""


def forward(net: Net, batch: Batch, needs: Needs, *, kind: str) -> Signals:
    """Run a model on a packed batch.

    Args:
        net: a model with a head for `kind`, or any model when neither logits nor the head's input are needed.
        batch: input_ids (T,), token_type_ids (T,) or None, sizes, and for text its labels (T,).
        needs: what to return; hidden state 0 is the embeddings, i the output of layer i.
        kind: classification, regression and multilabel read the first token; tokens and text every token.

    Returns:
        Signals: logits (B, C); (T, C) for tokens; (M, V) at the M masked positions for text.
    """
    row = anatomy(net)
    num_layers = row.num_layers(net)
    per_token = kind in ("tokens", "text")
    uses_last = needs.logits or needs.feature is not None
    deepest = num_layers if uses_last else max((0, *needs.hidden, *needs.cls, *needs.qkv))
    whole_last = (
        per_token
        or needs.feature == "mean"
        or row.pools_mean(net)
        or not uses_last
        or num_layers in needs.hidden
        or num_layers in needs.qkv
    )
    trace = _Trace(batch.sizes, batch.input_ids.device)
    if row.packs:
        last = _packed(net, row, batch, needs, trace, deepest=deepest, whole_last=whole_last)
    else:
        last = _padded(net, row, batch, needs, trace)
        whole_last = True
    signals = Signals(sizes=batch.sizes, hidden=trace.hidden, cls=trace.cls, qkv=trace.qkv)
    if uses_last:
        _read_head(net, row, batch, needs, signals, last, whole=whole_last, per_token=per_token, kind=kind, trace=trace)
    return signals


class _Trace:
    """Collects the signals on the way up."""

    def __init__(self, sizes: list[int], device: torch.device) -> None:
        self.sizes, self.tokens = sizes, sum(sizes)
        self.first = torch.tensor([0, *accumulate(sizes[:-1])], device=device)
        self.hidden: dict[int, Tensor] = {}
        self.cls: dict[int, Tensor] = {}
        self.qkv: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def real(self, state: Tensor) -> Tensor:
        """Without the rows that only round their number up."""
        return state[: self.tokens]

    def keep(self, needs: Needs, index: int, state: Tensor) -> None:
        if index in needs.hidden:
            self.hidden[index] = self.real(state)
        if index in needs.cls:
            self.cls[index] = state[self.first]

    def mean(self, state: Tensor) -> Tensor:
        """(T, D) -> (B, D), the mean over the tokens of each sequence."""
        return torch.stack([part.mean(dim=0) for part in state.split(self.sizes)])


def _packed(
    net: Net, row: Anatomy, batch: Batch, needs: Needs, trace: _Trace, *, deepest: int, whole_last: bool
) -> Tensor:
    """Layer by layer on one flat row. Returns the last state: (T, D), or (B, D) where first tokens were enough."""
    device = batch.input_ids.device
    ids, types, sizes = _rounded(batch)
    positions = torch.cat([torch.arange(size) for size in sizes]).to(device) + row.position_start(net)
    state = row.embed(net, ids[None], positions[None], None if types is None else types[None])[0]
    trace.keep(needs, 0, state)
    layers = row.layers(net)
    head_dim = row.head_dim(net)
    for index, layer in enumerate(layers[:deepest], start=1):
        first_only = index == len(layers) and not whole_last
        queries = state[trace.first] if first_only else state
        to_q, to_k, to_v = row.qkv(layer)
        read = _cast(state)  # once, not by each projection
        asked = queries if read is state else read[trace.first] if first_only else read
        q, k, v = (
            project(rows).unflatten(-1, (project.out_features // head_dim, head_dim))
            for project, rows in ((to_q, asked), (to_k, read), (to_v, read))
        )
        if index in needs.qkv:
            trace.qkv[index] = trace.real(q), trace.real(k), trace.real(v)
        if first_only:
            k, v = trace.real(k), trace.real(v)
        context = attend(
            q,
            k,
            v,
            query_sizes=[1] * len(batch.sizes) if first_only else sizes,
            key_sizes=batch.sizes if first_only else sizes,
            dropout=row.dropout(layer),
        )
        assert row.finish is not None
        # Stock layers take (1, T, D); dropout, norms and Linears do not care, feed-forward chunking does.
        state = row.finish(layer, context[None], queries[None])[0]
        if first_only:
            if index in needs.cls:
                trace.cls[index] = state
        else:
            trace.keep(needs, index, state)
    return state if deepest == len(layers) and not whole_last else trace.real(state)


def _rounded(batch: Batch) -> tuple[Tensor, Tensor | None, list[int]]:
    """Tokens, types and sizes, with sequences of padding behind the last where the number of rows has to be a round one."""
    ids, types = batch.input_ids, batch.token_type_ids
    missing = -len(ids) % _ROWS
    if not missing or not _rounds(ids.device):
        return ids, types, batch.sizes
    longest = max(batch.sizes)  # further positions may not exist
    more = [longest] * (missing // longest) + ([missing % longest] if missing % longest else [])
    return _zeros_behind(ids, missing), None if types is None else _zeros_behind(types, missing), [*batch.sizes, *more]


def _rounds(device: torch.device) -> bool:
    """In half precision on a CPU oneDNN builds kernels for every number of rows it has not met lately, which takes longer
    than running them: a third of a step of a small student. So there are few such numbers."""
    return device.type == "cpu" and torch.is_autocast_enabled("cpu")


def _cast(state: Tensor) -> Tensor:
    """In the type that matrix products have here."""
    kind = state.device.type
    wanted = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else state.dtype
    return state if state.dtype == torch.float64 else state.to(wanted)


def _zeros_behind(ids: Tensor, count: int) -> Tensor:
    return torch.cat([ids, ids.new_zeros(count)])


def _padded(net: Net, row: Anatomy, batch: Batch, needs: Needs, trace: _Trace) -> Tensor:
    """The stock forward on a padded batch; signals are packed again. Returns the last state (T, D)."""
    sizes = batch.sizes
    rows = pad_index(sizes, batch.input_ids.device)
    num, longest = len(sizes), max(sizes)
    mask = pad(torch.ones_like(batch.input_ids), rows, num, longest)
    ids = pad(batch.input_ids, rows, num, longest).masked_fill(mask == 0, net.config.pad_token_id or 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if batch.token_type_ids is not None and row.uses_token_types(net):
        inputs["token_type_ids"] = pad(batch.token_type_ids, rows, num, longest)

    caught: dict[int, list[Tensor]] = {}
    running: tuple[Any, ...] = ()  # the projections of the layer that is running, and what they gave
    gave: list[Tensor] = []

    def enter(index: int) -> Any:
        def start(layer: Any, inputs: Any) -> None:
            nonlocal running, gave
            running, gave = row.qkv(layer), caught.setdefault(index, [])

        return start

    def catch(module: Any, inputs: Any, output: Tensor) -> None:
        if any(module is project for project in running):
            gave.append(output)

    layers = row.layers(net)
    # Layers may share projections (a schedule), so an output belongs to the layer that was entered last.
    projections = {id(module): module for index in needs.qkv for module in row.qkv(layers[index - 1])}
    hooks = [module.register_forward_hook(catch) for module in projections.values()]
    if hooks:
        hooks += [layer.register_forward_pre_hook(enter(index)) for index, layer in enumerate(layers, start=1)]
    try:
        wants_states = bool(needs.hidden or needs.cls)
        out = row.backbone(net)(**inputs, output_hidden_states=wants_states, return_dict=True)
    finally:
        for hook in hooks:
            hook.remove()

    def repack(state: Tensor) -> Tensor:
        return state.flatten(0, 1)[rows]

    if wants_states:
        for index, state in enumerate(out.hidden_states):
            if index in needs.hidden or index in needs.cls:
                trace.keep(needs, index, repack(state))
    for index in needs.qkv:
        # A relative attention may call its projections again (DeBERTa's for positions): the first calls are ours.
        per_module = len(row.qkv(layers[index - 1]))
        packed = [repack(output) for output in caught[index] if output.shape[:2] == (num, longest)][:per_module]
        trace.qkv[index] = row.heads(packed, row.head_dim(net))
    return repack(out.last_hidden_state)


def _read_head(
    net: Net,
    row: Anatomy,
    batch: Batch,
    needs: Needs,
    signals: Signals,
    last: Tensor,
    *,
    whole: bool,
    per_token: bool,
    kind: str,
    trace: _Trace,
) -> None:
    """Logits and feature from the last hidden state."""
    first = last[trace.first] if whole else last
    if needs.feature == "cls":
        signals.feature = first
    elif needs.feature == "mean":
        signals.feature = trace.mean(last)
    if not needs.logits and needs.feature != "head_input":
        return
    if kind == "text":
        assert batch.labels is not None
        signals.logits = row.fill(net, last[batch.labels != -100])
    elif per_token:
        _read_linear(net, row, needs, signals, row.tag_input(net, last))
    else:
        pooled = trace.mean(last) if row.pools_mean(net) else first
        _read_linear(net, row, needs, signals, row.pool(net, pooled[:, None]))


def _read_linear(net: Net, row: Anatomy, needs: Needs, signals: Signals, read: Tensor) -> None:
    """What goes into the head's last Linear, and what comes out, as far as they are asked for."""
    if needs.logits:
        signals.logits = row.final_linear(net)(read)
    if needs.feature == "head_input":
        signals.feature = read
