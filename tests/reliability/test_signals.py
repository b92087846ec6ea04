"""Promise R2: SIGTERM and SIGINT finish what is under way, save it, and end with 143 and 130."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import runs

STEPS = r"append .*/run/steps/student/metrics.jsonl"


@pytest.mark.parametrize(("do", "code"), [("term", 143), ("int", 130)])
def test_a_signal_while_training_saves_this_very_step(do, code, reference, train, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")
    ended = train(fault={"do": do, "match": STEPS, "at": 14})
    assert ended.code == code, ended.err
    assert not ended.traceback
    checkpoints = sorted((tmp_path / "run/steps/student").glob("step-*"))
    assert f"student is saved at step {int(checkpoints[-1].name[5:])} of" in ended.err
    assert "Repeat the command to continue" in ended.err
    # 14 operations before and after a line each: the eighth line is being written, in the eighth step.
    assert checkpoints[-1].name == "step-00000008"
    assert train().code == 0
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_a_signal_while_the_teacher_speaks_keeps_what_it_said(reference, train, tmp_path: Path):
    shutil.copytree(reference.home / "steps", tmp_path / "home" / "steps")
    ended = train(fault={"do": "term", "match": "before-write .*/home/signals/", "at": 2})
    assert ended.code == 143, ended.err
    assert "the teacher's outputs so far are saved" in ended.err
    again = train(fault={"log": str(tmp_path / "operations")})
    assert again.code == 0, again.err
    assert "shard-" not in (tmp_path / "operations").read_text()
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_a_signal_while_evaluating_ends_before_the_next_step(reference, train, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")
    ended = train(fault={"do": "term", "match": "before-write .*/run/steps/predict-baseline-test/"})
    assert ended.code == 143 and "all finished steps are saved" in ended.err and not ended.traceback
    assert not (tmp_path / "run" / "student").exists()
    assert train().code == 0
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_a_second_signal_ends_at_once_and_costs_one_interval_at_most(reference, launcher, recipe_file, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")
    command = ("train", recipe_file, "--out", tmp_path / "run")
    # While the first is obeyed, a checkpoint is written: the second arrives in the middle of that.
    twice = {"do": "int", "match": STEPS, "at": 14, "again": "before-write .*/run/steps/student/.*optimizer"}
    ended = launcher.run(*command, home=tmp_path / "home", fault=twice)
    assert ended.code == 130, ended.err
    assert not ended.traceback
    assert launcher.run(*command, home=tmp_path / "home").code == 0
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome
