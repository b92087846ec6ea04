"""The toy run that everything here interrupts, damages and repeats, and the same run left in peace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import runs
from runs import Ended, Launcher


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: its folder, its shared store, what it came to, and the disk operations on the way."""

    run: Path
    home: Path
    outcome: dict[str, str]
    operations: list[str]
    ended: Ended


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs, one after the other: on a busy machine they may take their time."""
    for item in items:
        if "reliability" in item.path.parts:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with runs.launched(tmp_path_factory.mktemp("launcher")) as found:
        yield found


@pytest.fixture(scope="session")
def toy_recipe(toy_checkpoint: Path, toy_csv: Path) -> dict[str, Any]:
    return runs.recipe(toy_checkpoint, toy_csv)


@pytest.fixture(scope="session")
def recipe_file(toy_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(json.dumps(toy_recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def reference(launcher: Launcher, recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Only look at it: it is shared by all tests of the session."""
    folder = tmp_path_factory.mktemp("reference")
    run, home, log = folder / "run", folder / "home", folder / "operations"
    ended = launcher.run("train", recipe_file, "--out", run, home=home, fault={"log": str(log)})
    assert ended.code == 0, ended.err
    return Reference(run, home, runs.outcome(run, home), log.read_text().splitlines(), ended)


@pytest.fixture
def train(launcher: Launcher, recipe_file: Path, tmp_path: Path) -> Callable[..., Ended]:
    """Run or continue the toy run in `tmp_path / "run"`, with a shared store of its own."""

    def run(*overrides: str, **options: Any) -> Ended:
        arguments = ("train", recipe_file, *overrides, "--out", tmp_path / "run")
        return launcher.run(*arguments, home=tmp_path / "home", **options)

    return run
