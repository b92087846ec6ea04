"""Promise R3: a disk that is full, broken or read-only ends a run with a sentence and exit code 6, and damages nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import runs

from understudy.base import disk


def intact(folder: Path) -> bool:
    """Whether every committed folder under this one is as it was committed."""
    return all(not disk.problems(path.parent) for path in folder.rglob(disk.MANIFEST) if ".tmp-" not in str(path))


def size(reference, pattern: str) -> int:
    return next(reference.run.glob(pattern)).stat().st_size


def test_no_room_for_a_checkpoint(reference, train, tmp_path: Path):
    room = size(reference, "steps/student/step-*/optimizer.safetensors") - 1
    shutil.copytree(reference.home, tmp_path / "home")
    ended = train(file_bytes=room)
    assert ended.code == 6 and not ended.traceback
    assert "The disk is full" in ended.err and "MB are free" in ended.err and "repeat the command" in ended.err
    assert intact(tmp_path)
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    assert train().code == 0
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_no_room_for_the_finished_model(reference, train, tmp_path: Path):
    """Its tensors are written by a library that has errors of its own."""
    shutil.copytree(reference.home, tmp_path / "home")
    rare = ["train.checkpoint_steps=null"]  # the model is then the first large file
    ended = train(*rare, file_bytes=size(reference, "student/model.safetensors") - 1)
    assert ended.code == 6 and not ended.traceback, ended.err
    assert "The disk is full" in ended.err
    assert intact(tmp_path)
    assert train(*rare).code == 0
    student = tmp_path / "run" / "student" / "model.safetensors"
    assert student.read_bytes() == (reference.run / "student" / "model.safetensors").read_bytes()


def test_no_room_for_the_teachers_outputs(reference, train, tmp_path: Path):
    shutil.copytree(reference.home / "steps", tmp_path / "home" / "steps")
    ended = train(fault={"do": "ENOSPC", "match": "before-write .*/home/signals/.*signals.safetensors", "at": 0})
    assert ended.code == 6 and "The disk is full" in ended.err
    assert intact(tmp_path)
    assert train().code == 0
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def failing_at_each(pattern: str, train, folder: Path) -> int:
    """Let a run fail at the first operation of a kind, the continued one at the second, and so on, to its end."""
    at = 0
    while (ended := train(fault={"do": "EIO", "match": pattern, "at": at})).code != 0:
        assert ended.code == 6 and not ended.traceback, ended.err
        assert "Writing" in ended.err and "Nothing that was saved is damaged" in ended.err
        assert intact(folder)
        at += 1
    return at


@pytest.mark.slow
def test_a_failing_disk_at_each_write_and_rename_of_a_checkpoint(reference, train, tmp_path: Path):
    shutil.copytree(reference.home, tmp_path / "home")
    pattern = r"before-(write|rename|remove) .*/run/steps/student/\S*step-0"
    assert failing_at_each(pattern, train, tmp_path) > 12
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/run/", "/home/signals/", "/home/steps/"])
def test_a_failing_disk_at_every_operation(where, reference, train, tmp_path: Path):
    if where == "/run/":
        shutil.copytree(reference.home, tmp_path / "home")
    assert failing_at_each(where, train, tmp_path) > 20
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


@pytest.mark.parametrize("error", ["EROFS", "EACCES"])
def test_a_folder_that_cannot_be_written(error, train, tmp_path: Path):
    ended = train(fault={"do": error, "match": "/run"})
    assert ended.code == 6 and not ended.traceback
    assert "cannot be written" in ended.err and "--out" in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(launcher, recipe_file, tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    ended = launcher.run("train", recipe_file, "--out", closed / "run", home=tmp_path / "home")
    assert ended.code == 6 and "cannot be written" in ended.err and not ended.traceback


def test_the_folder_is_a_file(launcher, recipe_file, tmp_path: Path):
    (tmp_path / "run").write_text("not a folder")
    ended = launcher.run("train", recipe_file, "--out", tmp_path / "run", home=tmp_path / "home")
    assert ended.code in (2, 6) and str(tmp_path / "run") in ended.err and not ended.traceback
    assert (tmp_path / "run").read_text() == "not a folder"
