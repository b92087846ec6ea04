"""Two processes under torchrun have the gradients of one, pairwise terms included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trainers
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
import trainers
from safetensors.torch import save_file
folder = Path(sys.argv[1])
watch = trainers.Gradients()
trainer = trainers.trainer(
    folder, callbacks=[watch], objective=trainers.objective(pairwise=True),
    args={"per_device_train_batch_size": 8, "max_grad_norm": 0.0, "logging_steps": 1, "save_strategy": "epoch"},
)
watch.learner = trainer.learner
trainer.train()
held_out = trainer.evaluate(trainers.rows_of(trainers.fits.encoded(6, seed=1)))
if trainer.args.process_index == 0:
    save_file(watch.steps[0], folder / "gradients.safetensors")
    terms = {k: v for k, v in trainer.state.log_history[0].items() if k.startswith("loss")}
    (folder / "told.txt").write_text(repr([terms, held_out["eval_loss"]]))
"""


def run(folder: Path, processes: int, *, rows: int) -> tuple[dict[str, torch.Tensor], list]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT.replace('_batch_size": 8', f'_batch_size": {rows}'))
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, str(script), str(folder)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "checkpoint-1" / "objective.safetensors").is_file()
    return load_file(folder / "gradients.safetensors"), eval((folder / "told.txt").read_text())


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
def test_two_processes_equal_one(tmp_path):
    one, one_told = run(tmp_path / "one", 1, rows=16)
    two, two_told = run(tmp_path / "two", 2, rows=8)
    assert set(one) == set(two) and any(name.startswith("objective.") for name in one)
    for name, tensor in one.items():  # rows stand in another order, in which the distances of RKD round differently
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=3e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023
    assert two_told[0] == pytest.approx(one_told[0], rel=1e-4)
    assert set(one_told[0]) == {"loss", *(f"loss_{name}" for name in trainers.objective(pairwise=True).terms)}
    assert two_told[1] == pytest.approx(one_told[1], rel=1e-2)
