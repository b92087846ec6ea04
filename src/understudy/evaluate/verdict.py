"""One sentence that says what a run showed, and no more than it showed.

A tie is called a tie and a loss a loss: whether distillation added something is read off the interval of the difference
to plain fine-tuning, never off the two scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.data.types import LOWER_IS_BETTER
from understudy.evaluate.metrics import DISPLAY

_POINTS = frozenset({"accuracy", "f1", "micro_f1", "macro_f1", "precision", "recall", "mcc", "pearson", "spearman",
                     "entity_f1", "entity_precision", "entity_recall"})  # fmt: skip


def headline(result: Mapping[str, Any]) -> tuple[str, str]:
    """(test set, metric) that the run is judged by: the first test set and the task's own selection metric."""
    task = result["task"]
    test = next(iter(task["tests"]))
    known = result["student"]["metrics"][test]
    return test, task["select"] if task["select"] in known else next(iter(known))


def verdict(result: Mapping[str, Any]) -> str:
    """The verdict on a result (see docs/result.md): score kept, speed, size, and what distillation added.

    For example: "The student keeps 98 % of the teacher's F1, is 1.9 times faster and 47 % smaller; distillation added
    1.2 points over plain fine-tuning (95 % interval 0.2 to 2.3)."
    """
    test, metric = headline(result)
    silent = [name for name in ("teacher", "student") if (result.get(name) or {}).get("one_answer")]
    if silent:
        who = " and ".join(f"the {name}" for name in silent)
        return (
            f"{who[0].upper()}{who[1:]} {'give' if len(silent) > 1 else 'gives'} every row the same answer: nothing was "
            "learnt here, and the other numbers say nothing about distillation. Train longer, with another learning "
            "rate, or on more rows."
        )
    return f"The student {_kept(result, test, metric)}{_cost(result)}{_added(result, test, metric)}."


def _kept(result: Mapping[str, Any], test: str, metric: str) -> str:
    kept = result["retained"].get(test, {}).get(metric, {}).get("value")
    name = DISPLAY.get(metric, metric.replace("_", " "))
    if kept is not None:
        return f"{'keeps' if kept < 1.005 else 'reaches'} {percent(kept)} of the teacher's {name}"
    student = result["student"]["metrics"][test][metric]["value"]
    teacher = result["teacher"]["metrics"].get(test, {}).get(metric) if result.get("teacher") else None
    beside = f" (teacher {score(teacher['value'])})" if teacher else ""
    reached = f"a {name} of {score(student)}" if metric in LOWER_IS_BETTER else f"{score(student)} {name}"
    return f"reaches {reached}{beside}"


def _cost(result: Mapping[str, Any]) -> str:
    teacher, student = result.get("teacher"), result["student"]
    if not teacher:
        return ""
    speed, smaller = result.get("speedup"), 1 - student["num_parameters"] / teacher["num_parameters"]
    words = [] if speed is None else [_speed(speed)]
    if abs(smaller) < 0.005:
        words.append("just as large")
    else:
        words.append(f"{percent(abs(smaller))} {'smaller' if smaller > 0 else 'larger'}")
    return ", is " + " and ".join(words)


def _speed(ratio: float) -> str:
    if abs(ratio - 1) < 0.05:
        return "about as fast"
    return f"{ratio:.1f} times faster" if ratio > 1 else f"{1 / ratio:.1f} times slower"


def _added(result: Mapping[str, Any], test: str, metric: str) -> str:
    """What distillation did for the student against the same student without a teacher."""
    if not result.get("baseline"):
        return "; without a plain fine-tuning baseline nobody can say what distillation added"
    gain = result["gain"][test][metric]
    value, low, high = gain["value"], gain["low"], gain["high"]
    if low is None or high is None:
        return f"; without an interval, its {plain(value, metric, sign=True)} over plain fine-tuning cannot be judged"
    interval = f"95 % interval {plain(low, metric)} to {plain(high, metric)}"
    if low <= 0 <= high:
        change = f"{amount(value, metric, sign=True)}, {interval}"
        return f"; between distillation and plain fine-tuning it is a tie on these rows ({change})"
    if metric in LOWER_IS_BETTER:
        did = f"{'lowered' if value < 0 else 'raised'} the {DISPLAY[metric]} by {plain(abs(value), metric)} against"
    else:
        did = f"added {amount(value, metric)} over" if value > 0 else f"cost {amount(-value, metric)} against"
    return f"; distillation {did} plain fine-tuning ({interval})"


def percent(share: float) -> str:
    """0.98 -> '98 %'; one decimal where rounding would claim a whole that is not there.

    >>> percent(0.98), percent(0.998), percent(1.0)
    ('98 %', '99.8 %', '100 %')
    """
    rounded = f"{share * 100:.0f}"
    if rounded in ("0", "100") and abs(share * 100 - float(rounded)) >= 0.05:
        rounded = f"{share * 100:.1f}"
    return f"{rounded} %".replace("-0 ", "0 ").replace("-", "−")


def score(value: float) -> str:
    """A score for reading: '0.902'; large ones as '12.3'. The minus sign is a real one."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("-", "−")


def plain(value: float, metric: str, *, sign: bool = False) -> str:
    """A difference as a bare number: hundredths of a score ('points') for shares and correlations, else the value.

    >>> plain(0.0123, "f1"), plain(-0.0123, "f1"), plain(0.0123, "f1", sign=True), plain(0.5, "mse")
    ('1.2', '−1.2', '+1.2', '0.500')
    """
    text = f"{in_points(value, metric):.1f}" if metric in _POINTS else score(value)
    if float(text.replace("−", "-")) == 0:
        text = text.lstrip("-−")
    elif sign and value > 0:
        text = "+" + text
    return text.replace("-", "−")


def in_points(value: float, metric: str) -> float:
    """The number that `plain` writes: hundredths of a share or correlation, anything else as it is."""
    return value * 100 if metric in _POINTS else value


def amount(value: float, metric: str, *, sign: bool = False) -> str:
    """A difference with its unit: '1.2 points', or '0.500 in mean squared error' for what is not a share."""
    unit = "points" if metric in _POINTS else f"in {DISPLAY.get(metric, metric)}"
    return f"{plain(value, metric, sign=sign)} {unit}"
