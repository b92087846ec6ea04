"""A language model in training, killed anywhere and repeated: the same bits."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import decoders
import runs


def test_killed_three_times_between_batches_of_tokens(launcher, tmp_path: Path) -> None:
    recipe = tmp_path / "lm.yaml"
    recipe.write_text(json.dumps(decoders.recipe(tmp_path)), encoding="utf-8")
    log, run, home = tmp_path / "operations", tmp_path / "run", tmp_path / "home"
    ended = launcher.run("train", recipe, "--out", run, home=home, fault={"log": str(log)})
    assert ended.code == 0, ended.err
    expected, whole = runs.outcome(run, home), len(log.read_text().splitlines())
    shutil.rmtree(run), shutil.rmtree(home)
    draw = random.Random(0)
    for _ in range(3):
        ended = launcher.run("train", recipe, "--out", run, home=home, fault={"do": "kill", "at": draw.randrange(whole // 3)})
        assert ended.code == -signal.SIGKILL, ended.err
    ended = launcher.run("train", recipe, "--out", run, home=home)
    assert ended.code == 0, ended.err
    assert runs.outcome(run, home) == expected
