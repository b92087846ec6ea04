"""Small trained modules beside a frozen model: bottlenecks, LoRA and (IA)^3, their folders, and moving them to other models."""

from __future__ import annotations

from understudy.adapters.inject import (
    NAME,
    Adapter,
    activate,
    active,
    extract,
    freeze,
    inject,
    installed,
    merge,
    mergeable,
    put,
    remove,
)

__all__ = [
    "NAME", "Adapter", "activate", "active", "extract", "freeze", "inject", "installed", "merge", "mergeable", "put", "remove",
]  # fmt: skip
