"""The store of teacher signals: the same numbers as from the teacher, computed once, or not there."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import fits
import numpy as np
import pytest
import torch

from understudy import cache as cache_module
from understudy.base import disk
from understudy.base.errors import Interrupted, RecipeError, ResourceError
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, content_digest
from understudy.models.model import digest
from understudy.models.needs import Needs, Signals
from understudy.train.guard import StopSignals

EVERYTHING = Needs(logits=True, feature="head_input", hidden=(0, 1, 2), cls=(1, 2), qkv=(1, 2))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Several batches and several shards of a toy's rows."""
    monkeypatch.setattr(cache_module, "_SHARD_EXAMPLES", 12)
    monkeypatch.setattr(cache_module, "_MAX_TOKENS", 90)
    yield
    disk.fault = None


def store(root: Path, kind: str = "classification", **changes) -> SignalCache:
    model = changes.pop("model", None) or fits.model(kind)
    given = {"model": model, "digest": digest(model.net), "encoded": fits.encoded(40, kind=kind), "precision": "fp32"}
    return SignalCache(root, **{**given, **changes})


def tensors(signals: Signals) -> dict[str, torch.Tensor]:
    found = {f"hidden-{i}": value for i, value in signals.hidden.items()}
    found |= {f"cls-{i}": value for i, value in signals.cls.items()}
    found |= {f"{part}-{i}": qkv["qkv".index(part)] for i, qkv in signals.qkv.items() for part in "qkv"}
    found |= {name: value for name in ("logits", "feature") if (value := getattr(signals, name)) is not None}
    return found


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("data.f32"))}


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "tokens", "text"])
def test_stored_signals_are_the_teachers(kind: str, tmp_path: Path):
    needs = dataclasses.replace(EVERYTHING, feature=None) if kind == "text" else EVERYTHING
    cache = store(tmp_path, kind)
    assert len(cache.shards) > 2
    counted: list[int] = []
    cache.fill(needs, counted.append)
    assert sum(counted) == 40
    live = LiveTeacher(cache.model, cache.encoded, needs, "fp32", lambda n: None)
    kept = CachedTeacher(cache, needs)
    for rows in (np.arange(40), np.array([31, 2, 17]), np.array([5])):
        one, other = live.signals(rows), kept.signals(rows)
        assert one.sizes == other.sizes
        assert tensors(one).keys() == tensors(other).keys()
        for name, value in tensors(one).items():
            torch.testing.assert_close(tensors(other)[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_half_precision_on_disk_takes_half_the_space_and_is_off_by_one_part_in_2048(tmp_path: Path):
    exact, half = store(tmp_path), store(tmp_path, dtype="fp16")
    for cache in (exact, half):
        cache.fill(EVERYTHING, lambda n: None)
    assert exact.key != half.key
    assert half.bytes_needed(EVERYTHING) * 2 == exact.bytes_needed(EVERYTHING)
    sizes = [sum(path.stat().st_size for path in cache.folder.rglob("data.f*")) for cache in (exact, half)]
    assert sizes == [exact.bytes_needed(EVERYTHING), half.bytes_needed(EVERYTHING)]
    rows = np.array([31, 2, 17])
    one, other = (tensors(CachedTeacher(cache, EVERYTHING).signals(rows)) for cache in (exact, half))
    for name, value in one.items():
        assert other[name].dtype == torch.float32
        assert (value - other[name]).abs().le(value.abs() / 2048 + 3e-8).all() and not torch.equal(value, other[name])


def test_numbers_too_large_for_half_precision_are_refused_by_name(tmp_path: Path):
    model = fits.model()
    with torch.no_grad():
        model.net.classifier.bias.fill_(1e5)
    with pytest.raises(RecipeError, match=r"cache\.dtype: the teacher's logits holds numbers beyond 65,504"):
        store(tmp_path, model=model, dtype="fp16").fill(Needs(logits=True), lambda n: None)
    store(tmp_path, model=model).fill(Needs(logits=True), lambda n: None)


def test_a_store_made_with_other_threads_is_used_and_that_is_said(tmp_path: Path, capsys, monkeypatch):
    store(tmp_path).fill(Needs(logits=True), lambda n: None)
    store(tmp_path).fill(Needs(logits=True), lambda n: None)
    assert "another run" not in capsys.readouterr().err
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 2)
    store(tmp_path).fill(Needs(logits=True), lambda n: pytest.fail("the teacher was run"))
    assert f"stored by another run with threads {threads}, here {threads + 2}" in capsys.readouterr().err


def test_a_full_store_does_not_run_the_teacher(tmp_path: Path):
    store(tmp_path).fill(EVERYTHING, lambda n: None)
    before = contents(tmp_path)
    again = store(tmp_path)
    again.fill(EVERYTHING, lambda n: pytest.fail("the teacher was run"))
    again.fill(Needs(logits=True), lambda n: pytest.fail("the teacher was run"))
    assert contents(tmp_path) == before


def test_what_is_stored_does_not_depend_on_what_else_was_asked_for(tmp_path: Path):
    """Nor on the order: two runs that share a store could otherwise change each other's numbers."""
    pieces = [Needs(logits=True), Needs(feature="head_input"), Needs(hidden=(2,)), Needs(cls=(2,)), Needs(qkv=(2,))]
    store(tmp_path / "whole").fill(pieces[0] | pieces[1] | pieces[2] | pieces[3] | pieces[4], lambda n: None)
    expected = contents(tmp_path / "whole")
    for number, order in enumerate(itertools.islice(itertools.permutations(pieces), 0, 120, 13)):
        root = tmp_path / str(number)
        for needs in order:
            store(root).fill(needs, lambda n: None)
        assert contents(root) == expected


def test_an_interrupted_pass_goes_on_where_it_was(tmp_path: Path):
    store(tmp_path / "whole").fill(EVERYTHING, lambda n: None)
    points: list[str] = []
    disk.fault = lambda name, path: points.append(name)
    store(tmp_path / "counted").fill(EVERYTHING, lambda n: None)

    def fail_at(number: int) -> None:
        left = number

        def hook(name: str, path: Path) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(5, "Input/output error")

        disk.fault = hook

    share = len(points) // 12  # so that something is left to do each time
    for at in range(1, share, max(1, share // 10)):
        fail_at(at)
        with pytest.raises(ResourceError):
            store(tmp_path / "broken").fill(EVERYTHING, lambda n: None)
        disk.fault = None
        for shard in (tmp_path / "broken").rglob("shard-*"):
            assert disk.problems(shard) == []
    store(tmp_path / "broken").fill(EVERYTHING, lambda n: None)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_signal_is_obeyed_between_two_shards(tmp_path: Path):
    cache, stop, counted = store(tmp_path), StopSignals(), []

    def count(rows: int) -> None:
        counted.append(rows)
        stop.received = 15

    with pytest.raises(Interrupted) as caught:
        cache.fill(Needs(logits=True), count, stop)
    assert caught.value.exit_code == 143
    first = sum(len(batch) for batch in cache.shards[0])
    assert sum(counted) == first
    rest: list[int] = []
    store(tmp_path).fill(Needs(logits=True), rest.append)
    assert sum(rest) == 40 - first


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest"])
def test_a_damaged_shard_alone_is_computed_again(damage: str, tmp_path: Path, capsys):
    cache = store(tmp_path)
    cache.fill(Needs(logits=True), lambda n: None)
    before = contents(tmp_path)
    path = cache._shard("logits", 1) / ("manifest.json" if damage == "manifest" else "data.f32")
    data = path.read_bytes()
    path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 4]) + data[1:])
    counted: list[int] = []
    store(tmp_path).fill(Needs(logits=True), counted.append)
    assert sum(counted) == sum(len(batch) for batch in cache.shards[1])
    assert contents(tmp_path) == before
    assert "is damaged and is computed again" in capsys.readouterr().err


def changed_text(encoded):
    ids = encoded.input_ids.copy()
    ids[3] += 1
    return dataclasses.replace(encoded, input_ids=ids)


def changed_label(encoded):
    return dataclasses.replace(encoded, labels=1 - encoded.labels)


def test_anything_that_matters_has_a_store_of_its_own(tmp_path: Path):
    base = store(tmp_path)
    other_teacher = fits.model(seed=1)
    rows = fits.encoded(40)
    keys = [
        base.key,
        store(tmp_path, model=other_teacher).key,
        store(tmp_path, encoded=changed_text(rows)).key,
        store(tmp_path, encoded=fits.encoded(39)).key,
        store(tmp_path, precision="bf16").key,
    ]
    assert len(set(keys)) == len(keys)
    assert store(tmp_path / "elsewhere").key == base.key
    # A teacher does not read the labels: what it says of a text serves every task on it.
    assert store(tmp_path, encoded=changed_label(rows)).key == base.key


def test_one_weight_changes_the_key(tmp_path: Path):
    model = fits.model()
    before = store(tmp_path, model=model).key
    with torch.no_grad():
        next(model.net.parameters()).view(-1)[7] += 1e-6
    assert store(tmp_path, model=model).key != before


def test_the_digest_sees_what_models_see():
    rows = fits.encoded(8)
    assert content_digest(rows) == content_digest(dataclasses.replace(rows, ids=[f"other-{i}" for i in range(8)]))
    assert content_digest(rows) != content_digest(changed_text(rows))
    assert content_digest(rows) != content_digest(changed_label(rows))


@pytest.mark.parametrize("kind", ["classification", "tokens", "text"])
def test_bytes_needed_is_what_is_written(kind: str, tmp_path: Path):
    needs = Needs(logits=True, hidden=(1,), cls=(2,), qkv=(1,))
    cache = store(tmp_path, kind)
    cache.fill(needs, lambda n: None)
    assert cache.bytes_needed(needs) == sum(map(len, contents(tmp_path).values()))


def test_a_stored_teacher_never_runs(tmp_path: Path, monkeypatch):
    cache = store(tmp_path)
    cache.fill(EVERYTHING, lambda n: None)
    teacher = CachedTeacher(cache, EVERYTHING)
    monkeypatch.setattr(cache_module, "forward", lambda *a, **k: pytest.fail("the teacher was run"))
    cache.model.net = SimpleNamespace(config=cache.model.net.config)  # type: ignore[assignment]
    assert teacher.signals([3, 1]).logits.shape == (2, 2)  # type: ignore[union-attr]
