"""Several sub-networks in one step: gradients add up, each keeps its own best weights, an interrupted fit ends the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fits
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from understudy.base import disk
from understudy.base.errors import Interrupted
from understudy.objective import Objective
from understudy.objective import terms as learn
from understudy.train.guard import StopSignals
from understudy.train.loop import Fit, _Loop


class Faded:
    """Views of a toy: "whole" is all of it, "part" the same without half of each FFN's neurons."""

    all = ("whole", "part")
    watched = all

    def __init__(self, net: torch.nn.Module, *, turns: bool = False) -> None:
        self.net, self.turns, self.current = net, turns, None

    def names(self, step: int) -> tuple[str, ...]:
        return self.all if not self.turns or step % 2 else ("whole",)

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        self.current = name
        layers = self.net.bert.encoder.layer if name == "part" else ()
        hooks = [layer.output.dense.register_forward_pre_hook(self._fade) for layer in layers]
        yield
        self.current = None
        for hook in hooks:
            hook.remove()

    @staticmethod
    def _fade(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        kept = torch.arange(inputs[0].shape[-1]) < inputs[0].shape[-1] // 2
        return (inputs[0] * kept, *inputs[1:])

    def small(self, name: str) -> torch.nn.Module:
        return copy.deepcopy(self.net.classifier if name == "part" else self.net)


class Says:
    """A score for each view and evaluation, in order."""

    def __init__(self, views: Faded, **values: list[float]) -> None:
        self.views, self.values, self.calls = views, values, dict.fromkeys(values, 0)

    def __call__(self) -> dict[str, float]:
        name = self.views.current
        self.calls[name] += 1
        return {"score": self.values[name][self.calls[name] - 1]}


def make(folder: Path, **changes: object) -> Fit:
    turns = changes.pop("turns", False)
    task = fits.make(folder, model=fits.model(dropout=0.0), select="score", **changes)
    task.views = Faded(task.model.net, turns=turns)
    if task.score is None:
        task.score = Says(task.views, whole=[0.5, 0.9, 0.7, 0.6], part=[-0.3, -0.2, -0.1, -0.4])
    return task


def gradients(task: Fit) -> tuple[dict[str, torch.Tensor], float]:
    loop = _Loop(task, StopSignals())
    loop.resume(None)
    loop.net.train()
    loop.scaler.step = lambda optimizer: None  # type: ignore[method-assign]
    loss = loop._attempt(0, np.arange(3, 35))
    assert loss is not None
    return {name: p.grad.clone() for name, p in task.model.net.named_parameters() if p.grad is not None}, loss


@pytest.mark.parametrize("max_tokens", [8192, 64])
def test_the_gradient_is_the_mean_over_views(max_tokens, tmp_path):
    train = {"max_tokens": max_tokens, "max_grad_norm": None}
    found, loss = gradients(make(tmp_path / "views", train=train))
    alone = {}
    for name in Faded.all:
        task = fits.make(tmp_path / name, model=fits.model(dropout=0.0), train=train)
        with Faded(task.model.net).use(name):
            alone[name] = gradients(task)
    assert loss == pytest.approx(sum(value for _, value in alone.values()) / 2, rel=1e-6)
    for name, gradient in found.items():
        mean = (alone["whole"][0][name] + alone["part"][0][name]) / 2
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-7)


def test_the_teacher_is_asked_once_for_all_views(tmp_path):
    data = fits.encoded()
    teacher = fits.Recorder(data)
    fits.run(make(tmp_path, data=[data], teachers=[teacher], objective=Objective(soft=learn.soft_labels("classification"))))
    assert sorted(row for call in teacher.calls for row in call) == list(range(64))


def test_each_view_keeps_its_own_best(tmp_path):
    task = make(tmp_path, train={"epochs": 4})
    kept: list[tuple[str, dict[str, torch.Tensor]]] = []
    small = task.views.small
    task.views.small = lambda name: kept.append((name, small(name).state_dict())) or small(name)
    result = fits.run(task)
    assert {name: (view["best_step"], view["best_value"]) for name, view in result.views.items()} == {
        "whole": (8, 0.9), "part": (12, -0.1)  # a score below 0 is better than none
    }  # fmt: skip
    assert result.views["part"]["values"] == [[4, -0.3], [8, -0.2], [12, -0.1], [16, -0.4]]
    assert disk.read_json(tmp_path / "best" / "best.json") == {"step": 12, "steps": {"whole": 8, "part": 12}}
    for name in Faded.all:
        last = [state for view, state in kept if view == name][-1]
        saved = load_file(tmp_path / "best" / f"{name}.safetensors")
        assert set(saved) == set(last) and all(torch.equal(tensor, last[key]) for key, tensor in saved.items())


def test_patience_waits_for_any_watched_view(tmp_path):
    for watched, steps in ((("whole", "part"), 20), (("whole",), 16)):
        task = make(tmp_path / str(len(watched)), train={"epochs": 9, "patience": 2})
        task.views.watched = watched
        task.score = Says(task.views, whole=[0.5, 0.9, 0.7, 0.6, 0.5], part=[-0.3, -0.2, -0.1, -0.4, -0.5])
        assert fits.run(task).steps == steps


def test_rows_of_the_record(tmp_path):
    fits.run(make(tmp_path, turns=True))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [set(row["view_loss"]) for row in rows if "loss" in row] == [{"whole"}, {"whole", "part"}] * 2
    (scored,) = [row for row in rows if "views" in row]
    assert scored["views"] == {"whole": {"score": 0.5}, "part": {"score": -0.3}} and scored["weights"]


class Interrupting:
    """A score that lets a signal arrive at one of its calls."""

    def __init__(self, says: Says, stop: StopSignals, at: int) -> None:
        self.says, self.stop, self.at = says, stop, at

    def __call__(self) -> dict[str, float]:
        if sum(self.says.calls.values()) == self.at:
            self.stop.received = 15
        return self.says()


@pytest.mark.parametrize("at", range(0, 8, 3))
def test_interrupted_and_continued(at, tmp_path):
    train = {"epochs": 4, "dropout": 0.2}
    one = make(tmp_path / "whole", turns=True, train=train)
    reference = fits.run(one)
    stop, other = StopSignals(), make(tmp_path / "cut", turns=True, train=train)
    other.score = Interrupting(other.score, stop, at)
    with pytest.raises(Interrupted):
        from understudy.train.loop import fit

        fit(other, stop)
    again = make(tmp_path / "cut", turns=True, train=train)
    again.score.calls = dict(other.score.says.calls)
    result = fits.run(again)
    assert result.views == reference.views
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for name in Faded.all:
        files = [tmp_path / where / "best" / f"{name}.safetensors" for where in ("cut", "whole")]
        assert files[0].read_bytes() == files[1].read_bytes()
