"""The committed pages are what the committed results give, byte for byte, and new results say which code made them."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from comparisons import comparison

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "compare", "export", "minidisc", "mkd", "peakd", "quality", "record", "results", "search", "search_page",
)  # fmt: skip


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("results")
    for name in NAMES:  # names as common as these are not to stay
        sys.modules.pop(name, None)


def test_results_are_those_of_the_files(results):
    assert results.page() == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), "run `make results`"


def test_the_readme_holds_the_table_of_the_files(results):
    assert results.readme() == (ROOT / "README.md").read_text(encoding="utf-8"), "run `make results`"


def test_a_record_names_the_commit_of_its_code(results, tmp_path, monkeypatch):
    record_of = sys.modules["record"]
    monkeypatch.setattr(record_of, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert record_of.made_by() == {}  # no checkout

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
        return subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    for name in ("src", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "--short", "HEAD")
    (tmp_path / "results" / "one.txt").write_text("2")
    assert record_of.made_by() == {"commit": commit}
    record = {"machine": {"cpu": "some"}, "versions": {"torch": "2"}}
    assert record_of.circumstances(record | record_of.made_by())[-1] == f"Commit: {commit}."
    assert record_of.circumstances(record)[-1] == "Versions: torch 2."
    (tmp_path / "src" / "two.txt").write_text("new")
    assert record_of.made_by() == {"commit": f"{commit}+"}
    monkeypatch.setattr(record_of, "ROOT", tmp_path / "src")
    assert record_of.made_by() == {}  # inside the checkout of something else


def test_pictures_are_those_of_the_files(results):
    for name, content in results.pictures().items():
        assert content == (ROOT / "docs" / name).read_text(encoding="utf-8"), "run `make results`"


def engines_record(trials: int = 4) -> dict[str, Any]:
    one = {"low": [0.1, 0.2, 0.3, 0.4], "median": [0.2, 0.3, 0.4, 0.5], "high": [0.3, 0.4, 0.5, 0.6], "found_the_best": 1}
    engines = {name: one | {"seconds": [1.0, 2.0, 3.0, 4.0 + place]} for place, name in enumerate(("random", "tpe", "lstm"))}
    against = {"tpe": {"gain": 0.01, "low": 0.005, "high": 0.02}, "lstm": {"gain": 0.01, "low": -0.01, "high": 0.03}}
    return {"trials": trials, "seeds": 2, "best_of_all": 0.7, "points": 9, "engines": engines, "against_random": against}


def test_engines_are_drawn_over_cost_and_judged_by_intervals(results, tmp_path):
    (tmp_path / "engines.json").write_text(json.dumps(engines_record()))
    picture = results.search_page.chart(tmp_path)
    root = ElementTree.fromstring(picture)
    curves = [one.get("d") for one in root.iter() if one.tag.endswith("path") and (one.get("class") or "").startswith("curve")
              and one.get("class") != "curve best"]  # fmt: skip
    assert len(curves) == len(set(curves)) == 3 and "random 0.5000" in (root.get("aria-label") or "")
    page = "\n".join(results.search_page.section(tmp_path))
    assert "Better than chance at equal cost: tpe; worse: none." in page and f"({results.search_page.CHART})" in page
    assert results.search_page.chart(tmp_path / "nowhere") is None


def glue_run(seed: int, value: float, *, rows: list[float] | None = None) -> dict[str, Any]:
    run = {"seed": seed, "task": {"select": "f1"}, "student": {"metrics": {"dev": {"f1": {"value": value}}}}}
    return run | ({"samples": {"test": "dev", "metric": "f1", "scores": rows}} if rows else {})


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ([0.05], "one seed; no interval, so neither is shown to be better"),
        ([0.05, 0.06, 0.055], ": better."),
        ([0.05, -0.06, 0.01], "neither is shown to be better"),
        ([-0.05, -0.06, -0.055], ": worse."),
        ([], "not measured"),
    ],
)
def test_students_are_compared_seed_by_seed_and_a_small_lead_is_no_victory(results, gaps, words):
    ours = [glue_run(seed, 0.8 + gap) for seed, gap in enumerate(gaps)]
    said = results.search_page._paired(ours, [glue_run(seed, 0.8) for seed in range(3)])
    assert words in said


def test_students_are_compared_row_by_row_where_draws_were_kept(results):
    draws = [0.70, 0.80, 0.90, 0.75, 0.85]
    ours = [glue_run(0, 0.83, rows=[value + 0.03 for value in draws])]
    said = results.search_page._paired(ours, [glue_run(0, 0.8, rows=draws)])
    assert said == "+3.0 points (95 % interval +3.0 to +3.0, over rows, with one seed: about these weights alone): better."


def test_arms_are_counted_over_tasks(results, tmp_path):
    one = comparison() | {"command": "understudy compare …"}
    other = comparison(metric="f1", scores={"finetune": 0.80, "minidisc": 0.90}) | {"command": "understudy compare …"}
    for name, made in (("mrpc", one), ("conll2003-5k", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(made))
    rows = {line.split("|")[1].strip(" `*"): [cell.strip() for cell in line.split("|")[2:-1]]
            for line in results.compare.short_table(tmp_path)}  # fmt: skip
    assert list(rows)[2:] == ["the teacher", "minidisc", "automm", "kdnas", "finetune"]  # by what they gain
    assert rows["minidisc"][:2] == ["17.0", "1.6×"] and rows["minidisc"][-1] == "2 of 2"
    assert rows["minidisc"][3].startswith("**90.") and rows["finetune"][2].startswith("80.")
    assert rows["automm"][-1] == "1 of 1" and rows["automm"][3] == "–"  # a tie with minidisc, and not tried on the other
    assert rows["kdnas"][-1] == "0 of 1" and rows["finetune"][-1] == "0 of 2"
    page = "\n".join(results.compare.section(tmp_path))
    assert "| minidisc | **+6.0** | **+10.0** | 2 of 2 |" in page and "| automm | **+6.0** | – | 1 of 1 |" in page
    assert "| against finetune, in points | accuracy, later (400 rows) |" in page  # the other test set
    assert results.compare.section(tmp_path / "nowhere") == []


def test_what_is_finished_is_not_repeated_and_what_fails_is_named(results, tmp_path, monkeypatch):
    record = sys.modules["record"]
    called = []

    def run(command, cwd):
        folder = Path(command[command.index("--out") + 1])
        called.append(folder.name)
        if folder.name == "bad":
            return subprocess.CompletedProcess(command, 3)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text('{"seed": 1}')
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(record.subprocess, "run", run)
    monkeypatch.setattr(record, "made_by", lambda: {"commit": "abc"})
    after: list[Path] = []
    arguments = ["recipe.yaml", "task.path=/secret/place", "a b=1"]
    keep = lambda file, folder: after.append(file)  # noqa: E731
    runs = [record.Run(name, arguments, {"variant": name}, after=keep) for name in ("bad", "good")]
    kept = tmp_path / "kept"
    for turn in range(2):
        with pytest.raises(SystemExit, match=r"bad \(exit code 3\)"):
            record.do(runs, kept, tmp_path / "runs")
        assert called == ["bad", "good"] + ["bad"] * turn
    (made,) = record.read(kept).values()
    assert made == {"command": "understudy train recipe.yaml task.path=… 'a b=1'", "commit": "abc", "variant": "good", "seed": 1}
    assert after == [kept / "good.json"] * 2


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "benchmarks").glob("*.py")))
def test_what_a_benchmark_takes_from_the_package_is_there(script):
    """Most of it is imported where it is needed, hours into a measurement."""
    tree = ast.parse((ROOT / "benchmarks" / script).read_text(encoding="utf-8"))
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("understudy")]
    for node in taken:
        module = importlib.import_module(str(node.module))
        for one in node.names:
            assert hasattr(module, one.name) or importlib.import_module(f"{node.module}.{one.name}"), (node.module, one.name)
