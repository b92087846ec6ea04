"""Files written by the test itself, and settings without the whole recipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from understudy.recipe.settings import TaskSettings


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """write("folder/file.tsv", content): a file below the test's folder."""

    def writer(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return writer


@pytest.fixture
def custom(tmp_path: Path) -> Callable[..., TaskSettings]:
    """custom(kind, columns={…}, files={…}, …): settings of a task of one's own, with files in the test's folder."""

    def settings(kind: str, **keys: object) -> TaskSettings:
        keys.setdefault("files", {"train": "train.csv"})
        return TaskSettings.model_validate({"name": "custom", "kind": kind, "path": os.fspath(tmp_path), **keys})

    return settings
