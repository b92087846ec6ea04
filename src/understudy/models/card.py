"""The model card: what the student is, what it scored and how it was made, as text and as the Hub's metadata.

Everything in it comes from `result.json`. Names of tasks, labels and models are other people's text: the metadata is
written by a YAML library, the Markdown is escaped, and folders of this machine are named by their last part only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from understudy.kinds import kind
from understudy.models.model import Handover

# Task -> data set on the Hub and its configuration; `{test}` is the name of a test set.
DATASETS = {
    "glue": ("nyu-mll/glue", "{name}"),
    "pawsx": ("google-research-datasets/paws-x", "{test}"),
    "xnli": ("facebook/xnli", "{test}"),
    "conll2003": ("eriktks/conll2003", "conll2003"),
    "wikineural": ("Babelscape/wikineural", "{test}"),
}
METRIC_TYPES = {"mcc": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}


def card_text(result: Mapping[str, Any], *, stock: bool = True, handover: Handover | None = None) -> str:
    """README.md of a student: YAML front matter with a model index, then Markdown.

    Args:
        result: what `result.json` holds (version 1). Teacher and baseline may be None.
        stock: the student is a network that transformers knows; any other (pruned, shared layers) has to be registered.
        handover: how its inputs were read when it was scored; the code of the card reads them so.
    """
    use = "\n".join(_use(result, stock, handover))
    return f"---\n{_front_matter(result, stock)}---\n\n{_body(result)}\n{use}\n"


USE = "## How it is used"
"""The heading of the last section; an export, which is used otherwise, has its own instead."""


def _use(result: Mapping[str, Any], stock: bool, handover: Handover | None) -> Iterator[str]:
    """Code that answers as the student was scored, run in its folder."""
    asked = kind(result["task"]["kind"])
    yield USE
    yield ""
    if not stock:
        yield "No stock class of transformers holds this shape: `pip install understudy-lm`, which registers it."
        yield ""
    yield "```python"
    if not stock:
        yield "import understudy"
    if asked.code:
        imported, *others = asked.code
        yield from (imported, "", "understudy.register()", *others) if not stock else asked.code
        yield "```"
        return
    yield "from transformers import pipeline"
    yield ""
    if not stock:
        yield "understudy.register()"
    name, options = asked.pipeline, asked.pipeline_options
    if asked.on_vocabulary and "perplexity" not in result["task"]["metrics"]:  # no head on the vocabulary
        name, options = "feature-extraction", ""
    yield f'answer = pipeline("{name}", model="."{options})'
    row = '{"text": "The first text.", "text_pair": "The second."}' if handover and handover.pair else asked.pipeline_row
    yield f"print(answer({row}))"
    yield "```"
    if handover and (windows := handover.task.get("windows")) is not None:
        stride, pool = windows.get("stride", 64), windows.get("pool", "mean")
        yield ""
        yield (
            f"Longer texts were scored in windows of {handover.max_length} tokens that begin {stride} apart, the outputs pooled "
            f"({pool}); `understudy predict` does the same, and so does the code of an ONNX export. The above reads the first."
        )
    elif asked.causal:
        yield ""
        yield (
            "It is a stock architecture with a stock configuration: transformers and vLLM load the folder as it is, and "
            "llama.cpp's `convert_hf_to_gguf.py` converts it where it knows the tokenizer, which is the teacher's."
        )
        yield f"It was trained and scored on windows of {handover.max_length} tokens." if handover else ""
    elif handover:
        yield ""
        yield (
            f"Inputs are cut after {handover.max_length} tokens, as they were when it was scored; the tokenizer knows "
            "(`model_max_length`)."
        )


def eval_results_text(result: Mapping[str, Any]) -> str | None:
    """`.eval_results/*.yaml` for the Hub's leaderboards: the selecting metric of each test set. None for own data."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    select = result["task"]["select"]
    entries = []
    for test, metrics in result["student"]["metrics"].items():
        dataset = _dataset(result["task"]["name"], test)
        if dataset is not None and select in metrics:
            notes = f"{select} on {test}, {_interval(metrics[select])}"
            entries.append(
                EvalResultEntry(dataset_id=dataset[0], task_id=dataset[1], value=metrics[select]["value"], notes=notes)
            )
    return yaml_dump(eval_result_entries_to_yaml(entries)) if entries else None


def _front_matter(result: Mapping[str, Any], stock: bool) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = result["task"]
    asked = kind(task["kind"])
    pipeline = asked.pipeline
    if asked.on_vocabulary and "perplexity" not in task["metrics"]:  # no head on the vocabulary
        pipeline = "feature-extraction"
    scores = []
    for test, metrics in result["student"]["metrics"].items():
        dataset = _dataset(task["name"], test) or (_plain(task["name"]), _plain(test))
        scores += [
            EvalResult(
                task_type=pipeline,
                dataset_type=dataset[0],
                dataset_name=_plain(task["name"]),
                dataset_config=dataset[1],
                dataset_split=_plain(test),
                metric_type=METRIC_TYPES.get(metric) or str(metric),
                metric_name=metric,
                metric_value=interval["value"],
            )
            for metric, interval in metrics.items()
        ]
    teacher = (result["teacher"] or {}).get("name")
    data = ModelCardData(
        library_name=asked.library if stock else "understudy",
        pipeline_tag=pipeline,
        tags=["knowledge-distillation", "understudy"],
        datasets=sorted({score.dataset_type for score in scores if "/" in score.dataset_type}) or None,
        base_model=[teacher] if teacher and _on_hub(teacher) else None,
        model_name=_plain(f"{task['name']} student") if scores else None,
        eval_results=scores or None,
        ignore_metadata_errors=False,
    )
    return data.to_yaml(line_break="\n") + "\n"


def _body(result: Mapping[str, Any]) -> str:
    task, teacher = result["task"], result["teacher"]
    of = f" of {_text(public_name(teacher['name']))}" if teacher else ""
    lines = [f"# Student{of} for {_text(task['name'])}", "", _text(result["verdict"]), ""]
    if task["labels"]:
        lines += [f"Labels, in the order of the outputs: {', '.join(_text(label) for label in task['labels'])}.", ""]
    lines += ["## Scores", "", *_scores(result), ""]
    lines += ["## Size and speed", "", *_costs(result), ""]
    if result.get("samples"):
        lines += ["## What it writes", "", *_written(result), ""]
    method = dict(result["method"])
    lines += ["## How it was made", ""]
    lines += [f"Method: {_text(method.pop('name', 'unknown'))}; seed {result['seed']}.", ""]
    if method:
        lines += ["| setting | value |", "|---|---|"]
        lines += [f"| {_text(name)} | {_text(public_name(value))} |" for name, value in sorted(method.items())]
        lines += [""]
    rows = ", ".join(f"{_text(test)} {count:,}" for test, count in task["tests"].items())
    lines += [f"Rows evaluated on: {rows}.", ""] if rows else []
    versions = ", ".join(f"{_text(name)} {_text(version)}" for name, version in sorted(result["versions"].items()))
    lines += [f"Versions: {versions}.", ""] if versions else []
    return "\n".join(lines)


def _models(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("teacher", "baseline", "student"):
        if result[name]:
            yield name, result[name]


def _scores(result: Mapping[str, Any]) -> Iterator[str]:
    models = dict(_models(result))
    yield f"| test set | metric | {' | '.join(models)} |"
    yield "|---" * (2 + len(models)) + "|"
    for test, metrics in result["student"]["metrics"].items():
        for metric in metrics:
            found = [model["metrics"].get(test, {}).get(metric) for model in models.values()]
            cells = [f"{one['value']:.4f} ({_interval(one)})" if one else "–" for one in found]
            yield f"| {_text(test)} | {_text(metric)} | {' | '.join(cells)} |"
    yield ""
    yield "Baseline: the student's architecture trained on the same data and budget without a teacher."


def _written(result: Mapping[str, Any]) -> Iterator[str]:
    """Beginnings, and how the models go on from them, always by the likeliest token."""
    models = [name for name, _ in _models(result) if name in result["samples"][0]]
    yield f"| from | {' | '.join(models)} |"
    yield "|---" * (1 + len(models)) + "|"
    for one in result["samples"]:
        yield f"| {_text(one['prompt'])} | {' | '.join(_text(one[name]) for name in models)} |"


def _costs(result: Mapping[str, Any]) -> Iterator[str]:
    yield "| model | parameters | without embeddings | size (MB) | GFLOP | latency (ms) |"
    yield "|---|---|---|---|---|---|"
    for name, model in _models(result):
        if model["num_parameters"] is None:  # a teacher whose answers alone are known
            continue
        latency = model["latency_ms"]
        time = "–"
        if latency:
            time = (
                f"{latency['median']:.2f} (batch {latency['batch_size']}, {latency['length']} tokens, "
                f"{_text(latency['device'])}, threads {latency['threads']})"
            )
        yield (
            f"| {name} | {model['num_parameters']:,} | {model['num_parameters_nonembedding']:,} | "
            f"{model['size_mb']:.1f} | {model['flops'] / 1e9:.2f} | {time} |"
        )
    if result["teacher"] and result["teacher"]["flops"] is not None:
        ratio = result["teacher"]["flops"] / max(1, result["student"]["flops"])
        yield ""
        yield f"The student needs {ratio:.1f} times fewer operations than the teacher. GFLOP: one batch of the report's length."


def _interval(metric: Mapping[str, Any]) -> str:
    if metric.get("low") is None or metric.get("high") is None:
        return "no interval"
    return f"95 % interval {metric['low']:.4f} to {metric['high']:.4f}"


def _dataset(task: str, test: str) -> tuple[str, str] | None:
    """The Hub's name and configuration of a public data set; None for private data."""
    family, _, name = task.partition("/")
    if family not in DATASETS:
        return None
    dataset, config = DATASETS[family]
    return dataset, config.format(name=name, test=_plain(test))


def public_name(value: Any) -> str:
    """A model reference or setting without the folders of this machine: a path is named by its last part.

    >>> public_name("/home/ada/runs/teacher"), public_name("google-bert/bert-base-uncased")
    ('teacher', 'google-bert/bert-base-uncased')
    """
    text = str(value)
    is_path = re.match(r"[~.]?[/\\]|\.\.|~|[A-Za-z]:[/\\]", text) or (
        not text.startswith("package:") and not re.search(r"\s", text) and text.count("/") > 1
    )
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if is_path else text


def _on_hub(name: str) -> bool:
    """Whether a model's name can be linked as a repository of the Hub."""
    from pathlib import Path

    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()


def _plain(text: Any) -> str:
    """One line without control characters."""
    return re.sub(
        r"\s+", " ", re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", " ", str(text))
    ).strip()


def _text(text: Any) -> str:
    """Other people's text inside Markdown, where it cannot become markup, a link or a table cell."""
    return re.sub(r"([\\`*_\[\]|<>&])", r"\\\1", _plain(text))
