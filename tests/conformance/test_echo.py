"""A method and a term of somebody else's package, installed as such, go through every command: no line of ours knows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import runs

ROOT = Path(__file__).parents[2]
COMMANDS = """
import contextlib, io, json, sys
from understudy.cli import app
ended = []
for command in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            app(command)
        except SystemExit as end:
            ended.append([end.code or 0, out.getvalue()])
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the echo in it, put there by pip."""
    return runs.installed("understudy_echo", tmp_path_factory.mktemp("packages"))


def understudy(installed: Path, *commands: list[str]) -> list[tuple[int, str]]:
    """(exit code, standard output) of each command, in one process that finds the package."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{installed}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], env=environment, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stderr
    return [(code, text) for code, text in json.loads(done.stdout)]


def test_it_is_listed_and_its_recipe_is_printed(installed):
    (code, listed), (_, template) = understudy(installed, ["methods"], ["init", "echo", "--full"])
    assert code == 0 and "Repeat the teacher's answers" in listed
    assert "name: echo" in template and "faint_epochs: 1" in template and "overlap" in template
    assert "echo" not in understudy_without(["methods"])


def understudy_without(command: list[str]) -> str:
    return understudy(Path("nowhere"), command)[0][1]


@pytest.fixture
def recipe(toy_checkpoint, toy_csv, tmp_path) -> Path:
    made = {**runs.recipe(toy_checkpoint, toy_csv), "method": {"name": "echo"}}
    made["evaluate"]["baseline"] = False
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(made))
    return path


@pytest.mark.timeout(600)
def test_it_is_checked_trained_and_reported(installed, recipe, tmp_path):
    path, run = recipe, tmp_path / "run"
    said = understudy(
        installed,
        ["check", str(path)],
        ["train", str(path), "--out", str(run)],
        ["report", str(run)],
        ["verify", str(run)],
        ["check", str(path), "method.faint_epoch=2"],
        ["check", str(path), "method=automm", "objective.overlap=1"],
        ["check", str(path), "method=finetune", "objective.overlap=1"],  # nobody teaches
    )
    assert [code for code, _ in said] == [0, 0, 0, 0, 2, 0, 2], said
    assert "echo answers with" in said[0][1]
    page = (run / "report.html").read_text()
    assert "What was repeated" in page and "Labels were not looked at." in page
    learnt = json.loads((run / "steps" / "student" / "metrics.jsonl").read_text().splitlines()[0])["terms"]
    assert set(learnt) == {"soft", "overlap"} and 0 < learnt["overlap"]["value"] < 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_compared(installed, recipe, tmp_path):
    command = ["compare", str(recipe), "--methods", "echo", "--seeds", "1", "train.epochs=3", "--out", str(tmp_path / "which")]
    ((code, said),) = understudy(installed, [*command, "--json"])
    arms = json.loads(said)["arms"]
    assert code == 0
    assert arms["echo"]["epochs"] == {"method.faint_epochs": 1, "train.epochs": 2}  # both are paid for
    assert [stage["stage"] for stage in arms["echo"]["spent"]["stages"]] == ["faint", "student"]
    assert arms["echo"]["spent"]["amount"] == arms["finetune"]["spent"]["amount"] == 3
