"""Promise R5: anyone can repeat the end of a run and see the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from understudy.base import disk


@pytest.mark.parametrize("steps", [3, 10_000])
def test_repeating_the_end_or_all_of_it_gives_the_same_bits(reference, launcher, steps):
    ended = launcher.run("verify", reference.run, "--replay", steps, "--json", home=reference.home)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    taken = disk.read_json(reference.run / "steps/student/done.json")["steps"]
    assert found["files"] > 20
    assert 3 <= found["replayed_steps"] <= taken
    if steps > taken:
        assert found["replayed_steps"] == taken


def test_a_changed_weight_is_found_even_when_the_checksums_were_made_to_fit(reference, launcher, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(reference.run, run)
    checkpoint = sorted((run / "steps/student").glob("step-*"))[-2]
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in sorted(weights) if name.endswith("query.weight"))
    weights[name][0, 0] += 1e-3
    save_file(weights, checkpoint / "model.safetensors")
    for folder in (checkpoint, run):
        disk.write_json(folder / disk.MANIFEST, {"files": disk.manifest(folder)})
    assert launcher.run("verify", run, home=reference.home).code == 0
    taken = disk.read_json(run / "steps/student/done.json")["steps"]
    steps = taken - int(checkpoint.name.removeprefix("step-"))
    ended = launcher.run("verify", run, "--replay", steps, home=reference.home)
    assert ended.code == 7, ended.out + ended.err
    assert "gives other weights" in ended.err and not ended.traceback
