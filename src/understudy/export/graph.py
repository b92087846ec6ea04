"""A student as an ONNX graph: exact, as small as the student, and run by onnxruntime without torch or transformers.

Rows and length are dynamic. Optionally the weights are stored as 8-bit integers and activations rounded when it runs
(dynamic quantisation): smaller and often faster, but no longer equal, so it is a second file beside the exact one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from understudy.base.errors import RecipeError
from understudy.export.agreement import Call, decides, pad_id, takes_types
from understudy.models.anatomy import anatomy
from understudy.models.handover import longest_input
from understudy.models.heads import names_of
from understudy.models.model import Model

GRAPH, GRAPH_INT8 = "model.onnx", "model_int8.onnx"
NEEDS = ("onnx", "onnxruntime", "onnxscript")
OPSET = 20
_PROTOBUF_LIMIT = 1.9e9  # bytes that still fit into one file; weights of larger models lie beside it


def require_onnx() -> None:
    """RecipeError with the command to type where a package of the extra is missing."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise RecipeError(
            f"--to onnx needs {', '.join(missing)}, which is not installed: pip install 'understudy-lm[onnx]'"
        )


def output_name(model: Model) -> str:
    return "logits" if decides(model) else "last_hidden_state"


def input_names(model: Model) -> list[str]:
    return ["input_ids", "attention_mask"] + (["token_type_ids"] if takes_types(model) else [])


def settings(model: Model) -> dict[str, Any]:
    """config.json beside the graph: what its inputs need and what its outputs mean."""
    names = list(model.labels) or names_of(model.net.config) if not model.kind.on_vocabulary else []
    return {
        "kind": str(model.kind),
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "inputs": input_names(model),
        "output": output_name(model),
        "max_length": longest_input(model),
        "truncation_side": model.tokenizer.truncation_side,
        "pad_token_id": pad_id(model),
    }


def write_graph(model: Model, path: Path) -> None:
    """Write a model as an ONNX graph with inputs (batch, length) int64 and one output.

    Raises:
        RecipeError: torch cannot trace this model.
    """
    import torch

    names = input_names(model)
    net = model.net.eval()
    # Two rows of seven: sizes of 0 and 1 would be taken for constants.
    example = {name: torch.ones(2, 7, dtype=torch.long, device=next(net.parameters()).device) for name in names}
    weights = sum(parameter.numel() * parameter.element_size() for parameter in net.parameters())
    with _captured() as said, _without_empty_products(net):
        try:
            program = torch.onnx.export(
                _wrapped(net),
                (),
                kwargs=example,
                dynamo=True,
                input_names=names,
                output_names=[output_name(model)],
                dynamic_shapes={name: {0: "batch", 1: "length"} for name in names},
                opset_version=OPSET,
                verbose=False,
            )
            assert program is not None
            _forget_origin(program.model)
            _store_once(program.model)
            program.save(str(path), external_data=weights > _PROTOBUF_LIMIT)
        except Exception as error:  # torch wraps whatever went wrong in classes of its own
            reason = (str(error.__cause__ or error).strip().splitlines() or [said.getvalue()])[0][:300]
            raise RecipeError(
                f"torch cannot turn this {anatomy(net).family} model into an ONNX graph: {reason}. "
                "Choose --to hf, padded or exact."
            ) from error


def write_int8(graph: Path, path: Path) -> None:
    """The same graph with the weights of embeddings and Linears as 8-bit integers.

    Seven bits are used for weights (`reduce_range`): on processors without VNNI two 8-bit products can overflow the 16
    bits they are summed in.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = onnx.load(graph)
    del exact.graph.value_info[:]  # shapes noted before the exporter folded transposed weights; they are inferred again
    with _captured():
        quantize_dynamic(exact, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def session(path: Path, *, threads: int | None = None) -> Any:
    """An onnxruntime session on the processor; `threads` inside one operator, None for as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads:
        options.intra_op_num_threads = threads
    # Threads that wait by spinning take the cores away from whatever is timed in turns with this graph.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def graph_call(path: Path, *, threads: int | None = None) -> Call:
    """Run a graph on a batch; token types that are not given are zeros."""
    opened = session(path, threads=threads)
    names = [one.name for one in opened.get_inputs()]

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        given = {name: inputs[name] if name in inputs else np.zeros_like(inputs["input_ids"]) for name in names}
        return opened.run(None, given)[0]

    return run


@contextlib.contextmanager
def _without_empty_products(net: Any) -> Iterator[None]:
    """Meanwhile layers that lost all heads or neurons add their bias and no product of empty tensors.

    Runtimes disagree about empty tensors: in ONNX a size of 0 may mean "as it was". What only fed the product is unused
    then, and the exporter leaves it out.
    """
    import torch

    class Bias(torch.nn.Module):
        """A Linear without inputs: (..., 0) -> (..., D)."""

        def __init__(self, linear: Any) -> None:
            super().__init__()
            constant = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
            self.constant = torch.nn.Parameter(constant, requires_grad=False)

        def forward(self, nothing: Any) -> Any:
            return self.constant.expand(*nothing.shape[:-1], -1)

    row = anatomy(net)
    linears = {id(part(layer)): part(layer) for layer in row.layers(net) for part in (row.out, row.down)}
    empty = {key: Bias(linear) for key, linear in linears.items() if linear.in_features == 0}
    places = [
        (module, name, child)
        for module in net.modules()
        for name, child in module.named_children()
        if id(child) in empty
    ]
    try:
        for module, name, child in places:
            setattr(module, name, empty[id(child)])
        yield
    finally:
        for module, name, child in places:
            setattr(module, name, child)


def _store_once(model: Any) -> None:
    """Of equal weights keep one: those of shared layers were transposed, and so copied, for each use."""
    from onnx_ir.passes.common import DeduplicateInitializersPass

    DeduplicateInitializersPass(size_limit=2**62)(model)


def _forget_origin(model: Any) -> None:
    """Remove what the exporter notes about every node: the Python lines it came from, with the folders of this machine."""
    for part in (model, model.graph, *model.functions.values()):
        part.metadata_props.clear()
        if part is not model:
            for node in part.all_nodes():
                node.metadata_props.clear()
                for value in node.outputs:
                    value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _wrapped(net: Any) -> Any:
    import torch

    class FirstOutput(torch.nn.Module):
        """The stock forward with its logits alone, and with no more arguments than the graph gets."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            return self.net(input_ids=input_ids, attention_mask=attention_mask, **types, return_dict=True)[0]

    return FirstOutput()


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    """The exporter prints pages and warns of packages it could also use; none of it concerns the person who exports."""
    said = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        logging.disable(before)
