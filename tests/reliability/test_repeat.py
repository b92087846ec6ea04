"""Promises R20, R17 and R18: the same command gives the same bits anywhere, alone in its folder, from one teacher pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import runs

from understudy.base import seeds
from understudy.base.lock import lock

STRANGE = {"PYTHONHASHSEED": "4711", "LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Auckland", "COLUMNS": "40"}


def test_a_fresh_process_elsewhere_gives_the_same_bits(reference, recipe_file, tmp_path: Path):
    """Another hash seed, locale, time zone, working directory, umask, and no fork."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    environment = os.environ | STRANGE | {"PYTHONPATH": str(runs.ROOT / "src"), "UNDERSTUDY_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "understudy", "train", str(recipe_file), "--out", "../run"]
    ended = subprocess.run(command, cwd=elsewhere, env=environment, umask=0o077, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_another_seed_gives_other_bits(reference, train, tmp_path: Path):
    """That equality means something."""
    assert train("seed=1").code == 0
    other = runs.outcome(tmp_path / "run", tmp_path / "home")
    assert all(other[name] != reference.outcome[name] for name in other)


def test_the_second_run_on_a_teacher_does_not_run_it(reference, train, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")
    assert json.loads((reference.run / "result.json").read_text())["teacher_forwards"] > 0
    ended = train("method.temperature=3.0", "train.epochs=4", "teacher.finetune.epochs=2", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["teacher_forwards"] == 0
    assert "teacher outputs" not in ended.err and "teacher:" not in ended.err


@pytest.fixture
def events(monkeypatch) -> Iterator[list[str]]:
    """What happens in a run in this process, in order: forward passes of a teacher, optimiser steps."""
    import torch

    from understudy.cache import signals as cache
    from understudy.train.loop import _Loop

    seen: list[str] = []
    forward, step = cache.forward, _Loop._step

    def counted_forward(*args, **kwargs):
        seen.append("teacher")
        return forward(*args, **kwargs)

    def counted_step(self, epoch, rows):
        seen.append(f"{self.task.name} epoch {epoch}")
        return step(self, epoch, rows)

    monkeypatch.setattr(cache, "forward", counted_forward)
    monkeypatch.setattr(_Loop, "_step", counted_step)
    state = torch.are_deterministic_algorithms_enabled()
    yield seen
    torch.use_deterministic_algorithms(state)


def test_the_teacher_runs_once_over_the_data_and_never_again(events, toy_recipe, understudy_home, tmp_path: Path):
    from understudy.recipe.load import recipe_from
    from understudy.run import train

    result = train(recipe_from(toy_recipe), tmp_path / "first")
    assert "teacher" in events and "student epoch 2" in events
    assert events[events.index("student epoch 0") :].count("teacher") == 0
    rows = 200 + 50  # each training row once for its signals, each test row once for the report
    assert result["teacher_forwards"] == rows

    events.clear()
    changed = {**toy_recipe, "method": {"name": "automm", "temperature": 2.0}}
    result = train(recipe_from(changed), tmp_path / "second")
    assert result["teacher_forwards"] == 0 and "teacher" not in events
    assert set(events) == {f"student epoch {epoch}" for epoch in range(3)}


def test_live_and_stored_teacher_teach_the_same(reference, train, tmp_path: Path):
    shutil.copytree(reference.home / "steps", tmp_path / "home" / "steps")
    assert train("cache.mode=live").code == 0
    assert not (tmp_path / "home" / "signals").exists()
    live = [json.loads(line) for line in (tmp_path / "run/steps/student/metrics.jsonl").read_text().splitlines()]
    kept = [json.loads(line) for line in (reference.run / "steps/student/metrics.jsonl").read_text().splitlines()]
    # The live teacher computes other rows together, which rounds differently; the numbers agree to that.
    for one, other in zip(live[:5], kept[:5], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_folder_in_use_is_left_alone(train, tmp_path: Path):
    with lock(tmp_path / "run"):
        ended = train()
    assert ended.code == 6 and not ended.traceback
    assert f"in use by process {os.getpid()}" in ended.err
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock"]


@pytest.mark.slow
def test_two_at_once_and_one_gives_way(reference, launcher, recipe_file, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")
    command = ("train", recipe_file, "--out", tmp_path / "run")
    with runs.launched(tmp_path) as other:
        first = launcher.start(*command, home=tmp_path / "home")
        second = other.start(*command, home=tmp_path / "home")
        ends = [first.wait(), second.wait()]
    # Whoever came second was refused, or came so late that the first had finished; never did both work.
    assert sorted(ended.code for ended in ends) in ([0, 6], [0, 0]), [ended.err for ended in ends]
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_another_recipe_in_the_same_folder_is_refused_with_the_difference(reference, launcher, recipe_file, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reference.run, run, ignore=shutil.ignore_patterns(".lock"))
    before = runs.digest(run)
    ended = launcher.run("train", recipe_file, "train.lr=0.1", "--out", run, home=reference.home)
    assert ended.code == 2 and "train.lr was 0.01, is 0.1" in ended.err and "--out" in ended.err
    (run / ".lock").unlink()  # it names the last process that held it
    assert runs.digest(run) == before


def test_other_data_under_the_same_name_is_refused(reference, launcher, toy_recipe, toy_csv, tmp_path: Path):
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(toy_csv, data)
    recipe = tmp_path / "recipe.json"
    files = {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")}
    recipe.write_text(json.dumps({**toy_recipe, "task": {**toy_recipe["task"], "files": files}}))
    command = ("train", recipe, "evaluate.baseline=false", "--out", run)
    assert launcher.run(*command, home=tmp_path / "home").code == 0
    text = (data / "train.csv").read_text()
    (data / "train.csv").write_text(text.replace("good", "bad", 1))
    ended = launcher.run(*command, home=tmp_path / "home")
    assert ended.code == 2 and "different rows than its files hold now" in ended.err and not ended.traceback, ended.err


def test_randomness_is_a_function_of_its_names():
    assert seeds.derive(0, "a") != seeds.derive(0, "b") != seeds.derive(1, "b")
