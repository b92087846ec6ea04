"""`result.json`: what a run showed, for machines. docs/result.md explains every key to people.

`assemble` computes everything that follows from predictions and costs; `validated` refuses a file that does not hold to the
schema, with the place and the reason. A result is a plain dictionary, so that reading one needs no import of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from understudy.base.errors import DataError
from understudy.data.types import Task
from understudy.evaluate.bootstrap import Resampled, gap_recovered, resample, retained
from understudy.evaluate.predictions import Predictions, one_answer
from understudy.evaluate.verdict import advice, verdict

VERSION = 1
MODELS = ("teacher", "baseline", "student")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Interval(_Part):
    """A number and its 95 % bootstrap interval over test rows; the ends are None where there were no resamples."""

    value: float
    low: float | None
    high: float | None


class Ratio(_Part):
    """A ratio that may not exist: then `value` is None and `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


class Latency(_Part):
    """Milliseconds per batch: median and interquartile range of `repeats` interleaved rounds."""

    median: float = Field(gt=0)
    iqr: float = Field(ge=0)
    threads: int
    device: str
    batch_size: int
    length: int
    repeats: int
    warm_up: int


class ModelResult(_Part):
    """One of the three models: what it scored and what it costs. Of a teacher whose answers alone are known, no costs are."""

    name: str
    metrics: dict[str, dict[str, Interval]]
    one_answer: bool = False
    num_parameters: int | None
    num_parameters_nonembedding: int | None
    size_mb: float | None
    flops: int | None
    latency_ms: Latency | None


class TaskResult(_Part):
    name: str
    kind: str
    labels: list[str]
    metrics: list[str]
    select: str
    tests: dict[str, int]


class Candidate(_Part):
    """A student that a search tried: its sizes, and what it is worth and costs after the short distillation."""

    layers: int
    heads: int
    hidden: int
    intermediate: int
    activation: str
    quality: float
    latency_ms: float
    parameters: int
    reward: float


class SearchResult(_Part):
    """What a search for the student's architecture found."""

    engine: str
    architectures: int
    tried: int
    chosen: Candidate
    front: list[Candidate]


class NewRows(_Part):
    """Scores on the rows of a test set that do not stand in train (or among the selection rows) as well."""

    rows: int
    models: dict[str, dict[str, Interval]]


class Result(_Part):
    """The whole file."""

    version: int = Field(ge=1, le=VERSION)
    task: TaskResult
    method: dict[str, Any]
    seed: int
    teacher: ModelResult | None
    baseline: ModelResult | None
    student: ModelResult
    gap_recovered: dict[str, dict[str, Ratio]]
    retained: dict[str, dict[str, Ratio]]
    gain: dict[str, dict[str, Interval]]
    new_rows: dict[str, NewRows] = {}
    speedup: float | None
    search: SearchResult | None = None
    verdict: str
    advice: list[str] = []
    references: dict[str, dict[str, dict[str, float]]] = {}
    rising: list[str] = []
    data: dict[str, Any] | None = None
    samples: list[dict[str, str]] = []
    train_seconds: dict[str, float]
    teacher_forwards: int
    versions: dict[str, str]
    machine: dict[str, Any]


UNKNOWN: dict[str, Any] = dict.fromkeys(("num_parameters", "num_parameters_nonembedding", "size_mb", "flops", "latency_ms"))
"""Costs of a teacher of which only the answers are known."""


def validated(result: Any) -> dict[str, Any]:
    """The result itself when it follows the schema.

    Raises:
        DataError: naming the first key that is wrong, and why.
    """
    try:
        Result.model_validate(result)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the top level"
        raise DataError(
            f"result.json does not follow its schema at {place}: {first['msg'].lower()}; see docs/result.md, and "
            "repeat the run's command to write it anew."
        ) from None
    return result


def assemble(
    task: Task,
    predictions: Mapping[str, Mapping[str, Predictions]],
    *,
    costs: Mapping[str, Mapping[str, Any]],
    seed: int,
    resamples: int,
    new: Mapping[str, Sequence[int]] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """Build a result from what the models predicted and what they cost.

    Args:
        predictions: test set -> model ("teacher", "baseline", "student"; the student always) -> its predictions, all
            models of a test set on the same rows.
        costs: model -> {"name", "num_parameters", "num_parameters_nonembedding", "size_mb", "flops", "latency_ms"}.
        resamples: bootstrap resamples per test set (0: no intervals).
        new: test set -> numbers of its rows that were not learnt from, where some were; scored by themselves too.
        about: what goes into the result as it is: method, train_seconds, teacher_forwards, versions, machine; and, where they
            are known, search (what found the student), references (what scores without any training, evaluate/reference.py:
            name -> test set -> metric -> value), rising (models that were still getting better when their training ended)
            samples (what language models write, evaluate/samples.py: {"prompt", and a continuation by model}),
            and data (what is known of the rows: {"cut": {"share", "max_length", "holds_99"}, "in_train_and_test": rows, …}).
    """
    scores = {test: resample(task, by_model, resamples=resamples, seed=seed) for test, by_model in predictions.items()}
    result: dict[str, Any] = {
        "version": VERSION,
        "task": {
            "name": task.name,
            "kind": str(task.kind),
            "labels": list(task.labels),
            "metrics": list(task.metrics),
            "select": task.select,
            "tests": {test: len(by_model["student"]) for test, by_model in predictions.items()},
        },
        "seed": seed,
        "search": None, "references": {}, "rising": [], "data": None,
        **about,
    }
    first = next(iter(predictions.values()))
    for model in MODELS:
        metrics = {
            test: {metric: one.interval() for metric, one in by_model[model].items()}
            for test, by_model in scores.items()
            if model in by_model
        }
        same = model in first and one_answer(task, first[model])
        result[model] = {"metrics": metrics, "one_answer": same, **costs[model]} if metrics else None
    result["gap_recovered"] = _each(scores, MODELS, lambda metric, t, b, s: gap_recovered(s, b, t, metric=metric))
    result["retained"] = _each(scores, ("teacher", "student"), lambda metric, t, s: retained(s, t, metric=metric))
    result["gain"] = _each(scores, ("baseline", "student"), lambda metric, b, s: (s - b).interval())
    result["new_rows"] = {}
    for test, rows in (new or {}).items():
        apart = {model: made.only(rows) for model, made in predictions[test].items()}
        by_model = resample(task, apart, resamples=resamples, seed=seed)
        models = {model: {metric: one.interval() for metric, one in scores.items()} for model, scores in by_model.items()}
        result["new_rows"][test] = {"rows": len(rows), "models": models}
    theirs, ours = ((result[model] or {}).get("latency_ms") for model in ("teacher", "student"))
    result["speedup"] = theirs["median"] / ours["median"] if theirs and ours else None
    result["verdict"] = verdict(result)
    result["advice"] = advice(result)
    return validated(result)


def _each(scores: Mapping[str, Mapping[str, Mapping[str, Resampled]]], models: tuple[str, ...], relate: Any) -> dict:
    """relate(metric, *one Resampled per model) for every test set on which all of `models` were evaluated."""
    return {
        test: {metric: relate(metric, *(by_model[model][metric] for model in models)) for metric in by_model["student"]}
        for test, by_model in scores.items()
        if all(model in by_model for model in models)
    }
