"""Two processes under torchrun make the student that one process makes, speak with one voice, and continue together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from ranks import assert_close
from safetensors.numpy import load_file

from understudy.recipe.load import recipe_from
from understudy.run import train

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")

WATCHED = """
import os, sys
from understudy.base import disk
from understudy.cli import main
log = open(sys.argv.pop(1) + os.environ["RANK"], "a", buffering=1)
disk.fault = lambda name, path: log.write(f"{name} {path}\\n")
main()
"""


def recipe_of(folder: Path, kind: str, **method: Any) -> dict[str, Any]:
    """57 rows in steps of 8: in the last step of an epoch there is one row, and one process has none.

    The learning rate is small because AdamW turns the rounding of a gradient of nearly 0 into a visible step.
    """
    teacher = checkpoints.save_checkpoint(folder / "model", "bert", num_hidden_layers=2)
    return {
        "task": checkpoints.task_settings(folder / "data", kind, rows=57),
        "teacher": {"model": str(teacher), "finetune": {"epochs": 1}},
        "student": {"keep": [0]},
        "method": {"name": "automm", "hidden_weight": 0.1, "relation_weight": 0.1, **method},
        "train": {"epochs": 2, "batch_size": 8, "lr": 1e-4, "precision": "fp32", "dropout": 0.0},
        "evaluate": {"baseline": False, "bootstrap": 0, "latency": {"repeats": 3, "length": 8}},
    }


def launch(folder: Path, recipe: dict[str, Any], name: str, *, watch: bool = False) -> subprocess.Popen:
    """`torchrun --nproc_per_node=2 -m understudy train`, each process's words in a file of its own."""
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    script = folder / "watched.py"
    script.write_text(WATCHED, encoding="utf-8")
    program = [str(script), str(folder / "disk-")] if watch else ["-m", "understudy"]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--redirects=3",
        f"--log-dir={folder / 'log'}", *program, "train", str(path), "--out", str(folder / name),
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "UNDERSTUDY_HOME": str(folder / f"home-{name}"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen, folder: Path) -> int:
    try:
        out, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    if process.returncode:
        print(out, *(f"{path}:\n{path.read_text()}" for path in sorted(folder.rglob("std*.log"))), sep="\n")
    return process.returncode


def said(folder: Path, rank: int, stream: str) -> str:
    """What a process said."""
    logs = sorted((folder / "log").glob(f"**/{rank}/{stream}.log"))
    return "\n".join(line for path in logs for line in path.read_text().splitlines())


def student(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "student" / "model.safetensors")


def curve(folder: Path) -> list[float]:
    """Loss and length of the gradient of every step."""
    rows = map(json.loads, (folder / "steps" / "student" / "metrics.jsonl").read_text().splitlines())
    return [row[key] for row in rows if "loss" in row for key in ("loss", "grad_norm")]


CASES = {
    "classification": {"rkd_distance_loss_weight": 0.5, "rkd_angle_loss_weight": 1.0},
    "tokens": {"feature": "mean", "rkd_distance_loss_weight": 0.5},
}


@pytest.mark.parametrize("kind", ["classification", pytest.param("tokens", marks=pytest.mark.slow)])
def test_two_processes_make_the_student_of_one(kind, tmp_path, monkeypatch):
    """Pairwise terms gathered over both, uneven rows and lengths, and a step in which one process has no row."""
    recipe = recipe_of(tmp_path, kind, **CASES[kind])
    two = launch(tmp_path, recipe, "two", watch=True)
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home-one"))
    result = train(recipe_from(recipe), tmp_path / "one")
    assert ended(two, tmp_path) == 0
    assert_close(student(tmp_path / "one"), student(tmp_path / "two"))
    assert len(curve(tmp_path / "one")) == 2 * 16
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    again = json.loads((tmp_path / "two" / "result.json").read_text())
    for metric, found in result["student"]["metrics"]["test"].items():
        assert again["student"]["metrics"]["test"][metric]["value"] == pytest.approx(found["value"], abs=1e-4)
    assert again["teacher_forwards"] == result["teacher_forwards"] > 0  # by both together
    # Only the first speaks and writes, but for the teacher's outputs, which both compute.
    assert "report" in said(tmp_path, 0, "stdout") and said(tmp_path, 1, "stdout") == ""
    assert "student" in said(tmp_path, 0, "stderr") and said(tmp_path, 1, "stderr") == ""
    assert "write" in (tmp_path / "disk-0").read_text()
    assert [line for line in (tmp_path / "disk-1").read_text().splitlines() if "/signals/" not in line] == []


@pytest.mark.slow
def test_two_processes_train_the_sub_networks_of_one(tmp_path, monkeypatch):
    """MiniDisc: gradients of several views, added over processes by hand; the same scores, the same student."""
    recipe = recipe_of(tmp_path, "classification") | {"student": {"sparsity": 0.75}}
    recipe["method"] = {"name": "minidisc", "candidates": [0.25, 0.4, 0.5, 0.6], "sandwich": "sampled"}
    two = launch(tmp_path, recipe, "two")
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home-one"))
    train(recipe_from(recipe), tmp_path / "one")
    assert ended(two, tmp_path) == 0
    choices = [json.loads((tmp_path / name / "steps/choice-1/done.json").read_text())["value"] for name in ("one", "two")]
    assert choices[0]["chosen"] == choices[1]["chosen"]
    assert_close(student(tmp_path / "one"), student(tmp_path / "two"))
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)


@pytest.mark.slow
def test_an_interrupted_launch_continues(tmp_path):
    """SIGTERM in the middle of the student, the same command again: the bytes of a launch left in peace."""
    recipe = recipe_of(tmp_path, "classification")
    recipe["train"] |= {"epochs": 12, "checkpoint_steps": 5}
    process = launch(tmp_path, recipe, "cut")
    deadline = time.monotonic() + 200
    while not list((tmp_path / "cut" / "steps" / "student").glob("step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert ended(process, tmp_path) != 0
    assert not (tmp_path / "cut" / "result.json").exists()
    assert list((tmp_path / "cut" / "steps" / "student").glob("step-*"))
    assert ended(launch(tmp_path, recipe, "cut"), tmp_path) == 0
    assert ended(launch(tmp_path, recipe, "whole"), tmp_path) == 0
    one, other = student(tmp_path / "cut"), student(tmp_path / "whole")
    assert all(np.array_equal(tensor, other[name]) for name, tensor in one.items())
