"""KD-NAS: many short distillations find the architecture, one thorough distillation makes the student.

Trivedi et al. 2023 (arXiv 2303.09639, IBM) as reproduced by its public re-implementation; docs/kdnas.md lists every
knob, every difference and the patent notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from understudy.base.errors import DataError, RecipeError
from understudy.base.progress import say
from understudy.evaluate.significance import front
from understudy.lab import Lab
from understudy.methods.kdnas.candidates import Candidates, learning
from understudy.methods.kdnas.reward import ranked, trained
from understudy.methods.kdnas.settings import KDNAS, STUDY
from understudy.methods.kdnas.space import DIMENSIONS, Architecture, as_config
from understudy.models.model import Model
from understudy.steps import key_of, read_done, step_folder

if TYPE_CHECKING:
    from understudy.methods.kdnas.study import Study


def distil(cfg: KDNAS, lab: Lab) -> Model:
    """Search, then full KD of the best candidates; the best of these is the student."""
    candidates = Candidates(cfg, lab)
    say(f"method.space: {candidates.space.describe()}")
    found = _search(cfg, lab, candidates)
    lab.seconds["search"] = found["seconds"]
    best = ranked(found["rows"])[: cfg.top_k]
    if not best:
        raise DataError("No candidate was trained: all failed, or were over method.space.max_latency_ms.")
    students, rows = [], []
    for rank, row in enumerate(best, start=1):
        name = "student" if rank == 1 else f"student-{rank}"
        students.append(_full_kd(cfg, lab, candidates, row, name))
        rows.append(_full_row(lab, candidates, row, name))
    chosen = max(range(len(rows)), key=lambda i: rows[i]["reward"])
    kept = {"mini": [row["point"] for row in best], "learning": learning(lab)}
    lab.keep("full-kd", kept, lambda: {"rows": rows, "chosen": chosen})
    return students[chosen]


def untrained(cfg: KDNAS, lab: Lab) -> Model:
    """The student that a finished search found, before training: what the baseline starts from."""
    search, full = (read_done(step_folder(lab.folder, name))["value"] for name in ("search", "full-kd"))
    point = full["rows"][full["chosen"]]["point"]
    (row,) = (row for row in search["rows"] if row["point"] == point)
    return lab.student(as_config(_architecture(row), lab.pretrained().model.net.config))


def join(cfg: KDNAS, lab: Lab) -> int:
    """Work on the search of a run beside its own process, until it is over; returns how many candidates were tried in all."""
    candidates = Candidates(cfg, lab)
    study = _study(cfg, lab, candidates)
    try:
        study.work(candidates.evaluate, after=lambda: candidates.tidy(study.rows()))
        return len(study.rows())
    finally:
        study.close()


def _study(cfg: KDNAS, lab: Lab, candidates: Candidates) -> Study:
    try:
        from understudy.methods.kdnas.engines import make_engine
        from understudy.methods.kdnas.study import Study, database
    except ImportError as error:
        raise RecipeError(f"A search needs more packages ({error.name}): pip install 'understudy-lm[search]'.") from None
    engine = make_engine(
        cfg.engine,
        candidates.space,
        seed=lab.recipe.seed,
        episodes=cfg.episodes,
        candidates=cfg.candidates,
        controller=cfg.controller,
        parity=cfg.parity != "none",
    )
    return Study(
        lab.folder / STUDY,
        engine,
        trials=cfg.trials,
        storage=database(cfg.storage),
        name="understudy" if cfg.storage is None else lab.folder.absolute().name,
        key=key_of(_about(cfg, lab, candidates)),
        heartbeat=cfg.heartbeat,
        halving=cfg.halving,
    )


def _search(cfg: KDNAS, lab: Lab, candidates: Candidates) -> dict[str, Any]:
    """The finished search as plain data, in a step of its own: a resumed run cannot find another student."""

    def run() -> dict[str, Any]:
        study = _study(cfg, lab, candidates)
        try:
            study.work(candidates.evaluate, after=lambda: candidates.tidy(study.rows()))
            rows = study.rows()
            done = trained(rows)
            best = front(*([row[key] for row in done] for key in ("quality", "latency_ms", "parameters")))
            return {
                "engine": cfg.engine,
                "space": {"points": len(candidates.space), "text": candidates.space.describe()},
                "rows": rows,
                "front": [done[i]["point"] for i in best],
                "importance": study.importance(),
                "seconds": sum(row.get("wall_seconds") or row["seconds"] or 0.0 for row in rows),
            }
        finally:
            study.close()

    return lab.keep("search", _about(cfg, lab, candidates), run)


def _about(cfg: KDNAS, lab: Lab, candidates: Candidates) -> dict[str, Any]:
    """Everything that decides what the search finds."""
    return {
        "method": cfg.model_dump(mode="json", exclude={"storage", "heartbeat", "top_k", "reinit"}),
        **learning(lab),
        "teacher": candidates.teacher.digest,
        "data": lab.data.digest(),
        "train": lab.recipe.train.model_dump(mode="json"),
        "latency": lab.recipe.evaluate.latency.model_dump(),
        "seed": lab.recipe.seed,
    }


def _full_kd(cfg: KDNAS, lab: Lab, candidates: Candidates, row: dict[str, Any], name: str) -> Model:
    """Thorough distillation of one candidate, from where its mini-KD ended or anew."""
    one = _architecture(row)
    model, learned = (candidates.student(one), None) if cfg.reinit else candidates.trained(row["point"])
    objective = candidates.objective(model, thorough=True)
    if learned is not None:
        candidates.take_seconds(row["point"])
        if cfg.parity == "none":  # the released code starts a new projection
            objective.projections.load_state_dict(learned.projections.state_dict(), strict=False)
    about = {**learning(lab), "architecture": str(one), "reinit": cfg.reinit}
    return lab.fit(name, model, objective, teacher=candidates.teacher, about=about)


def _full_row(lab: Lab, candidates: Candidates, row: dict[str, Any], name: str) -> dict[str, Any]:
    """What full KD made of a candidate, in the terms of the search."""
    scores = read_done(step_folder(lab.folder, name))["best_metrics"]
    quality = candidates.quality_of(scores)
    reward = candidates.reward(quality, row["latency_ms"], row["teacher_latency_ms"])
    return {
        "step": name, "point": row["point"], "mini_quality": row["quality"], "mini_reward": row["value"], "quality": quality,
        "reward": reward,
    }  # fmt: skip


def _architecture(row: dict[str, Any]) -> Architecture:
    return Architecture(**{name: row[name] for name in DIMENSIONS})
