"""Promises R7, R8, R9: what is no number never reaches the weights; a full memory and a split batch change no gradient."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import fits
import pytest
import torch
from torch import Tensor

from understudy.base.errors import DivergedError, ResourceError
from understudy.models.model import digest
from understudy.models.needs import Needs
from understudy.objective import Objective, Seen, Term
from understudy.objective.terms import hard_labels, rkd_distance
from understudy.train import learner, loop


class NoGradient(torch.autograd.Function):
    """A finite number whose gradient is none."""

    @staticmethod
    def forward(ctx, logits: Tensor) -> Tensor:
        ctx.shape = logits.shape
        return logits.sum() * 0.0

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        bad = torch.zeros(ctx.shape)
        bad.view(-1)[0] = float("inf")
        return bad


class Sick:
    """A term that is sick in certain of its calls, in a certain way, and 0 in all others."""

    def __init__(self, how: str, calls: set[int]) -> None:
        self.how, self.calls, self.seen = how, calls, -1

    def __call__(self, seen: Seen) -> Tensor:
        self.seen += 1
        logits = seen.student.logits
        assert logits is not None
        if self.seen not in self.calls:
            return logits.sum() * 0.0
        if self.how == "gradient":
            return NoGradient.apply(logits)
        return logits.sum() * float(self.how)

    def term(self) -> Term:
        return Term(self, "example", Needs(logits=True))


def sick_fit(folder: Path, how: str, calls: set[int], **train: object) -> loop.Fit:
    objective = Objective(hard=hard_labels("classification"), sick=Sick(how, calls).term())
    return fits.make(folder, objective=objective, train={"checkpoint_steps": 1, **train})


@pytest.mark.parametrize("how", ["nan", "inf", "-inf", "gradient"])
def test_what_is_no_number_never_reaches_the_weights(how, tmp_path: Path):
    task = sick_fit(tmp_path, how, {0})
    before = digest(task.model.net)
    with pytest.raises(DivergedError) as caught:
        fits.run(task)
    assert digest(task.model.net) == before
    sentence = str(caught.value)
    assert "student, step 0 (rows row-" in sentence and "there is no checkpoint yet" in sentence
    assert "The weights were not changed" in sentence and "train.nonfinite=skip" in sentence
    assert caught.value.exit_code == 5


def test_the_last_good_checkpoint_is_named_and_holds_the_weights(tmp_path: Path):
    task = sick_fit(tmp_path, "nan", {3})
    with pytest.raises(DivergedError, match="the last checkpoint is step-00000003"):
        fits.run(task)
    healthy = dataclasses.replace(task, model=fits.model())
    fits.run(healthy, until_step=3)
    assert digest(task.model.net) == digest(healthy.model.net)


@pytest.mark.parametrize("how", ["nan", "gradient"])
def test_skipped_steps_leave_the_weights_alone_and_are_counted(how, tmp_path: Path):
    task = sick_fit(tmp_path, how, {0, 1}, nonfinite="skip")
    before = digest(task.model.net)
    assert fits.run(task, until_step=2).skipped_steps == 2
    assert digest(task.model.net) == before
    result = fits.run(task)  # continues: the count is part of the checkpoint
    assert (result.steps, result.skipped_steps) == (4, 2)
    assert digest(task.model.net) != before
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 3]


def test_too_many_skipped_steps_are_an_error(tmp_path: Path):
    task = sick_fit(tmp_path, "nan", set(range(1000)), nonfinite="skip", epochs=4)
    with pytest.raises(DivergedError, match="11 steps were skipped already"):
        fits.run(task)


def test_a_run_that_diverges_ends_with_5(train):
    ended = train("train.lr=1e30", "train.max_grad_norm=null", "train.warmup=0")
    assert ended.code == 5, ended.err
    assert "The weights were not changed" in ended.err and "step 1 " in ended.err and not ended.traceback


def gradients(task: loop.Fit) -> dict[str, Tensor]:
    """What the first optimiser step sees."""
    fits.run(task, until_step=1)
    return {name: p.grad.clone() for name, p in task.model.net.named_parameters() if p.grad is not None}


def exact(kind: str = "classification", **train: object) -> dict:
    """A step of 32 rows without dropout and clipping."""
    return {
        "kind": kind,
        "model": fits.model(kind, dropout=0.0),
        "train": {"batch_size": 32, "max_grad_norm": None, **train},
    }


@pytest.fixture
def small_memory(monkeypatch):
    """Forward passes of more than `limit[0]` tokens do not fit; the sizes that were tried are noted."""
    limit, tried, forward = [10**9], [], learner.forward

    def limited(net, batch, needs, *, kind):
        tried.append(sum(batch.sizes))
        if tried[-1] > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(net, batch, needs, kind=kind)

    monkeypatch.setattr(learner, "forward", limited)
    limited.limit, limited.tried = limit, tried
    return limited


@pytest.mark.parametrize("kind", ["classification", "tokens", "text"])
def test_out_of_memory_halves_the_parts_and_changes_no_gradient(kind, small_memory, tmp_path: Path, capsys):
    whole = gradients(fits.make(tmp_path / "whole", **exact(kind)))
    total = small_memory.tried[-1]
    small_memory.limit[0] = total // 3
    parts = gradients(fits.make(tmp_path / "parts", **exact(kind)))
    assert set(whole) == set(parts)
    for name, gradient in whole.items():
        assert (gradient - parts[name]).abs().max() <= 1e-6, name
    assert "Out of memory" in capsys.readouterr().err


def test_the_split_is_kept_when_the_run_continues(small_memory, tmp_path: Path):
    task = fits.make(tmp_path, **exact(checkpoint_steps=1))
    small_memory.limit[0] = 120
    fits.run(task, until_step=1)
    small_memory.tried.clear()
    fits.run(fits.make(tmp_path, **exact(checkpoint_steps=1)))
    assert small_memory.tried and max(small_memory.tried) <= 120


def test_a_row_that_does_not_fit_is_said(small_memory, tmp_path: Path):
    small_memory.limit[0] = 3
    with pytest.raises(ResourceError, match="a single row. Lower task.max_length") as caught:
        fits.run(fits.make(tmp_path, **exact()))
    assert caught.value.exit_code == 6


def test_a_pairwise_term_is_not_computed_in_parts(small_memory, tmp_path: Path):
    data = fits.encoded(64)
    objective = Objective(hard=hard_labels("classification"), rkd=rkd_distance())
    small_memory.limit[0] = 60
    with pytest.raises(ResourceError, match="rkd compares its rows with each other. Lower train.batch_size"):
        fits.run(fits.make(tmp_path, **exact(), objective=objective, data=[data], teachers=[fits.Recorder(data)]))


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "tokens", "text"])
@pytest.mark.parametrize("max_tokens", [1, 40, 170])
def test_one_batch_or_many_parts_of_it(kind, max_tokens, tmp_path: Path):
    """Tokens count one by one: rows of different lengths, and of different numbers of labels, weigh as in one batch."""
    whole = gradients(fits.make(tmp_path / "whole", **exact(kind)))
    parts = gradients(fits.make(tmp_path / "parts", **exact(kind, max_tokens=max_tokens)))
    for name, gradient in whole.items():
        assert (gradient - parts[name]).abs().max() <= 1e-6, name
    losses = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
