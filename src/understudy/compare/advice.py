"""What a comparison comes to, in words: the Pareto front, which arm to take for a given latency, and one sentence on the whole.

An arm is called better only where the corrected comparison says so; of arms that are tied the cheaper one is as good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.significance import front, pair
from understudy.evaluate.verdict import amount, plain
from understudy.figures.words import score
from understudy.kinds import sign_of


def ranked(made: Mapping[str, Any]) -> list[str]:
    """The arms that have scores, the best mean of the headline metric first."""
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    found = {name: arm["metrics"][test][metric]["mean"] for name, arm in made["arms"].items() if test in arm["metrics"]}
    return sorted(found, key=lambda name: (-sign_of(metric) * found[name], name))


def fronts(made: Mapping[str, Any]) -> dict[str, list[str]]:
    """The Pareto fronts of quality and latency, and of quality and size: names, the best score first."""
    names = ranked(made)
    quality = [sign_of(made["headline"]["metric"]) * _mean(made, name) for name in names]
    costs = {"latency": [_latency(made, name) for name in names], "size": [made["arms"][name]["size_mb"] for name in names]}
    return {kind: [names[place] for place in front(quality, values)] for kind, values in costs.items()}


def recommendations(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each latency limit that is worth considering, which arm to take: {"limit_ms", "arm", "ties", "text"}.

    The limits are round numbers just above the latencies of the front, and none for those who have time.
    """
    names = fronts(made)["latency"][::-1]  # the fastest first
    found: list[dict[str, Any]] = []
    for name in names:
        limit = round_up(_latency(made, name))
        able = [other for other in ranked(made) if _latency(made, other) <= limit]
        best = able[0]
        if found and found[-1]["limit_ms"] == limit:
            continue
        found.append(_recommended(made, best, able, limit))
    if found:
        found.append(_recommended(made, ranked(made)[0], ranked(made), None))
    texts = [one["arm"] for one in found]
    return [one for place, one in enumerate(found) if place == 0 or texts[place] != texts[place - 1]]


def _recommended(made: Mapping[str, Any], best: str, able: Sequence[str], limit: float | None) -> dict[str, Any]:
    metric = made["headline"]["metric"]
    ties = [name for name in able if name != best and said_of(made, best, name) == "tie"]
    text = "Without a limit: " if limit is None else f"Under {limit:g} ms: "
    text += f"{best} ({score(_mean(made, best))} {DISPLAY.get(metric, metric)}, {_latency(made, best):.3g} ms)"
    cheaper = [name for name in ties if _amount(made, name) <= _amount(made, best)]
    if ties:
        text += f"; tied with {', '.join(ties)}"
        if cheaper:
            least = min(cheaper, key=lambda name: (_amount(made, name), made["arms"][name]["num_parameters"]))
            text += f", of which {least} was the cheapest to make" if len(ties) > 1 else ", which was not dearer to make"
    elif len(able) > 1:
        text += ", better than every other arm that fast" if limit is not None else ", better than every other arm"
    return {"limit_ms": limit, "arm": best, "ties": ties, "text": f"{text}."}


def verdict(made: Mapping[str, Any]) -> str:
    """One or two sentences: who leads, which leads are significant, and whether a teacher helped at all."""
    names, baseline = ranked(made), made["baseline"]
    metric = made["headline"]["metric"]
    shown = DISPLAY.get(metric, metric)
    best = names[0]
    number = len(made["arms"][best]["seeds"])
    seeds = f"{number} seeds" if number > 1 else "one seed"
    ties = [name for name in names[1:] if said_of(made, best, name) == "tie"]
    lead = f"{best} has the highest {shown}" if sign_of(metric) > 0 else f"{best} has the lowest {shown}"
    text = f"Over {seeds} on the same budget, {lead} ({score(_mean(made, best))})"
    if len(names) == 1:
        return f"{text}; there is no other arm to compare it with."
    if not ties:
        text += ", better than all others"
    else:
        text += f", tied with {', '.join(ties) if len(ties) < max(4, len(names) - 1) else 'all others'}"
    if best == baseline:
        return f"{text}. No teacher helped here.{_poor_teacher(made)}"
    row = pair(made, best, baseline)
    if row is None:
        return f"{text}. Without the arm {baseline} nobody can say what the teacher added."
    change = amount(row["difference"], metric, sign=True)
    interval = "" if row["low"] is None else f", 95 % interval {plain(row['low'], metric)} to {plain(row['high'], metric)}"
    over = "a tie with" if row["verdict"] == "tie" else "against"
    many = f", p {row['p_holm']:.2g} corrected for {_number_compared(made)} comparisons" if len(names) > 2 else ""
    text = f"{text}; {over} training without a teacher: {change}{interval}{many}."
    return f"{text}{would_tell(made, row) if row['verdict'] == 'tie' else ''}{_poor_teacher(made)}"


MOST_SEEDS = 30
"""More than anybody trains."""


def would_tell(made: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """A sentence: how many seeds, or else how many rows, would tell a tie of two arms, if the difference is what it seems.

    The interval of a difference has two parts: what seeds do shrinks with their number K as t(K - 1)/√K, what rows do with the
    square root of their number. The rows' part is what the seeds' own deviation leaves of the interval.
    """
    seeds = [seed for seed in made["arms"][row["one"]]["seeds"] if seed in made["arms"][row["other"]]["seeds"]]
    gap = abs(row["difference"])
    if row["low"] is None or not gap:
        return ""
    if len(seeds) < 2:
        return " One seed tells nothing of others: repeat with compare.seeds=3."
    from scipy import stats

    def score_of(name: str, seed: int) -> float:
        arm = made["arms"][name]
        return arm["metrics"][row["test"]][row["metric"]]["values"][arm["seeds"].index(seed)]

    deviation = stdev(score_of(row["one"], seed) - score_of(row["other"], seed) for seed in seeds)

    def half(number: int) -> float:
        return float(stats.t.ppf(0.975, number - 1)) * deviation / number**0.5

    rows = math.sqrt(max(0.0, ((row["high"] - row["low"]) / 2) ** 2 - half(len(seeds)) ** 2))
    enough = next((n for n in range(len(seeds) + 1, MOST_SEEDS + 1) if math.hypot(half(n), rows) < gap), None)
    if enough is not None:
        return f" If the difference is what it seems, about {enough} seeds would tell."
    needed = made["task"]["tests"][row["test"]] * (rows / gap) ** 2
    return f" More seeds would not tell; about {round_up(max(needed, 1.0)):,.0f} test rows might." if rows >= gap else ""


def _number_compared(made: Mapping[str, Any]) -> int:
    """The number of comparisons that share one family-wise level."""
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    return sum((row["test"], row["metric"]) == (test, metric) for row in made["comparisons"])


def _poor_teacher(made: Mapping[str, Any]) -> str:
    """A sentence where the teacher is no better than a student that never saw it: nothing can be learnt from it then."""
    test, metric, baseline = made["headline"]["test"], made["headline"]["metric"], made["baseline"]
    taught = (made["teacher"] or {"metrics": {}})["metrics"].get(test, {}).get(metric)
    if taught is None or test not in made["arms"].get(baseline, {"metrics": {}})["metrics"]:
        return ""
    if sign_of(metric) * taught > sign_of(metric) * _mean(made, baseline):
        return ""
    return f" The teacher itself ({score(taught)}) is no better than the student without it: train it longer, or take another."


def said_of(made: Mapping[str, Any], one: str, other: str) -> str:
    """"better", "worse" or "tie"; a pair without a common seed counts as a tie too."""
    row = pair(made, one, other)
    return "tie" if row is None else row["verdict"]


def round_up(value: float) -> float:
    """The next of …, 1, 1.5, 2, 3, 5, 7, 10, …

    >>> round_up(4.2), round_up(0.31), round_up(10.0)
    (5.0, 0.5, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(value))
    return next(round(step * power, 12) for step in (1, 1.5, 2, 3, 5, 7, 10) if step * power >= value * (1 - 1e-9))


def _mean(made: Mapping[str, Any], name: str) -> float:
    return made["arms"][name]["metrics"][made["headline"]["test"]][made["headline"]["metric"]]["mean"]


def _latency(made: Mapping[str, Any], name: str) -> float:
    return latencies(made)[name]


def latencies(made: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of each arm, the same for arms that the clock cannot tell apart: those of equal operations, and those whose
    medians differ by less than half an interquartile range. Each has the least of its group, so that no arm is recommended
    for what a busy moment did to another."""
    times = {name: arm["latency_ms"] for name, arm in made["arms"].items() if arm["latency_ms"]}
    flops = {name: made["arms"][name]["flops"] for name in times}
    found: dict[str, float] = {}
    for name in sorted(times, key=lambda name: (times[name]["median"], name)):
        noise = times[name]["iqr"] / 2
        like = [one for one in found if flops[one] == flops[name]]
        near = [one for one in found if times[name]["median"] - found[one] <= max(noise, times[one]["iqr"] / 2)]
        found[name] = found[(like or near)[0]] if like or near else times[name]["median"]
    return found


def _amount(made: Mapping[str, Any], name: str) -> float:
    return made["arms"][name]["spent"]["amount"]
