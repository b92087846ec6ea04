"""The method's part of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy import figures


def section(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    if "echo" not in kept:
        return None
    made = kept["echo"]
    table = figures.table(["answers", "temperature"], [[f"{made['rows']:,}", f"{made['temperature']:g}"]])
    return figures.section("echo", "What was repeated", tables=[table], lines=["Labels were not looked at."])
