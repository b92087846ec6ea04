"""Promise R4: what was damaged on disk is found, named and survived; no wrong number is ever computed from it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import runs

from understudy.base.errors import UnderstudyError
from understudy.run import verify


def flip(path: Path, seed: int = 0) -> None:
    """Change one bit, drawn by the seed."""
    content = bytearray(path.read_bytes())
    draw = random.Random(f"{path.name}{seed}")
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture(scope="module")
def stopped(reference, launcher, recipe_file, tmp_path_factory) -> Path:
    """A folder with a run that was killed while distilling, with two checkpoints, the newest one with a best score."""
    folder = tmp_path_factory.mktemp("stopped")
    shutil.copytree(reference.home, folder / "home")
    kill = {"do": "kill", "match": "append .*/run/steps/student/metrics", "at": 70}
    launcher.run("train", recipe_file, "--out", folder / "run", home=folder / "home", fault=kill)
    assert [path.name[-2:] for path in sorted((folder / "run/steps/student").glob("step-*"))] == ["25", "30"]
    return folder


@pytest.fixture
def student(stopped: Path, tmp_path: Path) -> Path:
    """The student's step of a copy of that run."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run" / "steps" / "student"


FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        *((flip, name) for name in FILES),
        *((Path.unlink, name) for name in FILES),
        (truncate, "optimizer.safetensors"),
        (zero, "optimizer.safetensors"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_that_is_said(damage, name, student, train, reference, tmp_path):
    damage(student / "step-00000030" / name)
    ended = train()
    assert ended.code == 0, ended.err
    assert f"step-00000030/{name}" in ended.err and "continuing from step-00000025" in ended.err
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_files_of_two_checkpoints_do_not_mix(student, train, reference, tmp_path):
    shutil.copy(student / "step-00000025" / "model.safetensors", student / "step-00000030" / "model.safetensors")
    ended = train()
    assert ended.code == 0 and "continuing from step-00000025" in ended.err
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


@pytest.mark.parametrize(
    "names",
    [
        ["step-00000025/model.safetensors", "step-00000030/model.safetensors"],
        ["best/model.safetensors"],
        ["metrics.jsonl"],
    ],
)
def test_where_no_checkpoint_can_be_trusted_it_starts_again(names, student, train, reference, tmp_path):
    for name in names:
        flip(student / name, seed=3)
    ended = train()
    assert ended.code == 0, ended.err
    assert all(name.split("/")[0] in ended.err or "best" in name for name in names)
    assert "starting again from the beginning" in ended.err
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def test_a_damaged_part_of_the_teachers_outputs_is_computed_again(reference, train, tmp_path):
    shutil.copytree(reference.home, tmp_path / "home")
    shard = next((tmp_path / "home" / "signals").glob("*/parts/*/signals.safetensors"))
    before = shard.read_bytes()
    flip(shard)
    ended = train()
    assert ended.code == 0, ended.err
    assert "stored outputs is damaged and is computed again" in ended.err and "signals" in ended.err
    assert shard.read_bytes() == before
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome


def flips_are_found(files: list[Path], run: Path, *, times: int) -> None:
    draw = random.Random(times)
    for number in range(times):
        path = draw.choice(files)
        before = path.read_bytes()
        if not before:
            continue
        flip(path, seed=number)
        try:
            with pytest.raises(UnderstudyError) as caught:
                verify(run)
        finally:
            path.write_bytes(before)
        assert caught.value.exit_code == 7, caught.value
        if path != run / "manifest.json":  # a changed name in there is a file that is missing
            assert str(path) in str(caught.value)
    assert verify(run)["files"] > 20


@pytest.mark.parametrize("times", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_verify_names_any_changed_bit_of_a_run(times, reference, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_HOME", str(reference.home))
    files = [path for path in sorted(reference.run.rglob("*")) if path.is_file() and path.name != ".lock"]
    flips_are_found(files, reference.run, times=times)


def test_verify_from_the_command_line(reference, launcher, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reference.run, run)
    assert launcher.run("verify", run, home=reference.home).code == 0
    flip(run / "student" / "model.safetensors")
    ended = launcher.run("verify", run, home=reference.home)
    assert ended.code == 7 and "student/model.safetensors" in ended.err and not ended.traceback
    (run / "student" / "model.safetensors").unlink()
    ended = launcher.run("verify", run, home=reference.home)
    assert ended.code == 7 and "student/model.safetensors is missing" in ended.err


def test_verify_looks_into_the_shared_store_too(reference, monkeypatch, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(reference.home, home)
    monkeypatch.setenv("UNDERSTUDY_HOME", str(home))
    assert verify(reference.run)["files"] > 20
    apart = ("manifest.json", ".lock")
    files = [path for path in sorted((home / "steps").rglob("*")) if path.is_file() and path.name not in apart]
    assert {"model.safetensors", "predictions.safetensors", "done.json", "metrics.jsonl"} <= {path.name for path in files}
    for path in files:
        before = path.read_bytes()
        flip(path)
        with pytest.raises(UnderstudyError, match=str(path)):
            verify(reference.run)
        path.write_bytes(before)


def test_damaged_predictions_of_the_teacher_are_made_again(reference, train, tmp_path):
    shutil.copytree(reference.home, tmp_path / "home")
    flip(next((tmp_path / "home" / "steps").glob("*/predictions.safetensors")))
    ended = train()
    assert ended.code == 0 and "predict-teacher-test is damaged" in ended.err
    assert runs.outcome(tmp_path / "run", tmp_path / "home") == reference.outcome
