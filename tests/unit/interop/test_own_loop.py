"""docs/own-loop.md is true: its blocks run, in order, and end where the page says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import toys

from understudy.models.load import load_model

PAGE = Path(__file__).parents[3] / "docs" / "own-loop.md"


def blocks() -> list[tuple[int, str]]:
    """Each block of Python with the number of the line before it."""
    text = PAGE.read_text(encoding="utf-8")
    fenced = re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)
    return [(text[: found.start()].count("\n") + 1, found[1]) for found in fenced]


class Hub:
    """Stands in for the Hub: repositories are folders."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.private = folder, {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        (self.folder / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        self.private[repo_id] = private

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert repo_id in self.private
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with what the page starts from."""
    toys.save_checkpoint(tmp_path / "models" / "teacher", layers=4, head="BertForSequenceClassification", seed=1)
    toys.save_checkpoint(tmp_path / "models" / "small", layers=2)
    toys.save_csv(tmp_path, rows=64)
    (tmp_path / "train.csv").rename(tmp_path / "moods.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return tmp_path


def test_the_blocks_run(place, monkeypatch):
    hub = Hub(place / "hub")
    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, getattr(hub, name))
    world: dict[str, Any] = {"__name__": "own_loop"}
    for line, code in blocks():
        exec(compile("\n" * line + code, str(PAGE), "exec"), world)  # a failure names the line of the page
    assert len(world["losses"]) == 12 and sum(world["losses"][-3:]) < sum(world["losses"][:3])
    assert world["stored"].signals([2, 0]).logits.shape == (2, 2)
    assert 0 <= world["scores"]["eval_accuracy"] <= 1
    assert (place / "trained" / "checkpoint-8" / "objective.safetensors").is_file()
    assert world["name"] in ("glad", "sad")
    pushed = place / "hub" / "your-name" / "moods-small"
    assert (pushed / "README.md").read_text().startswith("---\nlibrary_name: transformers")
    assert load_model(str(pushed)).labels == ("glad", "sad") and hub.private["your-name/moods-small"]


def test_whoever_uses_the_student_needs_none_of_us():
    [code] = [code for _, code in blocks() if "AutoModel" in code]
    assert "understudy" not in code
