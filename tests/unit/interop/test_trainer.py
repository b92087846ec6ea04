"""DistilTrainer: the gradients of our own loop, a Trainer in everything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fits
import numpy as np
import pytest
import torch
import toys
import trainers
import transformers
from safetensors.torch import load_file

from understudy import kinds
from understudy.base.errors import DivergedError
from understudy.base.schedule import Ramp
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache
from understudy.interop.pack import pack
from understudy.interop.trainer import FILE
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.objective import Objective
from understudy.objective.terms import hard_labels, soft_labels
from understudy.train import loop


def gradients_of_our_loop(
    folder: Path, kind: str, objective: Objective, monkeypatch: Any, *, student: Any = None, teacher: Any = None
) -> dict[str, torch.Tensor]:
    """One step of all 16 rows, in micro-batches of ours where terms allow it. `student` and `teacher` are networks."""
    seen: dict[str, torch.Tensor] = {}
    model = fits.model(kind, dropout=0.0)
    task = fits.make(
        folder, kind, model=replace(model, net=student or model.net), data=[fits.encoded(16, kind=kind)], objective=objective,
        train={"max_tokens": 40, "shuffle": False},
    )  # fmt: skip
    teacher = Model(teacher or trainers.teacher(kind), toys.tokenizer(), (), kind, "toy", None)
    task.teachers = [LiveTeacher(teacher, task.data[0], objective.needs_teacher, "fp32", lambda _: None)]
    original = loop.clip_gradients

    def watch(parameters: Any, settings: Any) -> torch.Tensor:
        modules = {"net": task.model.net, "objective": objective}
        seen.update({
            f"{part}.{name}": p.grad.clone()
            for part, module in modules.items() for name, p in module.named_parameters() if p.grad is not None
        })  # fmt: skip
        return original(parameters, settings)

    monkeypatch.setattr(loop, "clip_gradients", watch)
    fits.run(task, until_step=1)
    return seen


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert set(one) == set(other)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=tolerance, msg=lambda text: f"{name}: {text}")  # noqa: B023


@pytest.mark.parametrize("kind", trainers.KINDS)
@pytest.mark.parametrize(("size", "parts"), [(4, 4), (16, 1)])
def test_its_gradients_are_those_of_our_loop(kind, size, parts, tmp_path, monkeypatch):
    """Padded or packed, in four parts or whole; the projections' gradients too."""
    expected = gradients_of_our_loop(tmp_path / "ours", kind, trainers.objective(kind), monkeypatch)
    callback = trainers.Gradients()
    trainer = trainers.trainer(
        tmp_path / "theirs", kind, callbacks=[callback],
        args={"per_device_train_batch_size": size, "gradient_accumulation_steps": parts, "max_grad_norm": 0.0},
    )  # fmt: skip
    callback.learner = trainer.learner
    trainer.train()
    assert len(callback.steps) == 1 and any(name.startswith("objective.") for name in expected)
    same(expected, callback.steps[0], 1e-6)


@pytest.mark.parametrize("kind", ["classification", "tokens"])
@pytest.mark.parametrize("family", ["roberta", "distilbert", "deberta-v2", "modernbert"])
def test_so_they_are_in_other_families(family, kind, tmp_path, monkeypatch):
    """Positions counted from an offset, no types of tokens, layers that are run padded."""

    def nets() -> dict[str, Any]:
        teacher = trainers.of_family(family, kind, seed=7, hidden_size=trainers.WIDE, num_hidden_layers=3)
        return {"student": trainers.of_family(family, kind, seed=0), "teacher": teacher}

    expected = gradients_of_our_loop(tmp_path / "ours", kind, trainers.objective(kind), monkeypatch, **nets())
    callback, made = trainers.Gradients(), nets()
    trainer = trainers.trainer(
        tmp_path / "theirs", kind, model=made["student"], teacher=made["teacher"], callbacks=[callback],
        args={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_grad_norm": 0.0},
    )  # fmt: skip
    callback.learner = trainer.learner
    trainer.train()
    assert len(callback.steps) == 1 and any(name.startswith("net.") for name in expected)
    same(expected, callback.steps[0], 1e-6)


def test_pairwise_terms_see_the_whole_batch(tmp_path, monkeypatch):
    """In the same order of rows: the distances of RKD round differently in another."""
    objective = trainers.objective(pairwise=True)
    expected = gradients_of_our_loop(tmp_path / "ours", "classification", objective, monkeypatch)
    callback = trainers.Gradients()
    trainer = trainers.trainer(
        tmp_path / "theirs", callbacks=[callback], objective=trainers.objective(pairwise=True),
        args={"per_device_train_batch_size": 16, "max_grad_norm": 0.0, "train_sampling_strategy": "sequential"},
    )  # fmt: skip
    callback.learner = trainer.learner
    trainer.train()
    same(expected, callback.steps[0], 1e-6)


def test_left_padding_and_no_mask_make_no_difference():
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    right = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([0, 1])}
    turned = torch.tensor([[5, 6, 7], [0, 8, 9]])
    left = {**right, "input_ids": turned, "attention_mask": (turned > 0).long()}
    kind = kinds.kind("classification")
    assert pack(right, kind).input_ids.tolist() == pack(left, kind).input_ids.tolist()
    assert pack({"input_ids": ids}, kind).sizes == [3, 3]


@pytest.mark.parametrize("kind", trainers.KINDS)
def test_evaluation_and_prediction_are_the_stock_ones(kind, tmp_path):
    """The same logits, labels, loss and metrics as a Trainer without us, before and after training."""

    def metrics(seen: Any) -> dict[str, float]:
        return {"sum": float(np.abs(seen.predictions).sum()), "shape": float(seen.predictions.ndim)}

    held_out = trainers.rows_of(fits.encoded(10, kind=kind, seed=1))
    ours = trainers.trainer(tmp_path / "ours", kind, eval_dataset=held_out, compute_metrics=metrics)
    stock = transformers.Trainer(
        model=ours.model, args=trainers.arguments(tmp_path / "stock"), eval_dataset=held_out, compute_metrics=metrics,
        data_collator=trainers.collator(kind),
    )  # fmt: skip
    for _ in range(2):
        one, other = ours.predict(held_out), stock.predict(held_out)
        np.testing.assert_array_equal(one.predictions, other.predictions)
        np.testing.assert_array_equal(one.label_ids, other.label_ids)
        for name in ("test_loss", "test_sum", "test_shape"):
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-6)
        unlabelled = [{k: v for k, v in row.items() if k != "labels"} for row in held_out]
        if kind not in ("tokens", "text"):  # their collators pad labels
            np.testing.assert_array_equal(ours.predict(unlabelled).predictions, one.predictions)
        ours.train()


def test_it_learns_and_saves_a_stock_folder(tmp_path):
    """Nothing of the objective in the folder; transformers alone reads it and says the same."""

    def accuracy(seen: Any) -> dict[str, float]:
        return {"accuracy": float((seen.predictions.argmax(1) == seen.label_ids).mean())}

    trainer = trainers.trainer(
        tmp_path, train_dataset=trainers.rows_of(fits.encoded(64)), eval_dataset=trainers.rows_of(fits.encoded(32, seed=1)),
        objective=Objective(hard=hard_labels("classification"), soft=0.1 * soft_labels("classification")),
        args={"num_train_epochs": 6}, compute_metrics=accuracy,
    )  # fmt: skip
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.8
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    first = logged[0]
    assert first["loss"] == pytest.approx(first["loss_hard"] + 0.1 * first["loss_soft"], rel=1e-4)
    trainer.save_model(str(tmp_path / "student"))
    files = {path.name for path in (tmp_path / "student").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files and FILE not in files
    net = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert all(tensor.equal(net.state_dict()[name]) for name, tensor in trainer.model.state_dict().items())
    assert load_model(str(tmp_path / "student")).kind == "classification"


def test_it_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    """Dropout, projections and their moments included."""

    def made(folder: str, **args: Any) -> Any:
        return trainers.trainer(
            tmp_path / folder, model=fits.model(dropout=0.1).net, train_dataset=trainers.rows_of(fits.encoded(32)),
            args={"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 5, **args},
        )  # fmt: skip

    whole = made("whole")
    whole.train()
    again = made("again")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
    assert again.state.global_step == 16
    for one, other in zip(whole.learner.state_dict().items(), again.learner.state_dict().items(), strict=True):
        assert one[0] == other[0] and one[1].equal(other[1]), one[0]
    kept = load_file(tmp_path / "whole" / "checkpoint-5" / FILE)
    start = trainers.objective().state_dict()
    assert any(not kept[name].equal(tensor) for name, tensor in start.items())  # they have learnt


def test_projections_come_back_with_the_best_weights(tmp_path):
    held_out = trainers.rows_of(fits.encoded(16, seed=1))
    trainer = trainers.trainer(
        tmp_path, eval_dataset=held_out, compute_metrics=lambda _: {"score": -trainer.state.global_step},
        args={"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
              "load_best_model_at_end": True, "metric_for_best_model": "score", "num_train_epochs": 2},
    )  # fmt: skip
    trainer.train()
    best = load_file(tmp_path / "checkpoint-2" / FILE)
    assert all(tensor.equal(best[name]) for name, tensor in trainer.objective.state_dict().items())


def test_ramps_follow_the_training(tmp_path):
    """A weight that falls from 1 to 0: the loss of step s of 4 is its value times 1 - s / 4."""
    trainer = trainers.trainer(
        tmp_path, objective=Objective(soft=Ramp(1.0, 0.0) * soft_labels("classification")), args={"logging_steps": 1}
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["loss"] / entry["loss_soft"] for entry in logged] == pytest.approx([1.0, 0.75, 0.5, 0.25], rel=1e-3)


@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_a_store_says_what_the_teacher_says(kind, tmp_path):
    """Signals read by row number give the weights that a live teacher gives."""
    encoded = fits.encoded(16, kind=kind)
    rows = [{**row, "row": i} for i, row in enumerate(trainers.rows_of(encoded))]
    net = trainers.teacher(kind)
    model = Model(net, toys.tokenizer(), fits.task(kind).labels, kind, "toy", None)
    cache = SignalCache(tmp_path / "store", model=model, digest=digest(net), encoded=encoded, precision="fp32")
    needs = trainers.objective(kind).needs_teacher
    cache.fill(needs, lambda _: None)
    live, stored = (
        trainers.trainer(tmp_path / name, kind, train_dataset=rows, eval_dataset=rows, **given)
        for name, given in {"live": {}, "stored": {"teacher": CachedTeacher(cache, needs)}}.items()
    )
    for one in (live, stored):
        one.train()
    for name, tensor in live.learner.state_dict().items():
        torch.testing.assert_close(stored.learner.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert np.isfinite(stored.evaluate()["eval_loss"])  # the column does not disturb the stock model


def test_a_loss_that_is_no_number_stops_before_the_weights_change(tmp_path):
    trainer = trainers.trainer(tmp_path)
    with torch.no_grad():
        trainer.teacher.net.classifier.bias.fill_(float("nan"))
    before = {name: tensor.clone() for name, tensor in trainer.learner.state_dict().items()}
    with pytest.raises(DivergedError, match="'soft' is nan.*out of the teacher.*learning_rate"):
        trainer.train()
    assert all(tensor.equal(before[name]) for name, tensor in trainer.learner.state_dict().items())


def test_in_bf16_it_trains_and_evaluates(tmp_path):
    held_out = trainers.rows_of(fits.encoded(8, seed=1))
    trainer = trainers.trainer(tmp_path, eval_dataset=held_out, args={"bf16": True})
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    assert all(p.dtype == torch.float32 for p in trainer.learner.parameters())


def test_it_can_be_trained_twice(tmp_path):
    trainer = trainers.trainer(tmp_path)
    trainer.train()
    assert trainer.train().global_step == 4
