"""mKD: an adapter is trained on a large model, moved to a small one, and trained further there (Klimaszewski,
Andruszkiewicz & Birch 2024).

    1  the teacher's adapter is trained, its base frozen            lab.teacher: here, or `method.adapter`
    2  prune and align: layers chosen, dimensions by correlation    adapters/transfer, no labels, no gradients
    3  the student's adapter and head are trained, base frozen      lab.fit with `train.only: adapter`

Beyond the original the student may learn from the adapted teacher's outputs in stage 3. docs/mkd.md lists every knob.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch

from understudy.adapters import Adapter, active, extract, put
from understudy.adapters.transfer import Plan, plan, told, transfer
from understudy.base.progress import say
from understudy.lab import Lab, Source
from understudy.lab.objective import learn
from understudy.methods.mkd.settings import MKD
from understudy.models.model import Model, digest


def distil(cfg: MKD, lab: Lab) -> Model:
    """All three stages, each a durable step."""
    teacher = lab.teacher()
    student = lab.student()
    adapter = extract(teacher.model.net, active(teacher.model.net) or "", head=True)
    how = plan(lab.pretrained().model.net.config, student.net.config, adapter.config, cfg)
    for line in (*how.lines(), *how.rules()):
        say(f"Transfer: {line}.")
    adapter, notes = moved(lab, teacher, student, adapter, how)
    for line in put(student.net, adapter):
        say(f"Transfer: {line}")
    trained = learn(lab, "student", student, teacher)
    return dataclasses.replace(trained, notes=(*trained.notes, *notes))


def moved(lab: Lab, teacher: Source, student: Model, adapter: Adapter, how: Plan) -> tuple[Adapter, list[str]]:
    """The adapter for the student, made once; and sentences for the report."""
    bare = lab.pretrained().model
    about = {
        "name": "transfer", "teacher": teacher.digest, "student": digest(student.net), "plan": how.as_dict(),
        "rows": lab.data.digest() if how.align == "lsa" else None, "seed": lab.recipe.seed,
    }  # fmt: skip

    def make() -> dict[str, np.ndarray]:
        for model in (bare, student):
            model.net.to(lab.device)
        found = transfer(
            bare, student, adapter, how, rows=lab.data.train, task=lab.data.task, seed=lab.recipe.seed,
            max_length=lab.recipe.task.max_length,
        )  # fmt: skip
        tensors = found.adapter.tensors.items()
        arrays = {f"tensor/{layer}/{place}/{name}": value.numpy() for (layer, place, name), value in tensors}
        arrays |= {f"head/{name}": value.numpy() for name, value in found.adapter.head.items()}
        return arrays | {"report": np.frombuffer(json.dumps(found.report).encode(), np.uint8)}

    arrays = lab.keep_arrays("transfer", about, make)
    report = json.loads(arrays["report"].tobytes())
    tensors: dict[Any, torch.Tensor] = {}
    head: dict[str, torch.Tensor] = {}
    for key, value in arrays.items():
        kind, _, rest = key.partition("/")
        if kind == "tensor":
            layer, place, name = rest.split("/")
            tensors[int(layer), place, name] = torch.from_numpy(value.copy())
        elif kind == "head":
            head[rest] = torch.from_numpy(value.copy())
    return Adapter(how.module, tensors, head), [f"transfer: {line}." for line in (*how.lines(), *told(report))]
