"""Whole comparisons of toys: every arm is trained, what is stopped goes on, what fails is named, and the end is the same."""

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
import pytest
import runs
from pages import Page

from understudy import cli
from understudy.base.errors import DataError, RecipeError
from understudy.compare import one, work
from understudy.compare.advice import ranked
from understudy.compare.whole import compare, lines
from understudy.recipe.comparison import load_comparison
from understudy.run import verify

TIMES = {"seconds", "latency_ms", "peak_memory_mb", "teacher_forwards", "recommendations", "fronts"}
"""What two comparisons of the same need not share: clocks, and who asked the teacher first."""


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def file(toy_checkpoint, toy_csv, tmp_path, understudy_home) -> Path:
    recipe = runs.recipe(toy_checkpoint, toy_csv)
    recipe["arms"] = {"sps-rkd": {"student.share": "sps", "method": {"name": "automm", "rkd_distance_loss_weight": 1.0}}}
    recipe["compare"] = {"methods": ["peakd"], "seeds": 2}
    path = tmp_path / "compare.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.fixture
def here(monkeypatch) -> list[str]:
    """Arms are trained in this process, which is faster; the names of those that were."""
    names: list[str] = []

    def train(run: work.ArmRun, stop: Any) -> None:
        names.append(run.name)
        work.disk.write_text(run.claim / "recipe.yaml", work.to_yaml(run.recipe))
        one.main(run.claim, run.folder, os.getppid())

    monkeypatch.setattr(work, "_train", train)
    return names


@pytest.mark.slow
def test_stopped_and_continued_it_comes_to_the_same(file, here, tmp_path, monkeypatch):
    comparison = load_comparison(file)
    whole, code = compare(comparison, tmp_path / "whole")
    assert code == 0 and len(here) == 6 and list(whole["arms"]) == ["finetune", "peakd", "sps-rkd"]
    here.clear()

    class Pulled(Exception):
        pass

    train, left = work._train, [3]

    def pulled(run: Any, stop: Any) -> None:
        if not left[0]:
            raise Pulled
        left[0] -= 1
        train(run, stop)

    monkeypatch.setattr(work, "_train", pulled)
    with pytest.raises(Pulled):
        compare(comparison, tmp_path / "parts")
    assert len(here) == 3
    monkeypatch.setattr(work, "_train", train)
    parts, code = compare(comparison, tmp_path / "parts")
    assert code == 0 and len(here) == 6
    assert timeless(parts) == timeless(whole)
    assert json.loads((tmp_path / "parts" / "comparison.json").read_text()) == parts
    again, _ = compare(comparison, tmp_path / "parts")
    assert len(here) == 6 and again == parts, "nothing is done or measured twice"

    arm = parts["arms"]["peakd"]
    assert [stage["stage"] for stage in arm["spent"]["stages"]] == ["ptp", "student"]
    assert arm["spent"]["amount"] == pytest.approx(arm["planned"]) == 3.0
    assert {arm["spent"]["steps"] for arm in parts["arms"].values()} == {3 * 13}  # 200 rows in sixteens, three times
    assert len(arm["curve"]) == 2 and arm["curve"][-1][0] == pytest.approx(3.0)
    assert arm["metrics"]["test"]["accuracy"]["n"] == 2 and arm["peak_memory_mb"] > 100
    assert len(parts["comparisons"]) == 3 * len(parts["task"]["metrics"]) * len(parts["task"]["tests"])
    assert parts["teacher"]["latency_ms"]["median"] > 0
    assert verify(tmp_path / "parts" / "arms" / "sps-rkd-s1")["files"] > 5
    page = (tmp_path / "parts" / "report.html").read_text(encoding="utf-8")
    assert parts["verdict"].split(" (")[0] in page
    assert "sps-rkd" in lines(parts, tmp_path)

    more, _ = compare(load_comparison(file, ["compare.seeds=3"]), tmp_path / "parts")  # a folder may grow
    assert len(here) == 9 and more["arms"]["peakd"]["seeds"] == [0, 1, 2]
    with pytest.raises(RecipeError, match="holds another comparison: train.epochs was 3, is 4"):
        compare(load_comparison(file, ["train.epochs=4"]), tmp_path / "parts")


def test_a_failing_arm_is_named_and_the_others_go_on(file, here, tmp_path):
    arms = 'arms={"wild": {"train.lr": 1.0e+30, "train.warmup": 0.0}}'
    made, code = compare(load_comparison(file, ["compare.methods=automm", "compare.seeds=1", arms]), tmp_path / "out")
    assert code == 5  # diverged
    assert "NaN or infinite" in made["arms"]["wild"]["failed"][0]["reason"]
    assert made["arms"]["automm"]["seeds"] == [0] and made["arms"]["wild"]["spent"] is None
    assert "wild, seed 0: failed" in lines(made, tmp_path)
    compare(load_comparison(file, ["compare.methods=automm", "compare.seeds=1", arms]), tmp_path / "out")
    assert here.count("wild-s0") == 2 and here.count("automm-s0") == 1, "only what failed is tried again"


def test_nothing_finished_is_an_error(file, here, tmp_path):
    alone = ["arms={}", "compare.methods=finetune", "compare.seeds=1"]
    wild = ["train.lr=1e30", "train.warmup=0.0", "teacher.finetune.lr=1e-3"]
    with pytest.raises(DataError, match=r"No arm of .*finetune-s0: .*NaN or infinite"):
        compare(load_comparison(file, [*alone, *wild]), tmp_path / "out")


KINDS = {
    "tokens": (["peakd", "minidisc", "mkd"], "f1", "F1", "up and left is better"),
    "regression": (["automm", "peakd", "kdnas"], "pearson", "Pearson correlation", "up and left is better"),
    "text": (["automm", "peakd", "mkd"], "loss", "loss", "down and left is better"),
}
"""Kind of task -> who is compared, the metric to judge by, its name for people, what the page says about directions."""


def of_kind(folder: Path, kind: str) -> Path:
    """The file of a comparison of toys on a task of a kind."""
    model = checkpoints.save_checkpoint(
        folder / "model", "bert", head="text" if kind == "text" else "backbone", num_hidden_layers=2
    )
    recipe = {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {"model": str(model), "finetune": {"epochs": 8, "lr": 1e-2}},
        "student": {"num_layers": 1},
        "method": {"name": "automm"},
        "train": {"epochs": 4, "batch_size": 16, "lr": 1e-2, "precision": "fp32"},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 8}},
        "compare": {"seeds": 1},
    }
    path = folder / "compare.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "text" else [pytest.mark.slow]) for kind in KINDS])
def test_every_kind_of_task_is_compared_by_its_own_metric(kind, here, tmp_path, understudy_home, capsys):
    """The command itself, and what it and its page say."""
    path, (names, metric, shown, direction) = of_kind(tmp_path, kind), KINDS[kind]
    command = ["compare", str(path), "--methods", ",".join(names), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        cli.app(command)
    assert ended.value.code == 0
    made = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(made["arms"]) == ["finetune", *names] and made["headline"] == {"test": "test", "metric": metric}
    assert not any(arm["failed"] for arm in made["arms"].values())
    notes = made["arms"]["peakd"]["notes"]
    assert any(note.startswith("Without PTP, which is for classes: ") for note in notes)
    said = capsys.readouterr().out
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    for text in (said, page.text.replace("\u00a0", " ")):
        assert made["verdict"] in text and shown in text
    assert f"the {'lowest' if kind == 'text' else 'highest'} {shown}" in made["verdict"]
    assert direction in page.text and notes[0] in page.text
    assert [bool(arm["curve"]) for arm in made["arms"].values()] == [kind != "text"] * len(made["arms"])
    best = ranked(made)[0]
    means = {name: arm["metrics"]["test"][metric]["mean"] for name, arm in made["arms"].items()}
    assert means[best] == (min if kind == "text" else max)(means.values())
    assert said.splitlines()[1].startswith(best)


def test_what_cannot_be_compared_on_a_kind_is_named_with_the_reason(here, tmp_path, understudy_home, capsys):
    path = of_kind(tmp_path, "text")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.app(["compare", str(path), "--methods", "automm,minidisc,mkd", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("arm minidisc: ") and said.count("arm ") == 1
    assert "'loss' is better when it is lower" in said and "set method.selector to capacity-gap" in said
    assert here == [] and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_again_and_again_beside_another_worker_it_comes_to_the_same(file, tmp_path):
    """Real processes and SIGKILL: the one that is killed leaves an arm half done, which it or the other continues."""

    def start(out: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "understudy", "compare", str(file), "compare.seeds=1", "--out", str(tmp_path / out)]
        environment = {**os.environ, "PYTHONPATH": str(runs.ROOT / "src")}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    alone = start("alone")
    assert alone.wait() == 0
    for moment in (r"claims/*/recipe.yaml", r"arms/peakd-s0/steps/*"):
        process = start("killed")
        while not list((tmp_path / "killed").glob(moment)):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    both = [start("killed"), start("killed")]
    assert [process.wait() for process in both] == [0, 0]
    found = [json.loads((tmp_path / out / "comparison.json").read_text()) for out in ("alone", "killed")]
    assert timeless(found[0]) == timeless(found[1])
