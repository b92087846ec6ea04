"""Layers that train faster or in less memory: compiled by torch, or computed a second time instead of being remembered.

Both stand in for the `forward` of each layer during a step, so that hooks on layers, which is how hidden states are caught, stay
outside of what is compiled or repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint as run_again

from understudy.models import attention
from understudy.models.anatomy import Net, anatomy


class Light:
    """What stands in for the layers of a network while it is in use.

    Args:
        compile: by `torch.compile`. Attention stays outside: its loop over sequences differs from batch to batch.
        checkpoint: only a layer's input is kept for the backward pass, which computes the rest again (Chen et al. 2016,
            arXiv:1604.06174): about a third more time, the same numbers.
        read: layers (from 1) whose queries, keys and values are read; they are not compiled, because the hooks that read
            them are inside.
        backend: of torch.compile.
    """

    def __init__(
        self, net: Net, *, compile: bool, checkpoint: bool, read: Collection[int] = (), backend: str = "inductor"
    ) -> None:
        row = anatomy(net)
        layers = row.layers(net)
        if compile:
            attention.register(torch.compiler.disable(attention.attention))
        as_it_is = {id(layers[index - 1]) for index in read}
        self._forwards: list[tuple[Any, Callable[..., Any]]] = []
        for layer in {id(layer): layer for layer in layers}.values():
            run = layer.forward
            if compile and id(layer) not in as_it_is:
                run = torch.compile(run, backend=backend)
            if checkpoint:
                run = _forgetful(run, row.backbone(net).config if row.packs else None)
            if run != layer.forward:
                self._forwards.append((layer, run))

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within, the layers run that way, forward and backward."""
        try:
            for layer, forward in self._forwards:
                layer.forward = forward
            yield
        finally:
            for layer, _ in self._forwards:
                vars(layer).pop("forward", None)  # that of its class again


def _forgetful(run: Callable[..., Any], config: Any) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        # The backward pass comes when the forward has long put its own attention back.
        with nullcontext() if config is None else attention.packed(config):
            return run(*args, **kwargs)

    return lambda *args, **kwargs: run_again(again, *args, use_reentrant=False, **kwargs)
