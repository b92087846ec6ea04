"""MaxiDisc, the maximal effort: a student for every assistant, trained from beginning to end, and the best one kept
(Zhang et al., EACL 2024, arXiv 2205.14570).

A way is a list of stages, the student last; each stage starts from the one before, if that contains it, and learns from
it. Stages are durable steps that all ways and all runs share: the key of a step holds the digest of its teacher, what was
cut, the data, the settings and the seed. A way of one stage is conventional distillation.

docs/minidisc.md lists every knob and every difference to the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.progress import say
from understudy.kinds import sign_of
from understudy.lab import Lab, Source
from understudy.lab.objective import learn
from understudy.lab.stages import costs, outcome, student_of, together, units
from understudy.methods.maxidisc.plan import Way, name_of, step_name, ways
from understudy.methods.maxidisc.settings import MaxiDisc
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.recipe.staged import Waypoint, scale_of, target_of


def distil(cfg: MaxiDisc, lab: Lab) -> Model:
    """Go every way, with every seed; return the student of the best."""
    depth = anatomy(lab.teacher().model.net).num_layers(lab.teacher().model.net)
    target = target_of(lab.recipe.student)
    seeds = cfg.seeds or (lab.recipe.seed,)
    found = ways(cfg, target, depth)
    trials = [_trial(cfg, lab, way, seed, depth) for way in found for seed in seeds]
    if len(trials) == 1:
        about_costs = {"stages": [stage["stage"] for stage in trials[0]["stages"]]}
        direct = units(1.0, [scale_of(target, depth)])
        spent = {"stages": trials[0]["stages"], "total": together(trials[0]["stages"]), "direct": direct}
        lab.keep("cost", about_costs, lambda: spent)
        return _walk(cfg, lab, found[0], seeds[0])
    made = _compared(trials, lab.data.task.select)
    kept = lab.keep("trials", {"trials": [[trial["way"], trial["seed"], trial["score"]] for trial in trials]}, lambda: made)
    say(table(kept))
    names = [name_of(way) for way in found]
    return _walk(cfg, lab, found[names.index(kept["chosen"]["way"])], kept["chosen"]["seed"])


def _walk(cfg: MaxiDisc, lab: Lab, way: Way, seed: int) -> Model:
    """Train the stages of a way, or load them, and return the student."""
    teacher = lab.teacher()
    source, before, model = teacher, None, teacher.model
    for number, stage in enumerate(way, start=1):
        start = source.model if before is not None and _contains(before, stage) else teacher.model
        model = student_of(lab, stage, start, parity=cfg.parity)
        model = learn(lab, step_name(way[:number], seed, lab.recipe.seed), model, source, seed=seed, shared=True)
        source, before = Source.of(model), stage
    return model


def _contains(large: Waypoint, small: Waypoint | None) -> bool:
    """Whether a stage holds all weights that another one starts from: layers of layers, prefixes of prefixes."""
    if small is None:
        return False
    if large.layers is not None and small.layers is not None:
        return large.layers >= small.layers
    return large.sparsity is not None and small.sparsity is not None and large.sparsity <= small.sparsity


def _trial(cfg: MaxiDisc, lab: Lab, way: Way, seed: int, depth: int) -> dict[str, Any]:
    """Go one way and say what it led to."""
    _walk(cfg, lab, way, seed)
    names = [step_name(way[: number + 1], seed, lab.recipe.seed) for number in range(len(way))]
    teachers = [1.0, *(scale_of(stage, depth) for stage in way)]
    planned = [
        (name, teacher, [scale_of(stage, depth)])
        for name, teacher, stage in zip(names, teachers, way, strict=False)  # the last stage does not teach
    ]
    lines = costs(lab, planned)
    done = outcome(lab, names[-1])
    return {
        "way": name_of(way),
        "seed": seed,
        "score": done["best_metrics"][lab.data.task.select],
        **together(lines),
        "stages": lines,
    }


def _compared(trials: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """All trials in one table. The best mean over seeds chooses the way, the best score on it the student."""
    sign = sign_of(metric)
    by_way: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        by_way.setdefault(trial["way"], []).append(trial)
    means = {way: sign * sum(trial["score"] for trial in of) / len(of) for way, of in by_way.items()}
    best = max(means, key=lambda way: (means[way], -by_way[way][0]["units"]))
    student = max(by_way[best], key=lambda trial: sign * trial["score"])
    stages = {stage["stage"]: stage for trial in trials for stage in trial["stages"]}  # shared ones count once
    return {
        "metric": metric,
        "rows": [dict(trial) for trial in trials],
        "total": together(list(stages.values())),
        "chosen": {"way": best, "seed": student["seed"]},
    }


def table(trials: Mapping[str, Any]) -> str:
    """Every trial in a line, for people."""
    metric, chosen = trials["metric"], trials["chosen"]
    lines = [f"Trials: {metric} on held-out rows; cost in forward passes of the teacher for each example"]
    for row in trials["rows"]:
        mark = "  <- chosen" if row["way"] == chosen["way"] and row["seed"] == chosen["seed"] else ""
        lines.append(
            f"  {row['way']:>16}  seed {row['seed']}  {metric} {row['score']:.4f}  cost {row['units']:.2f}  "
            f"{row['seconds']:.0f} s{mark}"
        )
    whole = trials["total"]
    lines.append(f"  {'all together':>16}  cost {whole['units']:.2f}  {whole['seconds']:.0f} s (a shared stage counts once)")
    return "\n".join(lines)
