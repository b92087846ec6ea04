"""One forward for every family: what a model says about a batch, without computing what was not asked for.

It is the stock model's own. Batches come packed, sequences one behind the other in a single row, and attention keeps them apart
(attention.py); what does not take transformers' attention interface (DeBERTa) is padded inside and packed again. Hidden states
and projections are caught by hooks, the head is applied here. The result equals the stock padded forward either way
(tests/unit/models/test_signals.py).

Two things are left out where nothing needs them: layers above the last one asked for, and in the last layer everything
but the first token of each sequence.

Shapes: B sequences, T real tokens of all of them, D width, H heads of width d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from understudy import kinds
from understudy.base.errors import RecipeError
from understudy.kinds import Kind
from understudy.losses.chunked import Head
from understudy.models.anatomy import Anatomy, Layer, Net, anatomy
from understudy.models.attention import Packing, Rule, attend, packed, pad, pad_index
from understudy.models.needs import Needs, Signals

if TYPE_CHECKING:
    from understudy.data.encode import Batch

__all__ = ["Needs", "Signals", "forward"]

_ROWS = 128
"""What the number of packed rows is rounded up to where kernels are made for it."""


def forward(net: Net, batch: Batch, needs: Needs, *, kind: Kind | str) -> Signals:
    """Run a model on a packed batch.

    Args:
        net: a model with a head for `kind`, or any model when neither logits nor the head's input are needed.
        batch: input_ids (T,), token_type_ids (T,) or None, sizes, and for text its labels (T,).
        needs: what to return; hidden state 0 is the embeddings, i the output of layer i.
        kind: of task, or its name: whether the head reads one token of a sequence (the first, of a decoder the last) or all.

    Returns:
        Signals: logits (B, C); (T, C) for tokens; (M, V) at the M labelled positions where the outputs are the vocabulary.

    Raises RecipeError for a model that checkpoints its layers by transformers' own means.
    """
    if batch.windows is not None:
        if needs.qkv:
            raise RecipeError(
                "Relations are between the tokens of one input, and with task.windows a text is several: leave them out."
            )
        sizes = [size for row in batch.windows for size in row]
        return pooled(forward(net, replace(batch, sizes=sizes, windows=None), needs, kind=kind), batch)
    row = anatomy(net)
    layers = row.layers(net)
    kind = kinds.kind(kind)
    if row.packs and getattr(layers[0], "gradient_checkpointing", False):
        raise RecipeError(
            "gradient_checkpointing_enable() runs layers a second time without what keeps packed sequences apart. Call "
            "gradient_checkpointing_disable(), and set train.checkpoint_activations or use models.lighten.Light."
        )
    uses_head = needs.logits or needs.head or needs.feature is not None
    depth = len(layers) if uses_head else max((0, *needs.hidden, *needs.cls, *needs.qkv))
    first_only = (
        row.finish is not None
        and uses_head
        and not kind.per_token
        and needs.feature != "mean"
        and not (kind.pooled and not net.head.first_only)
        and not row.pools_mean(net)
        and len(layers) not in (*needs.hidden, *needs.qkv)
    )
    ends = [*accumulate(batch.sizes)]  # of a causal model, the last token is the only one that has seen the whole sequence
    first = torch.tensor([end - 1 for end in ends] if row.causal else [0, *ends[:-1]], device=batch.input_ids.device)
    signals = Signals(sizes=batch.sizes)

    def keep(index: int, state: Tensor) -> None:
        if index in needs.hidden:
            signals.hidden[index] = unpadded(state)
        if index in needs.cls:
            signals.cls[index] = unpadded(state)[first]

    inputs, unpadded = _packed(net, row, batch) if row.packs else _padded(net, row, batch)
    last, projections = _run(net, row, layers, inputs, stop=depth - first_only, qkv=needs.qkv, keep=keep)
    for index, outputs in projections.items():
        signals.qkv[index] = row.heads([unpadded(outputs[part]) for part in sorted(outputs)], row.head_dim(net))
    if first_only:
        state = _first_tokens(row, layers[-1], last.squeeze(0), first, batch.sizes)
        if len(layers) in needs.cls:
            signals.cls[len(layers)] = state
        _read_head(net, row, batch, needs, signals, state, state, kind=kind)
    elif uses_head:
        state = unpadded(last)
        _read_head(net, row, batch, needs, signals, state, state[first], kind=kind)
    return signals


def pooled(signals: Signals, batch: Batch) -> Signals:
    """What a model said about the windows of each text, as what it says about the text.

    Logits (W, C) -> (B, C): mean; max, output by output; or attention: Σ a_i z_i with a = softmax(z) over the windows, output by
    output, so that a window weighs as much as it is sure (exponential softmax pooling, Wang et al. 2019). Features and first
    tokens (W, D) -> (B, D) by their mean; hidden states of tokens stay.
    """
    assert batch.windows is not None
    counts = [len(row) for row in batch.windows]

    def each(values: Tensor, how: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.stack([how(part) for part in values.split(counts)])

    def logits(part: Tensor) -> Tensor:
        if batch.pool == "max":
            return part.max(dim=0).values
        return part.mean(dim=0) if batch.pool == "mean" else (part.softmax(dim=0) * part).sum(dim=0)

    def mean(part: Tensor) -> Tensor:
        return part.mean(dim=0)

    return replace(
        signals,
        sizes=batch.sizes,
        logits=None if signals.logits is None else each(signals.logits, logits),
        feature=None if signals.feature is None else each(signals.feature, mean),
        cls={layer: each(states, mean) for layer, states in signals.cls.items()},
    )


class _Enough(Exception):
    """Ends a stock forward before a layer that was not asked for."""


def _run(
    net: Net,
    row: Anatomy,
    layers: list[Layer],
    inputs: dict[str, Any],
    *,
    stop: int,
    qkv: tuple[int, ...],
    keep: Callable[[int, Tensor], None],
) -> tuple[Tensor, dict[int, dict[int, Tensor]]]:
    """The stock forward up to hidden state `stop`.

    A hidden state is caught where the next layer receives it, the last one where the model returns it, behind its final norm
    if it has one. Layers may be used several times and share their projections, so what a projection gives belongs to the
    layer that was entered last.

    Args:
        keep: told every hidden state on the way, by its number.

    Returns:
        state `stop`, and for each layer in `qkv` the output of each of its projections, by their order.
    """
    entered, last = 0, None
    caught: dict[int, dict[int, Tensor]] = {index: {} for index in qkv}
    inside: list[Any] = []  # hooks on the projections of the layer that is running
    read: Tensor | None = None
    as_cast: Tensor | None = None

    def catch(part: int) -> Callable[[Any, Any, Tensor], None]:
        def hook(module: Any, args: Any, output: Tensor) -> None:
            caught[entered].setdefault(part, output)  # a later call is not about the content: DeBERTa's positions

        return hook

    def cast_once(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal read, as_cast
        if read is not args[0]:
            read, as_cast = args[0], _cast(args[0])
        return as_cast, *args[1:]

    def leave() -> None:
        while inside:
            inside.pop().remove()

    def enter(layer: Layer, args: tuple[Any, ...]) -> None:
        nonlocal entered, last
        leave()
        keep(entered, args[0])
        if entered == stop:
            last = args[0]
            raise _Enough
        entered += 1
        projections = row.qkv(layer)
        # Left to autocast, three projections cast and keep their input three times. A layer that `Light` stands in for has to do
        # without: such a hook would be compiled with it, or be gone when it runs again.
        if len(projections) > 1 and "forward" not in vars(layer) and torch.is_autocast_enabled(args[0].device.type):
            inside.extend(module.register_forward_pre_hook(cast_once) for module in projections)
        if entered in caught:
            inside.extend(module.register_forward_hook(catch(part)) for part, module in enumerate(projections))

    hooks = [layer.register_forward_pre_hook(enter) for layer in {id(layer): layer for layer in layers}.values()]
    backbone = row.backbone(net)
    try:
        if row.packs:
            with packed(backbone.config):
                last = backbone(**inputs, return_dict=True).last_hidden_state
        else:
            last = backbone(**inputs, return_dict=True).last_hidden_state
        keep(entered, last)
    except _Enough:
        pass
    finally:
        leave()
        for hook in hooks:
            hook.remove()
    assert last is not None
    return last, caught


def _first_tokens(row: Anatomy, layer: Layer, state: Tensor, first: Tensor, sizes: list[int]) -> Tensor:
    """The last layer for the first token of each sequence alone: (T, D) -> (B, D). All other rows of its queries, its output
    projection and its feed-forward block would be thrown away; a student of few layers trains 1.2 times as fast."""
    assert row.finish is not None
    to_q, to_k, to_v = row.qkv(layer)
    read = _cast(state)  # once, not by each projection
    width = row.head_width(row.attention(layer))
    queries = state[first]
    q, k, v = (part.unflatten(-1, (part.shape[-1] // width, width)) for part in (to_q(queries), to_k(read), to_v(read)))
    rule = Rule(scale=width**-0.5, dropout=row.dropout(layer))
    context = attend(q, k[: sum(sizes)], v[: sum(sizes)], Packing(sizes, queries=[1] * len(sizes)), rule)
    # Stock modules take (1, B, D); dropout, norms and Linears do not care, feed-forward chunking does.
    return row.finish(layer, context.flatten(1)[None], queries[None]).squeeze(0)


def _packed(net: Net, row: Anatomy, batch: Batch) -> tuple[dict[str, Any], Callable[[Tensor], Tensor]]:
    """The inputs of the stock model, all sequences in one row, and how (1, T or more, …) becomes (T, …)."""
    ids, types, sizes = _rounded(batch)
    positions = torch.cat([torch.arange(size) for size in sizes]).to(ids.device) + row.position_start(net)
    inputs = {"input_ids": ids[None], "position_ids": positions[None], "packing": Packing(sizes)}
    if types is not None and row.uses_token_types(net):
        inputs["token_type_ids"] = types[None]
    if row.causal:  # with a cache, and by default even in training, transformers would take over the positions
        inputs["use_cache"] = False
    tokens = len(batch.input_ids)
    return inputs, lambda state: state.squeeze(0)[:tokens]


def _padded(net: Net, row: Anatomy, batch: Batch) -> tuple[dict[str, Any], Callable[[Tensor], Tensor]]:
    """The inputs of the stock model, one sequence in each row, and how (B, longest, …) becomes (T, …)."""
    rows = pad_index(batch.sizes, batch.input_ids.device)
    num, longest = len(batch.sizes), max(batch.sizes)
    mask = pad(torch.ones_like(batch.input_ids), rows, num, longest)
    ids = pad(batch.input_ids, rows, num, longest).masked_fill(mask == 0, net.config.pad_token_id or 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if batch.token_type_ids is not None and row.uses_token_types(net):
        inputs["token_type_ids"] = pad(batch.token_type_ids, rows, num, longest)
    return inputs, lambda state: state.flatten(0, 1)[rows]


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


def vocabulary_head(net: Net, hidden: Tensor | None = None) -> Head:
    """The head on the vocabulary with its input (N, D), none by default."""
    row = anatomy(net)
    linear = row.final_linear(net)
    return Head(linear.weight[:0] if hidden is None else hidden, linear.weight, linear.bias, softcap=row.softcap(net))


def _read_head(
    net: Net, row: Anatomy, batch: Batch, needs: Needs, signals: Signals, last: Tensor, first: Tensor, *, kind: Kind
) -> None:
    """Logits and feature from the last hidden state `last` (T, D), or just its first tokens, `first` (B, D); of a decoder the
    last tokens.

    The head is applied here and to nothing but the rows that are asked for; one over a vocabulary is handed on with its input
    (`Needs.head`), for a loss that takes them in chunks.
    """

    def mean() -> Tensor:
        return torch.stack([part.mean(dim=0) for part in last.split(batch.sizes)])

    if needs.feature == "cls":
        signals.feature = first
    elif needs.feature == "mean":
        signals.feature = mean()
    if not needs.logits and not needs.head and needs.feature != "head_input":
        return
    if kind.pooled:
        vectors = net.head(last, [1] * len(last) if last is first else batch.sizes, batch.left_out)
        signals.logits = vectors if needs.logits else None
        signals.feature = vectors if needs.feature == "head_input" else signals.feature
        return
    if kind.spans:  # of its candidates alone, which the labels mark
        assert batch.labels is not None
        asked = last[batch.labels != -100]
        dropped = hasattr(net, "dropout") or hasattr(net, "drop")  # most of these heads read the last layer as it is
        signals.logits = row.final_linear(net)(row.tag_input(net, asked) if dropped else asked)
        return
    if kind.on_vocabulary:
        assert batch.labels is not None
        read = last[batch.labels != -100]
        if needs.head:
            signals.head = vocabulary_head(net, read)
        if needs.logits:
            signals.logits = row.fill(net, read)
        return
    read = row.tag_input(net, last) if kind.per_token else row.pool(net, (mean() if row.pools_mean(net) else first)[:, None])
    if needs.logits:
        signals.logits = row.final_linear(net)(read)
    if needs.feature == "head_input":
        signals.feature = read
