"""What the student learns where a recipe's `objective` does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def objective(section: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {"soft": 1.0, "overlap": 0.5}
