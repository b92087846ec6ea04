"""One sentence that says what a run showed, and no more than it showed.

A tie is called a tie and a loss a loss: whether distillation added something is read off the interval of the difference
to plain fine-tuning, never off the two scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.evaluate.metrics import DISPLAY
from understudy.figures.words import percent, score
from understudy.kinds import every, kind, lower_is_better, sign_of

_POINTS = frozenset({"accuracy", "f1", "micro_f1", "macro_f1", "precision", "recall", "mcc", "pearson", "spearman",
                     "entity_f1", "entity_precision", "entity_recall", "agreement",
                     "compression",
                     *(name for one in every() for name in one.shown)})  # fmt: skip


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


def advice(result: Mapping[str, Any]) -> list[str]:
    """What to do next, the most important first: each sentence names what was seen and the setting that may change it.

    From what the result holds beside its scores: references that cost nothing, models that were still rising, what is known of
    the data, and clocks that a busy machine disturbed. Empty where nothing stands out.
    """
    found = (_below_reference, _still_rising, _cut, _leaks, _undecided, _busy)
    return [sentence for look in found for sentence in look(result)]


def _below_reference(result: Mapping[str, Any]) -> list[str]:
    """A teacher that a reference without any training beats has nothing to teach."""
    test, metric = headline(result)
    taught = _value(result.get("teacher"), test, metric)
    sign, found = sign_of(metric), []
    for name, scores in (result.get("references") or {}).items():
        free = scores.get(test, {}).get(metric)
        if taught is not None and free is not None and sign * taught <= sign * free:
            name_of = metric_name(result, metric)
            found.append(
                f"The teacher ({score(taught)} {name_of}) is no better than {name} ({score(free)}), which costs nothing: "
                "train it longer or with another rate (teacher.finetune.epochs, teacher.finetune.lr), or take another teacher."
            )
    return found


EPOCHS = {"teacher": "teacher.finetune.epochs", "baseline": "train.epochs", "student": "train.epochs"}


def _still_rising(result: Mapping[str, Any]) -> list[str]:
    rising = result.get("rising") or []
    settings = dict.fromkeys(EPOCHS[name] for name in rising)
    who = " and ".join(f"the {name}" for name in rising)
    verb = "were" if len(rising) > 1 else "was"
    said = f"{who} {verb} still getting better at the last evaluation: more epochs ({', '.join(settings)}) or a larger rate may "
    return [f"{said[0].upper()}{said[1:]}help."] if rising else []


def _cut(result: Mapping[str, Any]) -> list[str]:
    cut = (result.get("data") or {}).get("cut")
    if not cut or cut["share"] < 0.02:
        return []
    enough = min(cut["holds_99"], cut.get("most") or cut["holds_99"])  # not more than the model can read
    longer = f": try task.max_length={enough}" if enough > cut["max_length"] else ""
    return [f"{percent(cut['share'])} of the texts were cut at {cut['max_length']} tokens{longer}."]


def _leaks(result: Mapping[str, Any]) -> list[str]:
    overlap = (result.get("data") or {}).get("overlap") or {}
    found = []
    for test, one in overlap.items():
        without = ""
        if apart := (result.get("new_rows") or {}).get(test):
            metric = result["task"]["select"]
            scores = [
                f"{model} {score(one[metric]['value'])} ({score(result[model]['metrics'][test][metric]['value'])} with them)"
                for model, one in apart["models"].items()
                if metric in one
            ]
            name = DISPLAY.get(metric, metric)
            without = f" On the {apart['rows']:,} rows that do not, {name} is: {', '.join(scores)}." if scores else ""
        found.append(
            f"{one['in_train']:,} of {one['rows']:,} rows of {test} are in train too: remove them there, or the scores "
            f"promise too much.{without}"
        )
    return found


def _undecided(result: Mapping[str, Any]) -> list[str]:
    """How many rows would decide a tie: an interval shrinks with the square root of the rows."""
    test, metric = headline(result)
    gain = result["gain"].get(test, {}).get(metric)
    if any((result.get(name) or {}).get("one_answer") for name in EPOCHS):
        return []  # the verdict says that nothing was learnt
    if not gain or gain["low"] is None or not gain["low"] <= 0 <= gain["high"] or not gain["value"]:
        return []
    rows, elsewhere = result["task"]["tests"][test], _no_tie_elsewhere(result, test, metric)
    half = gain["value"] - gain["low"] if gain["value"] > 0 else gain["high"] - gain["value"]
    needed = rows * (half / abs(gain["value"])) ** 2
    if needed > 50 * rows:
        equal = f"Distillation and plain fine-tuning are equally good on these {rows:,} rows; more would hardly tell."
        return elsewhere or [equal]
    magnitude = 10 ** max(0, len(str(int(needed))) - 2)
    about = -(-int(needed) // magnitude) * magnitude
    said = f"A tie on {rows:,} rows: if the difference is what it seems, about {about:,} would tell"
    return [f"{said}. Seeds matter too: `understudy compare` runs several.", *elsewhere]


def _no_tie_elsewhere(result: Mapping[str, Any], test: str, metric: str) -> list[str]:
    """Where the headline is a tie, the largest other test set on which some metric is not a tie."""
    others = [
        (result["task"]["tests"][name], name, other, gain)
        for name, by_metric in result["gain"].items()
        for other, gain in by_metric.items()
        if (name, other) != (test, metric) and gain["low"] is not None
    ]
    clear = [one for one in others if not one[3]["low"] <= 0 <= one[3]["high"]]
    if not clear:
        return []
    rows, name, other, gain = max(clear, key=lambda one: one[0])
    interval = f"95 % interval {plain(gain['low'], other)} to {plain(gain['high'], other)}"
    change = amount(gain["value"], other, sign=True) + (f" of {metric_name(result, other)}" if other in _POINTS else "")
    where = f"on {rows:,} rows of {name} it is no tie"
    return [f"Look at the other scores too: {where} ({change}, {interval}; one of {len(others)} such comparisons)."]


def _busy(result: Mapping[str, Any]) -> list[str]:
    times = {name: (result.get(name) or {}).get("latency_ms") for name in ("teacher", "baseline", "student")}
    wide = [name for name, time in times.items() if time and time["iqr"] > 0.25 * time["median"]]
    if not wide:
        return []
    many = " and ".join(wide)
    said = f"The machine was busy while latencies were measured (interquartile range above a quarter of the median for {many})"
    return [f"{said}: measure speed again when it is idle."]


def still_rising(history: Mapping[str, Sequence[Mapping[str, Any]]], select: str) -> list[str]:
    """The models whose last evaluation was their best by more than half a point (or half a per cent, for other scales).

    Args:
        history: step -> rows of its metrics.jsonl; the steps named teacher, baseline and student count.
    """
    found = []
    for name in EPOCHS:
        scores = [row["select"][select] for row in history.get(name, ()) if select in (row.get("select") or {})]
        if len(scores) < 2:
            continue
        *before, last = (sign_of(select) * value for value in scores)
        if last - max(before) > 0.005 * (1.0 if select in _POINTS else abs(last)):
            found.append(name)
    return found


def metric_name(result: Mapping[str, Any], metric: str) -> str:
    """A metric's name; where it is about one of two classes, with that class: "F1 of 'spam'"."""
    task, name = result["task"], DISPLAY.get(metric, metric.replace("_", " "))
    about = kind(task["kind"]).about(metric, task["labels"])
    return name if about is None else f"{name} of '{about}'"


def _value(model: Mapping[str, Any] | None, test: str, metric: str) -> float | None:
    one = (model or {"metrics": {}})["metrics"].get(test, {}).get(metric)
    return None if one is None else one["value"]


def _kept(result: Mapping[str, Any], test: str, metric: str) -> str:
    kept = result["retained"].get(test, {}).get(metric, {}).get("value")
    name = metric_name(result, metric)
    if kept is not None:
        return f"{'keeps' if kept < 1.005 else 'reaches'} {percent(kept)} of the teacher's {name}"
    student = result["student"]["metrics"][test][metric]["value"]
    teacher = result["teacher"]["metrics"].get(test, {}).get(metric) if result.get("teacher") else None
    beside = f" (teacher {score(teacher['value'])})" if teacher else ""
    counted = metric == "bpb" or not lower_is_better(metric)  # "0.93 bits per byte", but "a loss of 1.2"
    reached = f"{score(student)} {name}" if counted else f"a {name} of {score(student)}"
    return f"reaches {reached}{beside}"


def _cost(result: Mapping[str, Any]) -> str:
    teacher, student = result.get("teacher"), result["student"]
    if not teacher or teacher["num_parameters"] is None:
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
    without = kind(result["task"]["kind"]).without
    if not result.get("baseline"):
        return f"; without a {without} baseline nobody can say what distillation added"
    gain = result["gain"][test][metric]
    value, low, high = gain["value"], gain["low"], gain["high"]
    if low is None or high is None:
        return f"; without an interval, its {plain(value, metric, sign=True)} over {without} cannot be judged"
    interval = f"95 % interval {plain(low, metric)} to {plain(high, metric)}"
    if low <= 0 <= high:
        change = f"{amount(value, metric, sign=True)}, {interval}"
        return f"; between distillation and {without} it is a tie on these rows ({change})"
    if lower_is_better(metric):
        did = f"{'lowered' if value < 0 else 'raised'} the {DISPLAY[metric]} by {plain(abs(value), metric)} against"
    else:
        did = f"added {amount(value, metric)} over" if value > 0 else f"cost {amount(-value, metric)} against"
    return f"; distillation {did} {without} ({interval})"


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
