"""A cached teacher is the live one, to the bit: every family, stock, cut unevenly and shared, every signal, every term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, Teacher
from understudy.data.encode import Encoded
from understudy.models.model import Model, digest
from understudy.models.needs import Needs, Signals
from understudy.objective import Counts, FrozenHead, Objective, projection
from understudy.objective import terms as learn

KINDS = ("classification", "tokens", "text")
EVERY = Needs(logits=True, hidden=(0, 1, 2, 3), cls=(0, 1, 2, 3), qkv=(1, 2, 3))
WIDTHS: Any = {"student_width": 32, "teacher_width": 32, "seed": 0}


def model_of(family: str, kind: str, structure: str, *, seed: int) -> Model:
    net = tiny_models.tiny_structured(family, structure, kind, seed=seed, num_labels=3)
    return Model(net, None, ("a", "b", "c"), kind, family, None)


def rows(kind: str) -> Encoded:
    lengths = np.array([7, 3, 12, 5, 9, 2])
    ids = tiny_models.tiny_ids(1, int(lengths.sum()), seed=5)[0].numpy().astype(np.int32)
    labels: np.ndarray = np.array([0, 1, 2, 0, 1, 2])
    if kind != "classification":
        labels = np.where(np.arange(len(ids)) % 3 == 1, ids % 3 if kind == "tokens" else ids, -100).astype(np.int64)
    names = [f"row-{i}" for i in range(6)]
    return Encoded(
        names, ids, np.concatenate([[0], np.cumsum(lengths)]), labels=labels, per_token=kind != "classification"
    )


def terms(kind: str, feature: str | None, teacher: Model) -> dict[str, Any]:
    """Every term that this kind of task has, for one feature."""
    found = {
        "soft": learn.soft_labels(kind, temperature=2.0),
        "logit_kl": learn.logit_kl(kind),
        "logit_mse": learn.logit_mse(kind),
        "hidden": learn.hidden_states(((0, 0), (2, 1), (3, 3)), **WIDTHS),
        "patient": learn.patient(((1, 2), (3, 3)), **WIDTHS),
    }
    if feature is not None:
        adaptor = projection("adaptor", "linear", student_width=32, teacher_width=32, seed=0)
        found["output_feature"] = learn.output_feature(kind, adaptor=adaptor, feature=feature)
        if kind == "classification" or feature != "head_input":
            found["rkd_distance"] = learn.rkd_distance(feature=feature)
            found["rkd_angle"] = learn.rkd_angle(feature=feature)
        if kind == "classification" or feature == "head_input":
            head = FrozenHead(torch.randn(3, 32, generator=torch.Generator().manual_seed(1)), None)
            found["softmax_regression"] = learn.softmax_regression(kind, head=head, adaptor=adaptor, feature=feature)
    # A cut teacher has no heads in its second layer, hence no relations; three heads in the third divide no width.
    for layer, heads in ((1, None), (3, 8)):
        found[f"relation_{layer}"] = learn.relations(3, layer, heads=heads)
    return found


def only(signals: Signals, real: int, data: Encoded, batch: np.ndarray, needs: Needs, kind: str) -> Signals:
    """What was said about the first `real` rows of a batch."""
    tokens = sum(signals.sizes[:real])
    asked = real
    if kind != "classification":
        assert data.labels is not None
        asked = sum(int((data.labels[data.offsets[i] : data.offsets[i + 1]] != -100).sum()) for i in batch[:real])
    feature = asked if kind == "tokens" and needs.feature == "head_input" else real
    return Signals(
        sizes=signals.sizes[:real],
        logits=signals.logits[:asked] if signals.logits is not None else None,
        feature=signals.feature[:feature] if signals.feature is not None else None,
        hidden={layer: value[:tokens] for layer, value in signals.hidden.items()},
        cls={layer: value[:real] for layer, value in signals.cls.items()},
        qkv={layer: (q[:tokens], k[:tokens], v[:tokens]) for layer, (q, k, v) in signals.qkv.items()},
    )


def joined(parts: list[Signals]) -> Signals:
    """Signals of several batches as those of one."""
    flat: list[list[torch.Tensor]] = []
    for part in parts:
        flat.append([])
        part.map(lambda tensor: flat[-1].append(tensor) or tensor)
    whole = iter([torch.cat(of_all) for of_all in zip(*flat, strict=True)])
    found = parts[0].map(lambda _: next(whole))
    found.sizes = [size for part in parts for size in part.sizes]
    return found


@pytest.mark.parametrize("structure", tiny_models.STRUCTURES)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_cached_is_live(family: str, structure: str, tmp_path: Path):
    for kind in KINDS:
        data = rows(kind)
        teacher, student = model_of(family, kind, structure, seed=0), model_of(family, kind, "stock", seed=1)
        for feature in ("head_input", "cls", "mean") if kind != "text" else (None,):
            needs = EVERY | Needs(feature=feature)
            cache = SignalCache(
                tmp_path, model=teacher, digest=digest(teacher.net), encoded=data, precision="fp32"
            )
            cache.fill(needs, lambda n: None)
            # Numbers may differ in the last bit when an example is computed in another company than for the store.
            batches = cache.batches(np.concatenate(cache.plan))
            asked = np.concatenate([batch[:real] for batch, real in batches])
            assert sorted(asked) == list(range(len(data)))
            live = LiveTeacher(teacher, data, needs, "fp32", lambda n: None)
            ours = LiveTeacher(student, data, needs, "fp32", lambda n: None).signals(asked)
            said = [only(live.signals(batch), real, data, batch, needs, kind) for batch, real in batches]
            one, other = joined(said), CachedTeacher(cache, needs).signals(asked)

            flat: list[list[torch.Tensor]] = []
            for signals in (one, other):
                found: list[torch.Tensor] = []
                signals.map(lambda tensor, found=found: found.append(tensor) or tensor)
                flat.append(found)
            assert len(flat[0]) == len(flat[1]) == 1 + (feature is not None) + 8 + 9
            for live_tensor, stored in zip(*flat, strict=True):
                assert live_tensor.shape == stored.shape and torch.equal(live_tensor, stored)

            objective = Objective(**terms(kind, feature, teacher))
            counts = Counts(examples=6, tokens=38, labels=len(one.logits))
            labels = torch.from_numpy(data.labels[data.labels != -100]) if kind != "classification" else None
            values = [objective.compute(ours, said, labels, progress=0.0, counts=counts)[1] for said in (one, other)]
            assert values[0].keys() == objective.terms.keys()
            for name, value in values[0].items():
                assert torch.isfinite(value) and torch.equal(value, values[1][name]), name


def test_the_heads_of_a_cut_teacher_are_its_own(tmp_path: Path):
    """By hand: two, none and three heads of width 8, whatever the configuration says."""
    teacher, data = model_of("bert", "classification", "cut", seed=0), rows("classification")
    needs = Needs(qkv=(1, 2, 3))
    cache = SignalCache(tmp_path, model=teacher, digest=digest(teacher.net), encoded=data, precision="fp32")
    cache.fill(needs, lambda n: None)
    said: Teacher = CachedTeacher(cache, needs)
    assert teacher.net.config.num_attention_heads == 4
    assert [said.signals([0, 2]).qkv[layer][0].shape for layer in (1, 2, 3)] == [(19, 2, 8), (19, 0, 8), (19, 3, 8)]
    assert cache.bytes_needed(needs) == 38 * 5 * 8 * 3 * 4
