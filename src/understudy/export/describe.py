"""What lies beside the weights of an export: the card with a section on this form, and code that runs as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from understudy.kinds import Kind, kind
from understudy.models.card import USE

_WHAT = {
    "hf": "A stock transformers model, equal to the one that was exported. It loads with transformers alone.",
    "padded": "A stock transformers model that computes exactly what the one that was exported does: where parts were cut, "
    "zeros stand in their place. It loads with transformers alone and is larger and slower than that.",
    "exact": "The model as it was trained, no larger than it has to be.",
    "onnx": "The model as an ONNX graph, no larger than it has to be. It runs with onnxruntime, without PyTorch and "
    "transformers; number and length of rows are free.",
}
NEEDS_US = "Stock transformers cannot hold this shape: **it loads only after `understudy.register()`**."


def readme(card: str, facts: Mapping[str, Any]) -> str:
    """The student's card, kept as it is, and a section on this folder.

    Args:
        card: README.md of the student, or "" where it has none.
        facts: what structure.json holds.
    """
    library = "onnx" if facts["form"] == "onnx" else "understudy" if facts["needs_understudy"] else "transformers"
    # The Hub shows code for the library that is named here.
    card = re.sub(r"(?m)\A(---\n(?:.*\n)*?)library_name: \w+$", rf"\1library_name: {library}", card.partition(USE)[0])
    return f"{card.rstrip() or '# Student'}\n\n" + "\n".join(_section(facts)) + "\n"


def _section(facts: Mapping[str, Any]) -> Iterator[str]:
    form, compared = facts["form"], facts["compared"]
    yield f"## This folder: the {form} form"
    yield ""
    yield _WHAT[form] + (f" {NEEDS_US}" if facts["needs_understudy"] else "")
    yield ""
    yield (
        f"Compared with the model in memory on {compared['rows']} rows of {compared['on']}: largest difference of an "
        f"output {compared['max_abs_difference']:.1e}. Which heads and neurons were kept is in `structure.json`."
    )
    yield ""
    yield from table(facts)
    if "int8" in facts:
        yield ""
        yield (
            "`model_int8.onnx` holds the same graph with 8-bit weights. It is not equal to it: "
            + "; ".join(agreement_lines(facts["int8"]["agreement"]))
            + ". Either file works without the other."
        )
    yield ""
    yield "```python"
    yield from onnx_code(facts) if form == "onnx" else torch_code(facts)
    yield "```"


def table(facts: Mapping[str, Any]) -> Iterator[str]:
    """Size and speed of every file of the export beside the student in PyTorch."""
    first = next(iter(facts["latency_ms"].values()))
    yield (
        f"| batch {first['batch_size']}, {first['length']} tokens, {first['device']}, threads {first['threads']} "
        "| latency, median (ms) | interquartile range (ms) | size (MB) |"
    )
    yield "|---|---|---|---|"
    for name, took in facts["latency_ms"].items():
        yield f"| {name} | {took['median']:.2f} | {took['iqr']:.2f} | {facts['size_mb'][name]:.2f} |"


def agreement_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One phrase for each split."""
    lines = []
    for split, one in found.items():
        same = "" if one["same"] is None else f"decides alike in {100 * one['same']:.1f} %, "
        lines.append(
            f"on {one['rows']} rows of {split} it {same or 'has '}"
            f"{'with ' if same else ''}a mean difference of an output of {one['mean_abs_difference']:.2g}"
        )
    return lines


def torch_code(facts: Mapping[str, Any]) -> Iterator[str]:
    """How to load the folder with transformers."""
    auto = kind(facts["kind"]).auto if facts["decides"] else "AutoModel"
    if facts["needs_understudy"]:
        yield "import understudy"
        yield ""
        yield "understudy.register()  # tells transformers of the shape of this student"
    yield f"from transformers import {auto}, AutoTokenizer"
    yield ""
    yield f'model, tokenizer = {auto}.from_pretrained("."), AutoTokenizer.from_pretrained(".")'
    yield 'print(model(**tokenizer("My printer is on fire.", truncation=True, return_tensors="pt"))[0])'


def onnx_code(facts: Mapping[str, Any]) -> Iterator[str]:
    """Seven lines that answer with onnxruntime and the tokenizers library, and nothing else; with windows of long texts nine."""
    asked = kind(facts["kind"])
    rows, answer = (asked.onnx_rows, asked.onnx_answer) if facts["decides"] else (Kind.onnx_rows, Kind.onnx_answer)
    inputs = [("input_ids", "ids"), ("attention_mask", "attention_mask"), ("token_type_ids", "type_ids")]
    pairs = ", ".join(f'("{name}", "{part}")' for name, part in inputs if name in facts["inputs"])
    yield "import json, numpy as np, onnxruntime, tokenizers"
    yield 'config, tokenizer = json.load(open("config.json")), tokenizers.Tokenizer.from_file("tokenizer.json")'
    windows = facts.get("windows")
    stride = f", stride={windows['overlap']}" if windows else ""
    yield f'tokenizer.enable_truncation(config["max_length"], direction=config["truncation_side"]{stride})'
    yield 'tokenizer.enable_padding(pad_id=config["pad_token_id"])'
    yield f"rows = tokenizer.encode_batch({rows}{', is_pretokenized=True' if asked.by_word else ''})"
    if windows:  # a text's own windows one behind the other
        yield f"texts = [[row, *row.overflowing][:{windows['most']}] for row in rows]; windows = [*map(len, texts)]"
        yield "rows = [window for text in texts for window in text]"
    yield f"inputs = {{name: np.array([getattr(row, part) for row in rows]) for name, part in [{pairs}]}}"
    yield f'outputs = onnxruntime.InferenceSession("model.onnx").run(None, inputs)[0]{"" if windows else f"; {answer}"}'
    if windows:
        weighted = "(z * np.exp(z - z.max(0))).sum(0) / np.exp(z - z.max(0)).sum(0)"
        pool = {"mean": "z.mean(0)", "max": "z.max(0)", "attention": weighted}
        yield f"outputs = np.stack([{pool[windows['pool']]} for z in np.split(outputs, np.cumsum(windows)[:-1])]); {answer}"


def lines(facts: Mapping[str, Any]) -> list[str]:
    """What the command says when it is done."""
    compared = facts["compared"]
    said = [
        f"{facts['folder']}: the {facts['form']} form, {facts['num_parameters']:,} parameters.",
        f"Largest difference on {compared['rows']} rows of {compared['on']}: {compared['max_abs_difference']:.1e}.",
    ]
    said += [f"  {name:<8} {took['median']:8.2f} ms (IQR {took['iqr']:.2f})  {facts['size_mb'][name]:9.2f} MB"
             for name, took in facts["latency_ms"].items()]  # fmt: skip
    first = next(iter(facts["latency_ms"].values()))
    said.append(
        f"  (batch {first['batch_size']}, {first['length']} tokens, {first['device']}, threads {first['threads']}, taking "
        "turns)"
    )
    if "int8" in facts:
        said += [f"int8: {line}." for line in agreement_lines(facts["int8"]["agreement"])]
    if facts["needs_understudy"]:
        said.append("This form loads only after `understudy.register()`; --to padded or onnx need nothing of ours.")
    return said
