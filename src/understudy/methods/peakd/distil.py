"""Pea-KD: patient distillation of a student that uses its layers twice and knows beforehand what its teacher is sure of
(Cho & Kang 2020; Patient Knowledge Distillation: Sun et al. 2019).

    1  the teacher is fine-tuned, and its outputs stored                        lab.teacher, lab.signals
    2  SPS: the student's layers are applied twice, queries and keys exchanged  student.share, lab.student
    3  PTP: the student learns to tell the teacher's four classes of rows       pretrained_on_predictions
    4  labels, softened logits and first-token states of the layers             the recipe's `objective`

docs/peakd.md lists every knob and every difference to the released code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from understudy.base import seeds
from understudy.base.progress import say
from understudy.cache import Teacher
from understudy.data.types import Example, Task, TaskData
from understudy.evaluate.predict import gold_labels, predict
from understudy.kinds import kind
from understudy.lab import Lab, Source, copy_of
from understudy.lab.fits import labels_only
from understudy.lab.objective import about, objective_for
from understudy.methods.peakd import ptp
from understudy.methods.peakd.plan import rule
from understudy.methods.peakd.settings import PTP, PeaKD
from understudy.models.model import Model
from understudy.models.needs import Needs
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.settings import TrainSettings
from understudy.students.head import with_encoder, with_labels

PARITY_PLANNED = 6
"""Epochs for which the released code plans the learning rate of PTP, of which it runs two."""


def distil(cfg: PeaKD, lab: Lab) -> Model:
    """All four stages, each a durable step."""
    teacher, student = lab.teacher(), lab.student()
    objective = objective_for(lab, student, teacher)
    notes: list[str] = []
    if cfg.ptp is not None:
        needs = Needs(logits=True) | objective.needs_teacher  # all that is asked of the teacher, in one pass over the rows
        student, notes = pretrained_on_predictions(cfg, cfg.ptp, lab, teacher, student, needs)
    trained = lab.fit("student", student, objective, teacher=teacher, about=about(lab, method=cfg.model_dump(mode="json")))
    return dataclasses.replace(trained, notes=(*trained.notes, *notes))


def pretrained_on_predictions(
    cfg: PeaKD, stage: PTP, lab: Lab, teacher: Source, student: Model, needs: Needs
) -> tuple[Model, list[str]]:
    """The student after it learnt the four classes, with the head it had before; and what is to be said about them."""
    found = classes_of_rows(cfg, stage, lab, teacher, needs)
    counts = found["counts"]["train"]
    notes = ptp.warnings_of(counts, stage.few)
    for note in notes:
        say(note)
    shares = ", ".join(f"{count:,} {name}" for name, count in zip(ptp.CLASSES, counts, strict=True))
    task = lab.data.task
    rows = TaskData(
        task=Task(f"{task.name}-ptp", kind("classification"), ptp.CLASSES, ("loss", "accuracy"), "loss", task.pair),
        train=_labelled(lab.data.train, found["train"]),
        select=_labelled(lab.data.select, found["select"]),
        tests={},
    )
    weights = ptp.balanced(counts) if stage.class_weights else None
    trained = lab.fit(
        "ptp",
        with_labels(student, ptp.CLASSES, seed=seeds.derive(lab.recipe.seed, "ptp")),
        Objective(ptp=hard_labels("classification", class_weights=weights)),
        settings=_ptp_settings(cfg, stage, lab.recipe.train),
        about={"class_weights": weights},
        rows=rows,
    )
    t1, t2 = found["thresholds"]
    said = f"PTP: the teacher's training rows are {shares} (sure above {t1:.4g} where right, {t2:.4g} where wrong)."
    return with_encoder(student, trained), [said, *notes]


def _labelled(examples: list[Example], classes: list[int]) -> list[Example]:
    return [dataclasses.replace(row, label=number) for row, number in zip(examples, classes, strict=True)]


def _ptp_settings(cfg: PeaKD, stage: PTP, train: TrainSettings) -> TrainSettings:
    """Those of the student's training, but for how long and how fast."""
    planned = stage.planned_epochs or (max(PARITY_PLANNED, stage.epochs) if cfg.parity else None)
    changes: dict[str, Any] = {"epochs": stage.epochs, "lr": stage.lr or train.lr, "planned_epochs": planned}
    if cfg.parity:
        changes["shuffle"] = True  # of all stages only this one is shuffled in the released code
    return TrainSettings.model_validate(train.model_dump() | changes)


def classes_of_rows(cfg: PeaKD, stage: PTP, lab: Lab, teacher: Source, needs: Needs) -> dict[str, Any]:
    """The class of each training and selection row, decided once: {"train", "select", "thresholds", "counts"}.

    Thresholds are taken from the training rows and hold for both. With `folds` a training row is judged by the teacher
    that has not seen it; the teacher itself has seen none of the selection rows.
    """
    by = rule(cfg)
    data, kind = lab.data, lab.data.task.kind
    folds = _fold_teachers(stage.folds, lab) if stage.folds else []
    asked = {"train": needs, "select": Needs(logits=True)}
    says = {
        split: lab.signals(teacher, asked[split], lab.encoded(teacher.model, getattr(data, split))[0]) for split in asked
    }
    about = {
        "teacher": teacher.digest,
        "folds": [source.digest for source, _ in folds],
        "rows": data.digest(),
        "rule": by,
        "quantile": cfg.quantile,
    }

    def make() -> dict[str, Any]:
        logits = _logits(says["train"], len(data.train))
        for source, rows in folds:
            logits[rows] = _unseen_logits(lab, source, [data.train[row] for row in rows])
        confidence, right = ptp.judge(logits, gold_labels(kind, data.train), kind)
        held_out = _logits(says["select"], len(data.select))
        judged = {"train": (confidence, right), "select": ptp.judge(held_out, gold_labels(kind, data.select), kind)}
        pair = ptp.thresholds(by, confidence, right, quantile=cfg.quantile, task=data.task.name)
        classes = {split: ptp.classify(sure, good, pair).tolist() for split, (sure, good) in judged.items()}
        counts = {split: ptp.counts_of(found) for split, found in classes.items()}
        return {**classes, "thresholds": list(pair), "counts": counts, "names": list(ptp.CLASSES)}

    return lab.keep("ptp-classes", about, make)


def _logits(teacher: Teacher, rows: int) -> np.ndarray:
    """(N, C): what the teacher says about all rows of a split; in parts, for it may have to run."""
    parts = [teacher.signals(np.arange(start, min(start + 256, rows))).logits for start in range(0, rows, 256)]
    return np.concatenate([part.cpu().double().numpy() for part in parts if part is not None])


def _fold_teachers(folds: int, lab: Lab) -> list[tuple[Source, np.ndarray]]:
    """A teacher for each part of the training rows, fine-tuned on the other parts; and the numbers of the part's rows.

    Rows of one group (translations, copies) are in one part. Shared between runs, as the teacher is.
    """
    settings = lab.recipe.teacher
    assert settings is not None
    data = lab.data
    groups = {name: place for place, name in enumerate(dict.fromkeys(row.group or row.id for row in data.train))}
    seed = lab.recipe.seed if settings.seed is None else settings.seed
    part_of = seeds.permutation(len(groups), seed, "ptp-folds") % folds
    parts = np.array([part_of[groups[row.group or row.id]] for row in data.train])
    found = []
    for part in range(folds):
        others = [row for row, here in zip(data.train, parts, strict=True) if here != part]
        model = lab.fit(
            f"teacher-without-{part + 1}-of-{folds}",
            copy_of(lab.pretrained().model),
            labels_only(data.task),
            settings=lab.teaching,
            seed=settings.seed,
            rows=dataclasses.replace(data, train=others),
            shared=True,
        )
        found.append((Source.of(model), np.flatnonzero(parts == part)))
    return found


def _unseen_logits(lab: Lab, source: Source, examples: list[Example]) -> np.ndarray:
    """(N, C): what the teacher of a fold says about the rows it was not fine-tuned on."""
    return predict(source.model, examples, lab.encoded(source.model, examples)[0]).scores
