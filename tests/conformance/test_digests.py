"""Students to the last byte: a change that only moves code leaves every digest of digests.json as it is.

A change of arithmetic, or of what is written into `student/`, renews the list once, and its commit says by how much and
why: `python -m pytest tests/conformance/test_digests.py --renew-digests` (all rows; minutes). Three digests a row, so that
a changed sentence of the model card is not mistaken for a changed student:

    weights  the tensors of student/, by name
    student  every file of student/
    result   result.json without times, versions and machine
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import runs
import torch
import transformers
from safetensors.numpy import load_file
from table import ALL, FAST, listed, recipe_of, refused

LIST = Path(__file__).with_name("digests.json")
MADE_WITH = {"torch": torch.__version__, "transformers": transformers.__version__, "machine": platform.machine()}
# The plainest kernels, which are the same on every x86-64 processor; the fast ones differ between them in the last bits.
PLAIN_KERNELS = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
TIMES = {"train_seconds", "teacher_forwards", "speedup", "latency_ms", "latency", "versions", "machine", "verdict", "search"}
TIMES |= {"advice", "references", "rising", "data"}  # what is told about a run and its rows rather than made by it
STRUCTURED: dict[str, dict[str, Any]] = {
    "pruned": {"student": {"sparsity": 0.5}},
    "pruned-and-shared": {"student": {"sparsity": 0.5, "share": "sps"}},
    "shared-with-own-norms": {"student": {"keep": [1], "share": "cyclic", "own_norms": True}},
}
"""Students that no stock class can hold, distilled by AutoMM into a BERT classifier."""
SINGLE = ["-".join(row) for row in ALL if (listed(*row) or row in FAST) and not refused(*row)] + list(STRUCTURED)
QUICK = ["-".join(row) for row in FAST] + list(STRUCTURED)
PAIRS = ["automm-bert-classification", "minidisc-roberta-classification", "peakd-bert-classification"]


def recipe_for(name: str, folder: Path) -> dict[str, Any]:
    if name in STRUCTURED:
        return recipe_of(folder, "automm", "bert", "classification") | STRUCTURED[name]
    recipe = recipe_of(folder, *next(row for row in ALL if "-".join(row) == name))
    if name.startswith("kdnas"):
        recipe["method"]["alpha"] = 0.0  # which candidate wins must not depend on a clock
    return recipe


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def digests(run: Path) -> dict[str, str]:
    weights = hashlib.sha256()
    for name, tensor in sorted(load_file(run / "student" / "model.safetensors").items()):
        weights.update(f"{name}{tensor.dtype}{tensor.shape}".encode() + np.ascontiguousarray(tensor).tobytes())
    result = json.dumps(without_times(json.loads((run / "result.json").read_text())), sort_keys=True)
    made = {
        "weights": weights.hexdigest(),
        "student": runs.digest(run / "student"),
        "result": hashlib.sha256(result.encode()).hexdigest(),
    }
    return {what: digest[:16] for what, digest in made.items()}


def write_rows() -> None:
    """The files and the recipe of every row, under relative names: paths stand in cards and must not differ."""
    for name in SINGLE:
        recipe = recipe_for(name, Path(name))
        (Path(name) / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")


@pytest.fixture(scope="module")
def plain_kernels() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in PLAIN_KERNELS}
    os.environ.update(PLAIN_KERNELS)
    yield
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="module")
def rows(plain_kernels: None, tmp_path_factory) -> Path:
    """The folder of all rows, written by a fresh process: random weights depend on kernels and on what ran before, too."""
    folder = tmp_path_factory.mktemp("rows")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, __file__], cwd=folder, env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def launcher(plain_kernels: None, tmp_path_factory) -> Iterator[runs.Launcher]:
    with runs.launched(tmp_path_factory.mktemp("launcher")) as one:
        yield one


@pytest.fixture(scope="module")
def pair(plain_kernels: None, tmp_path_factory) -> Iterator[ranks.Pair]:
    with ranks.pair(tmp_path_factory.mktemp("pair")) as two:
        yield two


def listed_digests() -> dict[str, Any]:
    return json.loads(LIST.read_text())


def compare(name: str, made: dict[str, str], renew: bool) -> None:
    if renew:
        found = listed_digests() if LIST.exists() else {}
        students = found.get("students", {}) if found.get("made_with") == MADE_WITH else {}
        students[name] = made
        LIST.write_text(json.dumps({"made_with": MADE_WITH, "students": dict(sorted(students.items()))}, indent=1) + "\n")
        return
    found = listed_digests()
    if found["made_with"] != MADE_WITH:
        pytest.skip(f"the list was made with {found['made_with']}; here is {MADE_WITH}: other versions, other last bits")
    assert made == found["students"][name], f"{name}: see the top of this file for when that is right, and what to do"


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SINGLE])
def test_student_is_the_listed_one(name: str, launcher: runs.Launcher, rows: Path, tmp_path, request):
    ended = launcher.run("train", f"{name}/recipe.yaml", "--out", tmp_path / "run", home=tmp_path / "home", cwd=rows)
    assert ended.code == 0, ended.err[-3000:]
    compare(name, digests(tmp_path / "run"), request.config.getoption("renew_digests"))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
@pytest.mark.parametrize("name", PAIRS)
def test_student_of_two_processes_is_the_listed_one(name: str, pair: ranks.Pair, rows: Path, tmp_path, request):
    ended = pair.run("train", f"{name}/recipe.yaml", "--out", tmp_path / "run", home=tmp_path / "home", cwd=rows)
    assert [one.code for one in ended] == [0, 0], ended[0].err[-3000:] + ended[1].err[-3000:]
    compare(f"{name}, two processes", digests(tmp_path / "run"), request.config.getoption("renew_digests"))


def test_every_digest_of_the_list_belongs_to_a_row():
    assert set(listed_digests()["students"]) == {*SINGLE, *(f"{name}, two processes" for name in PAIRS)}


if __name__ == "__main__":
    write_rows()
