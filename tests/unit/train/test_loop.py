"""The loop: it learns, keeps the best, stops when told, and what it computes does not depend on how it is cut up."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import fits
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from understudy.base.errors import DivergedError
from understudy.data.encode import collate
from understudy.data.types import Task
from understudy.evaluate.metrics import compute
from understudy.evaluate.predict import predict
from understudy.models.needs import Signals
from understudy.objective import Counts, Objective, projection
from understudy.objective import terms as learn
from understudy.train.guard import StopSignals
from understudy.train.learner import Learner, held_out_loss
from understudy.train.loop import Fit, _Loop

KINDS = ["classification", "regression", "multilabel", "tokens", "text"]


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_for_every_kind_of_task(kind, tmp_path):
    task = fits.make(tmp_path, kind, data=[fits.encoded(200, kind=kind)], train={"epochs": 6})
    result = fits.run(task)
    assert result.steps == result.planned == 78
    seen = losses(tmp_path)
    assert len(seen) == 78
    better = 0.95 if kind == "text" else 0.5  # which word was masked can be guessed only a little
    assert np.mean(seen[-4:]) < better * np.mean(seen[:4])


def test_a_toy_learns_its_task(tmp_path):
    task = fits.make(tmp_path, data=[fits.encoded(200)], train={"epochs": 4})
    fits.run(task)
    rows = fits.examples(50, seed=9)
    made = predict(task.model, rows, fits.encoded(50, seed=9))
    scored = Task("toy", "classification", labels=fits.MOODS, metrics=("accuracy",), select="accuracy")
    assert compute(scored, made)["accuracy"] > 0.9


def test_the_best_weights_are_kept(tmp_path):
    task = fits.make(tmp_path, train={"epochs": 3})
    task.score = fits.Scripted(task.model.net, [0.5, 0.9, 0.7])
    task.select = "score"
    result = fits.run(task)
    assert result.best_step == 8 and result.best_metrics == {"score": 0.9}
    assert same(fits.weights(task), task.score.seen[1])
    assert not same(fits.weights(task), task.score.seen[2])


def test_of_equal_scores_the_first_is_kept(tmp_path):
    task = fits.make(tmp_path, train={"epochs": 3})
    task.score, task.select = fits.Scripted(task.model.net, [0.0, 0.0, 0.0]), "score"
    assert fits.run(task).best_step == 4


def test_a_loss_is_better_when_it_is_lower(tmp_path):
    task = fits.make(tmp_path, train={"epochs": 3})
    task.score = fits.Scripted(task.model.net, [2.0, 1.0, 3.0], "loss")
    assert fits.run(task).best_step == 8


def test_patience(tmp_path):
    task = fits.make(tmp_path, train={"epochs": 9, "patience": 2})
    task.score, task.select = fits.Scripted(task.model.net, [0.5, 0.6, 0.6, 0.1, 0.9]), "score"
    result = fits.run(task)
    assert (result.steps, result.best_step) == (16, 8)


def test_evaluations_per_epoch(tmp_path):
    # 64 rows in batches of 16 are 4 steps an epoch; three evaluations: after 2 and 4 (every ceil(4/3) steps).
    task = fits.make(tmp_path, train={"epochs": 2, "evaluations_per_epoch": 3})
    task.score, task.select = fits.Scripted(task.model.net, range(9)), "score"
    fits.run(task)
    rows = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows if "select" in row] == [2, 4, 6, 8]


def test_evaluation_cannot_shift_training(tmp_path):
    """With dropout on and a score that draws random numbers: once or four times an epoch, the same last weights."""
    found = []
    for often in (1, 4):
        task = fits.make(tmp_path / str(often), train={"epochs": 2, "evaluations_per_epoch": often, "dropout": 0.3})
        task.score, task.select = fits.Scripted(task.model.net, range(99)), "score"
        fits.run(task)
        assert len(task.score.seen) == 2 * often
        found.append(fits.weights(task))
    assert same(*found)


def test_time_limit(tmp_path):
    task = fits.make(tmp_path, train={"epochs": 5, "time_limit": 1e-9})
    task.score, task.select = fits.Scripted(task.model.net, [0.4]), "score"
    result = fits.run(task)
    assert (result.steps, result.planned, result.best_step) == (1, 20, 1)


@pytest.mark.parametrize("grouping", ["none", "length"])
def test_every_row_once_an_epoch(grouping, tmp_path):
    data = fits.encoded(70)
    teacher = fits.Recorder(data)
    objective = Objective(soft=learn.soft_labels("classification"))
    task = fits.make(
        tmp_path, data=[data], teachers=[teacher], objective=objective, train={"epochs": 2, "grouping": grouping}
    )
    fits.run(task)
    assert [len(call) for call in teacher.calls].count(6) == 2  # 70 = 4 · 16 + 6
    first, second = teacher.calls[:5], teacher.calls[5:]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(70))
    assert first != second
    spread = [np.ptp(data.lengths[call]) for call in teacher.calls]
    assert (max(spread) <= 4) == (grouping == "length")


def test_maskings_take_turns(tmp_path):
    data = [fits.encoded(16, kind="text", variant=variant) for variant in range(2)]
    teachers = [fits.Recorder(part) for part in data]
    same_width = projection("adaptor", "identity", student_width=32, teacher_width=32, seed=0)
    objective = Objective(feature=learn.output_feature("text", adaptor=same_width, feature="mean"))
    task = fits.make(tmp_path, "text", data=data, teachers=teachers, objective=objective, train={"epochs": 3})
    fits.run(task)
    assert [len(teacher.calls) for teacher in teachers] == [2, 1]


def gradients(task: Fit, rows: np.ndarray) -> tuple[dict[str, torch.Tensor], float]:
    """What one step would hand to the optimiser, unclipped, and the loss it reports."""
    loop = _Loop(task, StopSignals())
    loop.resume(None)
    loop.net.train()
    loop.scaler.step = lambda optimizer: None  # type: ignore[method-assign]
    loss = loop._attempt(0, rows)
    assert loss is not None
    named = [*task.model.net.named_parameters(), *task.objective.named_parameters()]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}, loss


class Elaborate:
    """A teacher with every signal, different for each row and token."""

    def __init__(self, data, *, num_logits: int | None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.lengths = np.asarray(data.lengths)
        self.rows = [
            Signals(
                [int(size)],
                logits=torch.randn(1, num_logits, generator=generator) if num_logits else None,
                feature=torch.randn(1, 16, generator=generator),
                hidden={2: torch.randn(size, 16, generator=generator)},
                cls={1: torch.randn(1, 16, generator=generator)},
                qkv={2: tuple(torch.randn(size, 2, 8, generator=generator) for _ in range(3))},
            )
            for size in self.lengths
        ]

    def signals(self, indices) -> Signals:
        parts = [self.rows[i] for i in indices]
        return Signals(
            [part.sizes[0] for part in parts],
            logits=None if parts[0].logits is None else torch.cat([part.logits for part in parts]),
            feature=torch.cat([part.feature for part in parts]),
            hidden={2: torch.cat([part.hidden[2] for part in parts])},
            cls={1: torch.cat([part.cls[1] for part in parts])},
            qkv={2: tuple(torch.cat([part.qkv[2][i] for part in parts]) for i in range(3))},
        )


def everything(kind: str) -> Objective:
    """All terms that can be computed in parts."""
    adaptor = projection("adaptor", "auto", student_width=32, teacher_width=16, seed=0)
    terms = {
        "hard": 0.5 * learn.hard_labels(kind),
        "feature": learn.output_feature(kind, adaptor=adaptor, feature="mean"),
        "hidden": learn.hidden_states([(2, 2)], student_width=32, teacher_width=16, seed=0),
        "patient": learn.patient([(1, 1)], student_width=32, teacher_width=16, seed=0),
        "relation": learn.relations(2, 2, heads=2),
    }
    if kind in ("classification", "regression", "multilabel"):
        terms["soft"] = learn.soft_labels(kind, temperature=2.0)
    return Objective(**terms)


def test_projections_come_back_with_the_weights_they_were_best_with(tmp_path):
    data = fits.encoded()
    task = fits.make(
        tmp_path, data=[data], objective=everything("classification"), teachers=[Elaborate(data, num_logits=2)],
        train={"epochs": 3, "checkpoint_steps": 1},
    )  # fmt: skip
    says, seen = fits.Scripted(task.model.net, [0.5, 0.9, 0.7]), []
    projections = task.objective.projections

    def score() -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in projections.state_dict().items()})
        return says()

    task.score, task.select = score, "score"
    assert fits.run(task).best_step == 8
    assert same(dict(projections.state_dict()), seen[1]) and not same(seen[1], seen[2])
    committed = load_file(tmp_path / "best" / "projections.safetensors")
    assert committed and all(torch.equal(tensor, seen[1][name]) for name, tensor in committed.items())


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_do_not_change_the_gradient(kind, tmp_path):
    data = fits.encoded(40, kind=kind)
    num_logits = {"classification": 2, "multilabel": 2, "regression": 1}.get(kind)
    found = []
    for max_tokens in (8192, 64):
        task = fits.make(
            tmp_path, kind, data=[data], model=fits.model(kind, dropout=0.0), objective=everything(kind),
            teachers=[Elaborate(data, num_logits=num_logits)], train={"max_tokens": max_tokens, "max_grad_norm": None},
        )  # fmt: skip
        found.append(gradients(task, np.arange(3, 35)))
    (whole, loss), (cut, cut_loss) = found
    assert cut_loss == pytest.approx(loss, rel=1e-6)
    assert set(whole) == set(cut) and any(name.startswith("projections") for name in whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_micro_batches_are_really_cut(tmp_path):
    data = fits.encoded(40)
    calls = {}
    for name, objective in {
        "separable": Objective(soft=learn.soft_labels("classification")),
        "pairwise": Objective(rkd=learn.rkd_distance()),
    }.items():
        teacher = fits.Recorder(data)
        task = fits.make(
            tmp_path / name, data=[data], objective=objective, teachers=[teacher], train={"max_tokens": 64}
        )
        fits.run(task)
        calls[name] = teacher.calls
    assert [len(call) for call in calls["pairwise"]] == [16, 16, 8]  # compares all rows, so it must see all
    assert len(calls["separable"]) > 6
    assert all(len(call) * max(data.lengths[call]) <= 64 for call in calls["separable"])


def test_a_process_without_rows_takes_part_and_changes_nothing():
    """Learner(idle): borrowed rows give a loss of 0 and gradients of 0, and reach every parameter that others reach."""
    data = fits.encoded(8)
    learner = Learner(fits.model(dropout=0.0).net, everything("classification"), "classification")
    teacher = Elaborate(data, num_logits=2)
    reached = []
    for idle in (False, True):
        learner.zero_grad(set_to_none=True)
        rows = np.arange(1) if idle else np.arange(8)
        loss, terms = learner(collate(data, rows), teacher.signals(rows), 0.0, Counts(8, 80, 8), idle)
        loss.backward()
        reached.append({name for name, p in learner.named_parameters() if p.grad is not None})
    assert loss.item() == 0.0 and all(value.item() == 0.0 for value in terms.values()) and len(terms) == 6
    assert all(p.grad.abs().max() == 0 for p in learner.parameters() if p.grad is not None)
    assert reached[0] == reached[1]


class Poisoned(fits.Recorder):
    """A teacher whose answer about one call is not a number."""

    def signals(self, indices):
        signals = super().signals(indices)
        if len(self.calls) == 3:
            signals.logits = signals.logits * float("nan")
        return signals


def poisoned(folder: Path, nonfinite: str) -> Fit:
    data = fits.encoded()
    objective = Objective(hard=learn.hard_labels("classification"), soft=learn.soft_labels("classification"))
    return fits.make(
        folder, data=[data], teachers=[Poisoned(data)], objective=objective, train={"nonfinite": nonfinite}
    )


def test_what_is_no_number_stops_before_the_weights_change(tmp_path):
    task = poisoned(tmp_path, "stop")
    with pytest.raises(DivergedError) as caught:
        fits.run(task)
    sentence = str(caught.value)
    assert "step 2" in sentence and "'soft'" in sentence and "out of the teacher" in sentence and "row-" in sentence
    assert all(tensor.isfinite().all() for tensor in fits.weights(task).values())
    assert len(losses(tmp_path)) == 2


def test_what_is_no_number_is_skipped_if_asked(tmp_path):
    task = poisoned(tmp_path, "skip")
    result = fits.run(task)
    assert (result.steps, result.skipped_steps) == (4, 1)
    assert len(losses(tmp_path)) == 3
    assert all(tensor.isfinite().all() for tensor in fits.weights(task).values())


def test_terms_are_logged_with_weight_and_share(tmp_path):
    data = fits.encoded()
    objective = Objective(hard=0.5 * learn.hard_labels("classification"), soft=2.0 * learn.soft_labels("classification"))
    task = fits.make(tmp_path, data=[data], teachers=[fits.Recorder(data)], objective=objective)
    fits.run(task)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        terms = row["terms"]
        assert {name: term["weight"] for name, term in terms.items()} == {"hard": 0.5, "soft": 2.0}
        assert sum(term["weight"] * term["value"] for term in terms.values()) == pytest.approx(row["loss"], rel=1e-6)
        assert sum(term["share"] for term in terms.values()) == pytest.approx(1.0)


def test_held_out_loss_is_the_mean_over_all_rows(tmp_path):
    """By hand: the summed cross-entropy of the masked words over their number, whatever the pieces."""
    data, model = fits.encoded(40, kind="text"), fits.model("text")
    objective = Objective(hard=learn.hard_labels("text"))
    batch = collate(data, np.arange(40))
    expected, count = 0.0, 0
    with torch.no_grad():
        for i in range(40):
            rows = slice(int(data.offsets[i]), int(data.offsets[i + 1]))
            logits = model.net(batch.input_ids[rows][None]).logits[0]
            labels = batch.labels[rows]
            masked = labels != -100
            expected += cross_entropy(logits[masked], labels[masked], reduction="sum").item()
            count += int(masked.sum())
    for max_tokens in (64, 8192):
        found = held_out_loss(model, data, objective, None, fits.settings(max_tokens=max_tokens))
        assert found == pytest.approx(expected / count, rel=1e-5)


def test_checkpointed_activations_change_nothing(tmp_path: Path):
    """With dropout: what is computed a second time draws the same random numbers."""
    ends = []
    for name, on in (("plain", False), ("checkpointed", True)):
        task = fits.make(tmp_path / name, train={"checkpoint_activations": on, "dropout": 0.1})
        fits.run(task)
        ends.append(fits.weights(task))
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_a_compiled_fit_is_the_same_fit(tmp_path: Path, monkeypatch):
    made, compiled = [], torch.compile

    def watched(run, *, backend):
        assert backend == "inductor"
        made.append(run)
        return compiled(run, backend="eager")  # the same way through the loop, in seconds

    monkeypatch.setattr(torch, "compile", watched)
    ends = []
    for name, on in (("plain", False), ("compiled", True)):
        task = fits.make(tmp_path / name, train={"compile": on, "dropout": 0.0})
        fits.run(task)
        ends.append(fits.weights(task))
    assert len(made) == 2  # the toy's layers
    assert all("forward" not in vars(module) for module in task.model.net.modules())
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=1e-4, atol=1e-6)
