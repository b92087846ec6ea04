"""Exports in tests say nothing."""

from __future__ import annotations

import pytest
from exports import no_traces

from understudy.base import progress


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    monkeypatch.setattr(progress, "quiet", True)
    no_traces(monkeypatch)
