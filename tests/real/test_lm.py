"""Real language models on real stories: packed is alone, and bits per byte are those that others computed."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from understudy.data.documents import documents
from understudy.data.encode import collate, encode
from understudy.data.types import Example, Task
from understudy.evaluate.predict import predict
from understudy.kinds import kind
from understudy.models.load import load_model
from understudy.models.needs import Needs
from understudy.models.signals import forward

DATA = Path(os.environ.get("UNDERSTUDY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
STORIES = DATA / "text" / "tinystories" / "valid_sample.txt"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not STORIES.is_file(), reason=f"no real stories in {DATA}")]
TASK = Task("stories", kind("lm"))


def stories() -> list[Example]:
    """Five, with the quotes that these models know."""
    text = STORIES.read_text(encoding="utf-8")
    for curly, straight in zip("“”‘’", "\"\"''", strict=True):
        text = text.replace(curly, straight)
    return [Example(str(i), text) for i, text in enumerate(documents(text, "stories", []))]


@pytest.mark.parametrize(("name", "nats"), [("stories260K", 1.264), ("TinyStories-656K", 2.860)])
def test_the_loss_is_what_others_computed(name: str, nats: float) -> None:
    """By transformers alone, as the notes on these models say."""
    model, rows = load_model(str(DATA / "models" / name), task=TASK), stories()
    made = predict(model, rows, encode(rows, model.tokenizer, TASK, max_length=512))
    again = predict(model, rows, encode(rows, model.tokenizer, TASK, max_length=512), max_tokens=300)
    np.testing.assert_allclose(made.scores, again.scores, rtol=1e-6)  # however many are computed at once
    found = kind("lm").statistics((), made.scores, made.gold)
    assert len(rows) == 5
    assert found["loss"](np.ones((1, 5)))[0] == pytest.approx(nats, abs=0.003)
    assert found["bpb"](np.ones((1, 5)))[0] == pytest.approx(made.scores[:, 0].sum() / made.gold.sum() / math.log(2))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["stories260K", "TinyStories-656K", "babyllama-105"])
def test_packed_rows_are_rows_alone(name: str, attention: str) -> None:
    model, rows = load_model(str(DATA / "models" / name), task=TASK), stories()
    data = encode(rows, model.tokenizer, TASK, max_length=200)
    batch = collate(data, np.arange(len(data)))
    with torch.no_grad():
        packed = forward(model.net, batch, Needs(logits=True), kind="lm").logits
        model.net.set_attn_implementation(attention)
        alone = torch.cat([model.net(part[None], use_cache=False).logits[0] for part in batch.input_ids.split(batch.sizes)])
    assert (packed - alone[batch.labels != -100]).abs().max() < 1e-4
