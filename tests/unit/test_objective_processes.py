"""Two processes with half a batch each are one process with the whole batch, pairwise terms included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import json, sys
import torch
from torch import distributed
from understudy.models.needs import Signals
from understudy.objective import Counts
from objectives import objective_of

rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
generator = torch.Generator().manual_seed(0)
z_s, f_s, z_t, f_t = (torch.randn(7, d, generator=generator, dtype=torch.float64) for d in (3, 4, 3, 5))
labels = torch.arange(7) % 3
objective = objective_of(
    {"name": "automm", "rkd_distance_loss_weight": 1.0, "rkd_angle_loss_weight": 2.0, "parity": True},
    num_labels=3, student_width=4, teacher_width=5, student_layers=2, teacher_layers=2,
).double()
weight = torch.eye(4, dtype=torch.float64, requires_grad=True)  # stands for the student
mine = slice(None) if world == 1 else [slice(0, 4), slice(4, 7)][rank]  # uneven on purpose
num = len(labels[mine])
student = Signals([1] * num, logits=z_s[mine] + (f_s[mine] @ weight)[:, :3], feature=f_s[mine] @ weight)
teacher = Signals([1] * num, logits=z_t[mine], feature=f_t[mine])
total, values = objective.compute(student, teacher, labels[mine], progress=0.0, counts=Counts(7, 7, 7))
gradients = torch.autograd.grad(total, [weight, *objective.parameters()])
sums = torch.cat([total.detach().flatten(), *(v.flatten() for v in values.values()), *(g.flatten() for g in gradients)])
if world > 1:
    distributed.all_reduce(sums)
    distributed.destroy_process_group()  # else its threads may still run when the interpreter ends, which aborts it
if rank == 0:
    open(out, "w").write(json.dumps({"terms": list(values), "sums": sums.tolist()}))
"""


def run(world: int, folder: Path) -> dict:
    out = folder / f"{world}.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(world), str(folder / "store"), str(out)], env=environment
        )
        for rank in range(world)
    ]
    try:
        codes = [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * world
    return json.loads(out.read_text())


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
def test_two_processes_equal_one(tmp_path):
    one, two = run(1, tmp_path), run(2, tmp_path)
    assert one["terms"] == two["terms"] and "rkd_angle" in one["terms"]
    assert two["sums"] == pytest.approx(one["sums"], rel=1e-10, abs=1e-14)
