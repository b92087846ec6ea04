"""An embedding model that learns from lists, in batches whose texts are compared with each other: killed anywhere it comes to the
same bits, and two processes come to what one does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import embedders
import pytest
import ranks
import runs
import toys
from runs import Ended, Launcher
from safetensors.numpy import load_file


def recipe(folder: Path) -> Path:
    """21 lists of uneven lengths in steps of 4 lists: the last step of an epoch has one."""
    draw, rows = random.Random(1), [text for text, _ in toys.sentences(90, seed=4)]
    lists = []
    for i in range(26):
        passages = draw.sample(rows[26:], draw.randint(2, 4))
        lists.append({"query": rows[i], "passages": passages, "labels": [1.0] + [0.0] * (len(passages) - 1)})
    (folder / "lists.jsonl").write_text("\n".join(map(json.dumps, lists)), encoding="utf-8")
    (folder / "texts.txt").write_text("\n".join(rows[:20]), encoding="utf-8")
    embedders.save(folder / "teacher", prompts={"query": "the good ", "document": ""})
    content: dict[str, Any] = {
        "task": {"name": "custom", "kind": "embedding", "path": str(folder), "max_length": 24, "selection": 0.2,
                 "files": {"train": "lists.jsonl", "test": {"texts": "texts.txt"}}},
        "teacher": str(folder / "teacher"),
        "student": {"keep": [1]},
        "method": "automm",
        "objective": {"vectors": 1.0, "similarities": {"weight": 0.5, "temperature": 0.2}, "contrastive": 0.2, "lists": 0.3},
        "train": {"epochs": 3, "batch_size": 4, "lr": 1e-4, "precision": "fp32", "dropout": 0.0, "checkpoint_steps": 4},
        "evaluate": {"bootstrap": 0, "latency": {"repeats": 3, "length": 8}},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.slow
def test_killed_anywhere_it_comes_to_the_same_bits(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    with runs.launched(tmp_path) as launcher:

        def train(**options: Any) -> Ended:
            return run(launcher, path, tmp_path, **options)

        first = train()
        assert first.code == 0, first.err
        expected = runs.outcome(tmp_path / "run", tmp_path / "home")
        for name in ("run", "home"):
            (tmp_path / name).rename(tmp_path / f"first-{name}")
        runs.killed(train, lambda folder: runs.outcome(folder / "run", folder / "home"), expected, tmp_path,
                    seconds=(0.05, first.cpu / 2), kills=4, seed=0)  # fmt: skip


def run(launcher: Launcher, path: Path, folder: Path, **options: Any) -> Ended:
    return launcher.run("train", path, "--out", folder / "run", home=folder / "home", **options)


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    with ranks.pair(tmp_path / "two") as pair:
        for ended in pair.run("train", path, "--out", tmp_path / "both", home=tmp_path / "home-two"):
            assert ended.code == 0, ended.err
    with runs.launched(tmp_path) as launcher:
        ended = launcher.run("train", path, "--out", tmp_path / "one", home=tmp_path / "home-one")
        assert ended.code == 0, ended.err
    one, both = (ranks.curves(tmp_path / name, tmp_path / home) for name, home in (("one", "home-one"), ("both", "home-two")))
    assert one["student"] and one["student"] == pytest.approx(both["student"], rel=1e-4)
    ranks.assert_close(*(load_file(tmp_path / name / "student" / "model.safetensors") for name in ("one", "both")), near=1e-4)
