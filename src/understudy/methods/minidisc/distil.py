"""MiniDisc, the minimal distillation schedule: between a teacher and a much smaller student stands one assistant, chosen
among sub-networks that were trained together (Zhang et al., EACL 2024, arXiv 2205.14570).

    1  importance: heads and neurons of the fine-tuned teacher, ranked          allocation
    2  the candidates for the assistant learn together, as prefixes             Nested, lab.fit_together
    3  one is chosen by T(s) = score + lam · s                                  choose, choose_as_released
    4  the assistant, cut to the student's size, learns from the assistant      lab.fit

docs/minidisc.md lists every knob and every difference to the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.progress import say
from understudy.lab import Lab, Source
from understudy.lab.fits import Trained
from understudy.lab.objective import about, learn, objective_for
from understudy.lab.pruning import allocation
from understudy.lab.stages import Planned, costs, student_of, together, units
from understudy.methods.minidisc.plan import assistants, candidates, scales, target_sparsity
from understudy.methods.minidisc.settings import MiniDisc
from understudy.models.model import Model
from understudy.recipe.staged import Waypoint
from understudy.students.nested import Nested


def distil(cfg: MiniDisc, lab: Lab) -> Model:
    """Assistants, one after the other, then the student."""
    target = target_sparsity(cfg, lab.recipe.student, lab.data.task.select)
    if target is None:
        target = allocation(lab, lab.teacher().model, None).sparsity
    source, at, stages = lab.teacher(), 0.0, list[Planned]()
    for number in range(1, cfg.iterations):
        among = assistants(cfg, number, at, target)
        if not among:
            break
        if cfg.selector == "tradeoff":
            trained = _together(cfg, lab, f"candidates-{number}", source, among)
            stages.append((f"candidates-{number}", 1 - at, scales(cfg, among)))
            chosen = _chosen(cfg, lab, number, trained, at, target)
            model = trained[chosen].load()
        else:
            (chosen,) = among
            model = _alone(cfg, lab, f"assistant-{number}", source, chosen, shared=True)
            stages.append((f"assistant-{number}", 1 - at, [1 - chosen]))
        if chosen == target:
            say("The student's own sparsity was chosen, so there is no assistant and the student is finished.")
            _keep_costs(lab, stages, target)
            return model
        source, at = Source.of(model), chosen
    if cfg.parity and cfg.selector == "tradeoff":
        # As released: everything from the assistant's sparsity on is trained once more, also beyond the student.
        among = candidates(cfg, at, target)
        student = _together(cfg, lab, "student", source, among, watched=target)[target].load()
    else:
        among = [target]
        student = _alone(cfg, lab, "student", source, target)
    _keep_costs(lab, [*stages, ("student", 1 - at, [1 - s for s in among])], target)
    return student


def tradeoff(score: float, sparsity: float, lam: float) -> float:
    """T(s) = score + lam · s, with a score of at most 1.

    >>> round(tradeoff(0.8704, 0.8, 0.2), 4)
    1.0304
    """
    return score + lam * sparsity


def choose(scores: Mapping[float, float], *, lam: float) -> float:
    """The sparsity with the highest T; of equal ones the smaller network."""
    return max(scores, key=lambda s: (tradeoff(scores[s], s, lam), s))


def choose_as_released(
    values: Mapping[float, Sequence[Sequence[float]]], *, lam: float, at: float, target: float
) -> float:
    """The sparsity that the released code ends with.

    After each evaluation it takes the highest T of the running maxima; beyond the student that becomes the student's own
    score, without the bonus; the first evaluation with the highest such value wins. (It compares sparsities as texts,
    which for two digits is the same.)

    Args:
        values: for each sparsity its [step, score] pairs.
    """
    best: dict[float, float] = {}
    found: tuple[float, float] | None = None
    for row in zip(*values.values(), strict=True):
        for sparsity, (_, score) in zip(values, row, strict=True):
            best[sparsity] = max(score, best.get(sparsity, score))
        sparsity = max((s for s in best if s >= at), key=lambda s: tradeoff(best[s], s, lam))
        value = tradeoff(best[sparsity], sparsity, lam)
        if sparsity > target:
            sparsity, value = target, best[target]
        if found is None or value > found[1]:  # Deviates: released, a value of 0 or below is never saved
            found = (sparsity, value)
    assert found is not None
    return found[0]


def _together(
    cfg: MiniDisc, lab: Lab, name: str, source: Source, among: Sequence[float], *, watched: float | None = None
) -> dict[float, Trained]:
    """Train these sparsities as sub-networks of the largest, which starts from the source."""
    labels = {s: Waypoint(sparsity=s).label for s in among}
    allocations = {labels[s]: allocation(lab, lab.teacher().model, s) for s in among}
    model = student_of(lab, Waypoint(sparsity=among[0]), source.model)
    patient_for = None if watched is None else [labels[watched]]
    views = Nested(model, allocations, sandwich=cfg.sandwich, seed=lab.recipe.seed, watched=patient_for)
    kept = {label: [allocation.widths, allocation.keeps_bias] for label, allocation in allocations.items()}
    more = {"views": kept, "sandwich": cfg.sandwich, "watched": views.watched}
    objective = objective_for(lab, model, source)
    # The student is the run's own, so that the end of its training can be repeated; the rest is for all runs, and with
    # another lam nothing is trained again.
    shared = watched is None
    trained = lab.fit_together(name, model, views, objective, source, about=about(lab, **more), shared=shared)
    return {s: trained[labels[s]] for s in among}


def _alone(cfg: MiniDisc, lab: Lab, name: str, source: Source, sparsity: float, *, shared: bool = False) -> Model:
    """Train one student of a source, starting from the source."""
    model = student_of(lab, Waypoint(sparsity=sparsity), source.model)
    return learn(lab, name, model, source, shared=shared)


def _keep_costs(lab: Lab, stages: Sequence[Planned], target: float) -> None:
    """What every stage cost, beside what direct distillation costs, kept with the run."""

    def made() -> dict[str, Any]:
        lines = costs(lab, stages)
        return {"stages": lines, "total": together(lines), "direct": units(1.0, [1 - target])}

    lab.keep("cost", {"stages": [list(stage) for stage in stages]}, made)


def _chosen(
    cfg: MiniDisc, lab: Lab, number: int, trained: Mapping[float, Trained], at: float, target: float
) -> float:
    """Choose once and for all, and show the table of T(s)."""
    scores = {s: one.best_value for s, one in trained.items()}
    if cfg.parity:
        chosen = choose_as_released({s: one.values for s, one in trained.items()}, lam=cfg.lam, at=at, target=target)
    else:
        chosen = choose(scores, lam=cfg.lam)
    rows = [
        {"sparsity": s, "score": scores[s], "step": trained[s].best_step, "T": tradeoff(scores[s], s, cfg.lam)} for s in scores
    ]
    made = {"metric": lab.data.task.select, "lam": cfg.lam, "target": target, "rows": rows, "chosen": chosen}
    kept = lab.keep(f"choice-{number}", made, lambda: made)
    say(table(kept))
    return kept["chosen"]


def table(choice: Mapping[str, Any]) -> str:
    """T(s) of every candidate, for people."""
    lines = [f"Assistants: T(s) = {choice['metric']} + {choice['lam']:g} · s, on held-out rows"]
    for row in choice["rows"]:
        mark = "  <- chosen" if row["sparsity"] == choice["chosen"] else ""
        label = Waypoint(sparsity=row["sparsity"]).label
        lines.append(f"  {label:>6}  {choice['metric']} {row['score']:.4f}  T {row['T']:.4f}{mark}")
    return "\n".join(lines)
