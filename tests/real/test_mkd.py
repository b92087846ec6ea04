"""Adapters move between multilingual models on the real files: entities, inference and paraphrases, in two languages at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from understudy.recipe.load import recipe_from
from understudy.run import train

DATA = Path(os.environ.get("UNDERSTUDY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")]
TASKS: dict[str, dict[str, Any]] = {
    "xnli": {"languages": ["en", "de"], "path": DATA},  # MNLI, which it is trained on, lies beside it
    "pawsx": {"languages": ["en", "de"], "train_languages": ["en"], "path": DATA / "pawsx"},
    "wikineural": {"languages": ["en", "de"], "path": DATA / "wikineural"},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["pawsx", "xnli", "wikineural"])
def test_the_three_stages_in_two_languages(task: str, tmp_path: Path, understudy_home: Path):
    if not (DATA / task).is_dir():
        pytest.skip(f"{task} is not in {DATA}")
    long = {"max_position_embeddings": 66}
    teacher = checkpoints.save_checkpoint(tmp_path / "large", "xlm-roberta", hidden_size=48, num_hidden_layers=4, **long)
    student = checkpoints.save_checkpoint(tmp_path / "base", "xlm-roberta", num_hidden_layers=2, seed=1, **long)
    rows = {"max_train_examples": 48, "max_length": 64}
    recipe = recipe_from({
        "task": {"name": task, **TASKS[task], "path": str(TASKS[task]["path"]), **rows},
        "teacher": {"model": str(teacher), "finetune": {"epochs": 1}},
        "student": {"model": str(student)},
        "method": {"name": "mkd", "num_samples": 16, "soft_label_weight": 0.5},
        "train": {"adapter": "pfeiffer[reduction_factor=4]", "epochs": 1, "precision": "fp32", "lr": 1e-3},
        "evaluate": {"bootstrap": 10, "latency": {"length": 8, "repeats": 3}},
    })  # fmt: skip
    result = train(recipe, tmp_path / "run")
    for name in ("teacher", "baseline", "student"):
        found = result[name]["metrics"]
        assert any("en" in test for test in found) and any("de" in test for test in found), found
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").exists()
