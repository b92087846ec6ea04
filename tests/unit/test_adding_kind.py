"""Adding to the house touches at most two files: a kind of task of somebody else's package is trained without a line of ours
changed. (A method in the same way: tests/conformance/test_echo.py.)"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runs
import toys

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the counts in it, put there by pip."""
    return runs.installed("understudy_counts", tmp_path_factory.mktemp("packages"))


def run(installed: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{installed}", "OMP_NUM_THREADS": "1"}
    called = [sys.executable, "-m", "understudy", *map(str, command)]
    return subprocess.run(called, env=environment, capture_output=True, text=True, timeout=280)


def glad_counts(folder: Path) -> None:
    """Texts, and how many glad words stand in each."""
    draw = random.Random(7)
    for name, rows in {"train": 320, "dev": 60, "test": 60}.items():
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["body", "glad"])
            for _ in range(rows):
                glad = draw.choice([0, 1, 2, 4, 8])
                words = draw.choices(toys.NOISE, k=6) + draw.choices(toys.GLAD, k=glad)
                draw.shuffle(words)
                writer.writerow([" ".join(words), glad])


def recipe(folder: Path, kind: str) -> Path:
    found = {
        "task": {
            "name": "custom", "kind": kind, "path": str(folder), "columns": {"text": "body", "label": "glad"},
            "files": {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}, "max_length": 32,
        },
        "teacher": {"model": str(folder / "teacher"), "finetune": {"epochs": 8, "lr": 0.005}},
        "student": {"num_layers": 1},
        "method": {"name": "automm", "soft_label_weight": 0.0},
        "train": {"epochs": 8, "lr": 0.005, "precision": "fp32"},
        "evaluate": {"bootstrap": 20, "latency": {"repeats": 3, "length": 8}},
    }  # fmt: skip
    path = folder / f"{kind}.yaml"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_a_kind_of_task(installed: Path, tmp_path: Path) -> None:
    files = [path.name for path in (ROOT / "tests/packages/understudy_counts").iterdir() if path.is_file()]
    assert sorted(files) == ["pyproject.toml", "understudy_counts.py"]
    glad_counts(tmp_path)
    toys.save_checkpoint(tmp_path / "teacher")
    trained = run(installed, "train", recipe(tmp_path, "counts"), "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["task"]["kind"] == "counts" and result["task"]["metrics"] == ["mae", "deviance"]
    with open(tmp_path / "test.csv", newline="", encoding="utf-8") as handle:
        counts = [int(row["glad"]) for row in csv.DictReader(handle)]
    constant = float(np.abs(np.array(counts) - np.mean(counts)).mean())
    for model in ("teacher", "baseline", "student"):
        assert result[model]["metrics"]["test"]["mae"]["value"] < 0.6 * constant, model
    assert (tmp_path / "run" / "report.html").exists()
    texts = tmp_path / "new.txt"
    texts.write_text("the good calm happy bright door\nthe door\n", encoding="utf-8")
    many, none = (json.loads(line) for line in run(installed, "predict", tmp_path / "run", texts).stdout.splitlines())
    assert many["rate"] > none["rate"] + 1


def test_without_the_package_the_recipe_is_refused_with_the_kinds_there_are(tmp_path: Path) -> None:
    ended = run(Path("nowhere"), "check", recipe(tmp_path, "counts"))
    assert ended.returncode == 2 and "classification" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
