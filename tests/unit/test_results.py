"""The committed pages are what the committed results give, byte for byte, and new results say which code made them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "export_page", "kept", "minidisc", "minidisc_page", "mkd", "mkd_page", "peakd_page", "quality_page", "results", "search_page",
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
    kept = sys.modules["kept"]
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert kept.made_by() == {}  # no checkout

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
    assert kept.made_by() == {"commit": commit}
    record = {"machine": {"cpu": "some"}, "versions": {"torch": "2"}}
    assert kept.circumstances(record | kept.made_by())[-1] == f"Commit: {commit}."
    assert kept.circumstances(record)[-1] == "Versions: torch 2."
    (tmp_path / "src" / "two.txt").write_text("new")
    assert kept.made_by() == {"commit": f"{commit}+"}
    monkeypatch.setattr(kept, "ROOT", tmp_path / "src")
    assert kept.made_by() == {}  # inside the checkout of something else
