"""The committed pages are what the committed results give, byte for byte."""

from __future__ import annotations

import importlib
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
