"""A stage may have rows and labels of its own: scored, saved and loaded as that task's, taught by the same teacher."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import runs
import torch

from understudy.data.types import TaskData
from understudy.lab import Lab
from understudy.lab.fits import labels_only
from understudy.models.load import load_model
from understudy.models.model import digest
from understudy.models.needs import Needs
from understudy.objective import Objective
from understudy.objective.terms import hard_labels, logit_mse
from understudy.recipe.load import recipe_from
from understudy.recipe.settings import TrainSettings
from understudy.train.guard import StopSignals

LABELS = ("sure and right", "unsure but right", "unsure and wrong", "sure but wrong")


@pytest.fixture
def lab(toy_checkpoint: Path, toy_csv: Path, understudy_home: Path, tmp_path: Path) -> Lab:
    return Lab(recipe_from(runs.recipe(toy_checkpoint, toy_csv)), tmp_path / "run", StopSignals())


def later(lab: Lab, name: str | None = None) -> Lab:
    return Lab(lab.recipe, lab.folder if name is None else lab.folder.parent / name, StopSignals())


def signals(lab: Lab, rows: TaskData | None = None, split: str = "train"):
    """What the teacher says about the rows of a split."""
    rows = rows or lab.data
    teacher = lab.teacher()
    return lab.signals(teacher, Needs(logits=True), lab.encoded(teacher.model, getattr(rows, split), rows=rows)[0])


def four_classes(lab: Lab) -> TaskData:
    """Labels that only the teacher can give: how sure it is, and whether it is right."""
    parts = {}
    for split in ("train", "select"):
        examples = getattr(lab.data, split)
        said = signals(lab, split=split).signals(np.arange(len(examples))).logits
        assert said is not None
        sure = said.softmax(1).max(1).values
        order = sure.argsort().argsort() >= len(examples) // 2
        labels = [
            2 * int(said[i].argmax() != row.label) + int(order[i] == (said[i].argmax() != row.label))
            for i, row in enumerate(examples)
        ]
        parts[split] = [dataclasses.replace(row, label=label) for row, label in zip(examples, labels, strict=True)]
    task = dataclasses.replace(lab.data.task, name="sureness", labels=LABELS, metrics=("accuracy",), select="accuracy")
    return TaskData(task, tests={}, **parts)


def four_outputs(lab: Lab, rows: TaskData):
    teacher = lab.recipe.teacher
    assert teacher is not None
    return load_model(teacher.model, task=rows.task, fresh_head=True)


def test_a_stage_with_other_labels_is_trained_scored_saved_and_loaded_as_its_own_task(lab: Lab, monkeypatch):
    rows = four_classes(lab)
    assert len({row.label for row in rows.train}) >= 2
    settings = TrainSettings(epochs=8, batch_size=16, lr=1e-2, precision="fp32", dropout=0.0)
    model = lab.fit("ptp", four_outputs(lab, rows), labels_only(rows.task), rows=rows, settings=settings)
    assert model.labels == LABELS
    config = json.loads((lab.folder / "steps/ptp/model/config.json").read_text())
    assert [config["id2label"][str(i)] for i in range(4)] == list(LABELS)
    done = json.loads((lab.folder / "steps/ptp/done.json").read_text())
    chance = max(np.bincount([row.label for row in rows.select])) / len(rows.select)
    assert set(done["best_metrics"]) == {"accuracy"} and done["best_metrics"]["accuracy"] >= chance

    monkeypatch.setattr("understudy.lab.bench.fit", lambda *a, **k: pytest.fail("trained again"))
    again = later(lab)
    other = four_classes(again)
    found = again.fit("ptp", four_outputs(again, other), labels_only(other.task), rows=other, settings=settings)
    assert digest(found.net) == digest(model.net)
    assert again.teacher_examples == 0


def test_the_run_goes_on_with_its_own_labels_on_the_same_texts(lab: Lab):
    """One text, two tasks: each is encoded with its own labels."""
    rows = four_classes(lab)
    model = lab.pretrained().model
    own, other = lab.encoded(model, lab.data.train)[0], lab.encoded(model, rows.train, rows=rows)[0]
    assert own.input_ids.tolist() == other.input_ids.tolist()
    assert own.labels.tolist() == [row.label for row in lab.data.train]  # type: ignore[union-attr]
    assert other.labels.tolist() == [row.label for row in rows.train]  # type: ignore[union-attr]
    assert lab.encoded(model, rows.train, rows=rows)[0] is other


def test_the_teacher_is_asked_once_about_a_text_whatever_its_label(lab: Lab):
    signals(lab)
    before = lab.teacher_examples
    rows = four_classes(lab)
    asked_for_select = len(lab.data.select)
    says = signals(lab, rows)
    assert lab.teacher_examples == before + asked_for_select
    assert torch.equal(says.signals([3, 1]).logits, signals(lab).signals([3, 1]).logits)


def test_signals_follow_the_rows_that_are_given(lab: Lab):
    """Some rows in another order: row i of the signals is what the teacher says about row i."""
    order = [7, 3, 11, 0]
    rows = dataclasses.replace(lab.data, train=[lab.data.train[i] for i in order])
    some = signals(lab, rows).signals([0, 1, 2, 3]).logits
    all_of_them = signals(lab).signals(order).logits
    assert torch.allclose(some, all_of_them, atol=1e-5)


def test_a_stage_on_rows_of_its_own_learns_from_the_teacher(lab: Lab):
    """Regression to the teacher's logits on twelve rows: they, and not the first twelve, are what is learnt."""
    rows = dataclasses.replace(lab.data, train=lab.data.train[-12:])
    settings = TrainSettings(epochs=60, batch_size=12, lr=1e-2, precision="fp32", dropout=0.0)
    objective = Objective(logits=logit_mse("classification"))
    model = lab.fit("few", lab.student(), objective, teacher=lab.teacher(), rows=rows, settings=settings)
    losses = [json.loads(line) for line in (lab.folder / "steps/few/metrics.jsonl").read_text().splitlines()]
    values = [line["terms"]["logits"]["value"] for line in losses if "terms" in line]
    assert values[-1] < 0.02 * values[0]
    assert model.labels == lab.data.task.labels


def test_units_of_a_regression_task_are_its_own(toy_checkpoint, toy_csv, understudy_home, tmp_path: Path):
    """A derived score in the thousands beside labels that are classes."""
    lab = Lab(recipe_from(runs.recipe(toy_checkpoint, toy_csv)), tmp_path / "run", StopSignals())
    task = dataclasses.replace(lab.data.task, name="length", kind="regression", labels=(), metrics=("mse",), select="mse")

    def scored(examples):
        return [dataclasses.replace(row, label=1000.0 * len(row.text.split())) for row in examples]

    rows = TaskData(task, scored(lab.data.train), scored(lab.data.select), {})
    mean, deviation = lab.scale_of(rows)
    lengths = [1000.0 * len(row.text.split()) for row in lab.data.train]
    assert (mean, deviation) == pytest.approx((np.mean(lengths), np.std(lengths))) and lab.scale == (0.0, 1.0)
    start = load_model(str(toy_checkpoint), task=task)
    settings = TrainSettings(epochs=8, batch_size=16, lr=1e-2, precision="fp32")
    objective = Objective(hard=hard_labels("regression"))
    model = lab.fit("length", start, objective, rows=rows, settings=settings)
    done = json.loads((lab.folder / "steps/length/done.json").read_text())
    assert done["best_metrics"]["mse"] < 0.5 * np.var(lengths)
    saved = load_model(str(lab.folder / "steps/length/model"), task=task)  # on disk: in the label's own units
    ratio = saved.net.classifier.weight / model.net.classifier.weight
    assert torch.allclose(ratio, torch.full_like(ratio, deviation), rtol=1e-4)
