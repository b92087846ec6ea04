"""The four stages of Pea-KD on the toy world: what each hands to the next, and what may be left out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch

from understudy.base.errors import RecipeError
from understudy.data.encode import encode
from understudy.evaluate.predict import predict
from understudy.lab import Lab
from understudy.methods.peakd import distil as peakd
from understudy.methods.peakd import ptp
from understudy.methods.peakd.settings import PeaKD
from understudy.models.anatomy import anatomy
from understudy.models.needs import Needs
from understudy.recipe.load import recipe_from
from understudy.recipe.settings import TrainSettings
from understudy.train.guard import StopSignals


@pytest.fixture
def recipe(toy_checkpoint: Path, toy_csv: Path) -> dict[str, Any]:
    changes = {
        "student": {"keep": "first", "num_layers": 2},
        "method": {"name": "peakd", "ptp": {"epochs": 1, "few": 5}},
        "train": {"epochs": 1, "batch_size": 16, "lr": 1e-2, "precision": "fp32"},
    }
    return runs.recipe(toy_checkpoint, toy_csv) | changes


def lab_of(recipe: dict[str, Any], folder: Path, *overrides: str) -> Lab:
    return Lab(recipe_from(recipe, list(overrides)), folder, StopSignals())


def require(lab: Lab) -> None:
    lab.recipe.how.require(lab.recipe.method, lab.recipe, lab.data, None, None)


def distilled(lab: Lab) -> Any:
    return lab.recipe.how.distil(lab.recipe.method, lab)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}


def test_what_each_stage_hands_to_the_next(recipe, understudy_home, tmp_path, monkeypatch):
    lab = lab_of(recipe, tmp_path / "run")
    started: dict[str, dict[str, torch.Tensor]] = {}
    finished: dict[str, dict[str, torch.Tensor]] = {}
    fit = Lab.fit

    def watched(self, name, model, *arguments, **options):
        started[name] = weights(model)
        trained = fit(self, name, model, *arguments, **options)
        finished[name] = weights(trained)
        return trained

    monkeypatch.setattr(Lab, "fit", watched)
    base = weights(lab.student())
    model = distilled(lab)
    head = {"classifier.weight", "classifier.bias"}
    assert list(started) == ["teacher", "ptp", "student"]
    assert started["ptp"]["classifier.weight"].shape[0] == 4
    for name, tensor in base.items():
        if name in head:
            assert torch.equal(started["student"][name], tensor)  # the head of the task, new as without PTP
        else:
            assert torch.equal(started["ptp"][name], tensor), name  # PTP starts from the pre-trained layers
            assert torch.equal(started["student"][name], finished["ptp"][name]), name  # and hands its own over, bit for bit
    assert any(not torch.equal(finished["ptp"][name], base[name]) for name in base if name not in head)
    net = model.net
    assert anatomy(net).num_layers(net) == 4 and len({id(p) for p in net.parameters()}) == len(list(net.parameters()))
    said = [note for note in model.notes if note.startswith("PTP: the teacher's training rows are ")]
    assert len(said) == 1 and "confidently right" in said[0]


def test_classes_are_those_of_the_teacher_by_hand(recipe, understudy_home, tmp_path):
    lab = lab_of(recipe, tmp_path / "run")
    distilled(lab)
    made = json.loads((tmp_path / "run/steps/ptp-classes/done.json").read_text())["value"]
    teacher = lab.teacher().model
    t1, t2 = made["thresholds"]
    everything = {"right": [], "wrong": []}
    for split, examples in (("train", lab.data.train), ("select", lab.data.select)):
        encoded = encode(examples, teacher.tokenizer, lab.data.task, max_length=32)
        for row, logits, given in zip(examples, predict(teacher, examples, encoded).scores, made[split], strict=True):
            powers = np.exp(logits.astype(np.float64))
            confidence, right = powers.max() / powers.sum(), int(logits.argmax()) == row.label
            if split == "train":
                everything["right" if right else "wrong"].append(confidence)
            if abs(confidence - (t1 if right else t2)) > 1e-6:
                assert given == (0 if right else 2) + (confidence <= (t1 if right else t2))
    assert t1 == pytest.approx(np.median(everything["right"]), abs=1e-6)
    if everything["wrong"]:
        assert t2 == pytest.approx(np.median(everything["wrong"]), abs=1e-6)
    assert made["counts"]["train"] == ptp.counts_of(made["train"]) and sum(made["counts"]["train"]) == len(lab.data.train)


def test_targets_go_by_content_never_by_place(recipe, understudy_home, tmp_path):
    """The same rows in another order: each keeps its class, and nobody is asked again. An edited row alone is asked about."""
    lab = lab_of(recipe, tmp_path / "run")
    teacher = lab.teacher()

    def classes(where: str, rows: list[Any]) -> tuple[dict[str, int], int]:
        other = lab_of(recipe, tmp_path / where)
        other.data.train[:] = rows
        before = other.teacher_examples
        assert isinstance(other.recipe.method, PeaKD) and other.recipe.method.ptp is not None
        needs = Needs(logits=True)
        made = peakd.classes_of_rows(other.recipe.method, other.recipe.method.ptp, other, teacher, needs)
        return {row.id: number for row, number in zip(rows, made["train"], strict=True)}, other.teacher_examples - before

    rows = list(lab.data.train)
    first, asked = classes("a", rows)
    assert asked == len(rows) + len(lab.data.select)
    assert classes("b", rows) == (first, 0)  # stored
    turned, asked = classes("c", rows[::-1])
    assert turned == first and asked == 0
    edited = [dataclasses.replace(rows[0], text="the chair is very good and kind"), *rows[1:]]
    _, asked = classes("d", edited)
    assert asked == 1


def test_each_stage_is_kept_and_can_be_repeated_by_itself(recipe, understudy_home, tmp_path, monkeypatch):
    run = tmp_path / "run"
    first = weights(distilled(lab_of(recipe, run)))
    again = lab_of(recipe, run)
    assert all(torch.equal(tensor, first[name]) for name, tensor in weights(distilled(again)).items())
    assert again.teacher_examples == 0
    for step in ("ptp", "ptp-classes", "student"):
        shutil.rmtree(run / "steps" / step)
        repeated = weights(distilled(lab_of(recipe, run)))
        assert all(torch.equal(tensor, first[name]) for name, tensor in repeated.items()), step


@pytest.mark.parametrize(
    ("override", "steps", "layers", "terms"),
    [
        ("method.ptp=off", False, 4, {"hard", "logit_kl", "patient"}),
        ("student.share=none", True, 2, {"hard", "logit_kl", "patient"}),
        ("student.share=sps_no_shuffle", True, 4, {"hard", "logit_kl", "patient"}),
        ("method.beta=0", True, 4, {"hard", "logit_kl"}),
        ("method.train_type=ft", True, 4, {"hard"}),
    ],
)
def test_ablations_are_one_key_each(override, steps, layers, terms, recipe, understudy_home, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        Lab, "fit", lambda self, name, model, objective, **options: seen.setdefault(name, (model, set(objective.terms)))[0]
    )
    monkeypatch.setattr(peakd, "classes_of_rows", lambda cfg, stage, lab, *rest: {
        "train": [0] * len(lab.data.train), "select": [0] * len(lab.data.select), "thresholds": [0.5, 0.5],
        "counts": {"train": [len(lab.data.train), 0, 0, 0]},
    })  # fmt: skip
    distilled(lab_of(recipe, tmp_path / "run", override))
    assert ("ptp" in seen) == steps
    net = seen["student"][0].net
    assert anatomy(net).num_layers(net) == layers and seen["student"][1] == terms


def test_teachers_of_folds_have_not_seen_what_they_judge(recipe, understudy_home, tmp_path, monkeypatch):
    recipe["method"]["ptp"]["folds"] = 3
    learnt, judged = [], []
    fit, unseen = Lab.fit, peakd._unseen_logits

    def watched(self, name, *arguments, **options):
        if name.startswith("teacher-without"):
            assert options["shared"]
            learnt.append({row.id for row in options["rows"].train})
        return fit(self, name, *arguments, **options)

    def watched_logits(lab, source, examples):
        judged.append({row.id for row in examples})
        return unseen(lab, source, examples)

    monkeypatch.setattr(Lab, "fit", watched)
    monkeypatch.setattr(peakd, "_unseen_logits", watched_logits)
    lab = lab_of(recipe, tmp_path / "run")
    assert isinstance(lab.recipe.method, PeaKD) and lab.recipe.method.ptp is not None
    teacher = lab.teacher()
    peakd.classes_of_rows(lab.recipe.method, lab.recipe.method.ptp, lab, teacher, Needs(logits=True))
    everyone = {row.id for row in lab.data.train}
    assert len(learnt) == len(judged) == 3 and set.union(*judged) == everyone
    assert sum(map(len, judged)) == len(everyone)
    for seen, asked in zip(learnt, judged, strict=True):
        assert seen == everyone - asked


def test_what_could_only_fail_late_is_refused_early(recipe, understudy_home, tmp_path):
    with pytest.raises(RecipeError, match="there are none for custom"):
        require(lab_of(recipe, tmp_path / "a", "method.thresholds=published"))
    recipe["method"]["ptp"]["folds"] = 2
    del recipe["teacher"]["finetune"]
    with pytest.raises(RecipeError, match="used as it is"):
        require(lab_of(recipe, tmp_path / "b"))


def test_training_of_ptp_under_parity():
    """Planned for six epochs, stopped after two; shuffled, as no other stage of the released code is."""
    cfg = PeaKD(parity=True)
    assert cfg.ptp is not None
    settings = peakd._ptp_settings(cfg, cfg.ptp, TrainSettings(lr=2e-5, epochs=6, shuffle=False, optimizer="bertadam"))
    assert (settings.epochs, settings.planned_epochs, settings.shuffle, settings.lr) == (2, 6, True, 2e-5)
    plain = PeaKD.model_validate({"ptp": {"epochs": 3, "lr": 1e-4}})
    assert plain.ptp is not None
    settings = peakd._ptp_settings(plain, plain.ptp, TrainSettings(epochs=9, planned_epochs=12))
    assert (settings.epochs, settings.planned_epochs, settings.lr) == (3, None, 1e-4)
