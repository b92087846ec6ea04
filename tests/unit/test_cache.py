"""The store of teacher signals: the same numbers as from the teacher, computed once, or not there."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import fits
import numpy as np
import pytest
import torch

from understudy.base import disk
from understudy.base.errors import Interrupted, RecipeError, ResourceError
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, content_digest
from understudy.cache import signals as cache_module
from understudy.cache.store import Part, Store
from understudy.data.encode import Encoded
from understudy.models.model import digest
from understudy.models.needs import Needs, Signals
from understudy.train.guard import StopSignals

EVERYTHING = Needs(logits=True, feature="head_input", hidden=(0, 1, 2), cls=(1, 2), qkv=(1, 2))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Several batches and several parts of a toy's rows."""
    monkeypatch.setattr(cache_module, "PART", 12)
    monkeypatch.setitem(cache_module.TOKENS, "cpu", 90)
    monkeypatch.setattr(cache_module, "_WAIT", 0.01)
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


def contents(root: Path) -> dict[tuple[bytes, str], bytes]:
    """(example, field) -> its numbers, whatever part they lie in; each must be there once."""
    found: dict[tuple[bytes, str], bytes] = {}
    for folder in root.glob("*/parts/*"):
        part = Part.read(folder)
        for field in part.fields:
            name = field.split("-")[0]
            unit = "token" if name in ("hidden", "q", "k", "v") else "example"
            if "asked" in part.sizes and name in ("logits", "feature"):
                unit = "asked"
            (array,) = part.arrays(field).values()
            rows = np.split(array, np.cumsum(part.sizes[unit])[:-1])
            for key, mine in zip(part.keys, rows, strict=True):
                assert (key, field) not in found
                found[key, field] = mine.tobytes()
    return found


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "tokens", "text"])
def test_stored_signals_are_the_teachers(kind: str, tmp_path: Path):
    needs = dataclasses.replace(EVERYTHING, feature=None) if kind == "text" else EVERYTHING
    cache = store(tmp_path, kind)
    assert len(cache.plan) > 2
    counted: list[int] = []
    cache.fill(needs, counted.append)
    assert sum(counted) == len(set(cache.keys.tolist())) == 40
    live = LiveTeacher(cache.model, cache.encoded, needs, "fp32", lambda n: None)
    kept = CachedTeacher(cache, needs)
    for rows in (np.arange(40), np.array([31, 2, 17]), np.array([5])):
        one, other = live.signals(rows), kept.signals(rows)
        assert one.sizes == other.sizes
        assert tensors(one).keys() == tensors(other).keys()
        for name, value in tensors(one).items():
            torch.testing.assert_close(tensors(other)[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_half_precision_on_disk_takes_half_the_space_and_is_off_by_one_part_in_2048(tmp_path: Path):
    roots = tmp_path / "exact", tmp_path / "half"
    exact, half = store(roots[0]), store(roots[1], dtype="fp16")
    for cache in (exact, half):
        cache.fill(EVERYTHING, lambda n: None)
    assert exact.key != half.key
    assert half.bytes_needed(EVERYTHING) * 2 == exact.bytes_needed(EVERYTHING)
    for root, cache in zip(roots, (exact, half), strict=True):
        assert sum(map(len, contents(root).values())) == cache.bytes_needed(EVERYTHING)
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
        for part in (tmp_path / "broken").glob("*/parts/[!.]*"):
            assert disk.problems(part) == []
    store(tmp_path / "broken").fill(EVERYTHING, lambda n: None)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_signal_is_obeyed_between_two_parts(tmp_path: Path):
    cache, stop, counted = store(tmp_path), StopSignals(), []

    def count(rows: int) -> None:
        counted.append(rows)
        stop.received = 15

    with pytest.raises(Interrupted) as caught:
        cache.fill(Needs(logits=True), count, stop)
    assert caught.value.exit_code == 143
    first = len(cache.plan[0])
    assert sum(counted) == first == 12
    rest: list[int] = []
    store(tmp_path).fill(Needs(logits=True), rest.append)
    assert sum(rest) == 40 - first


@pytest.mark.parametrize("damage", ["flip", "cut", "header", "manifest"])
def test_a_damaged_part_alone_is_computed_again(damage: str, tmp_path: Path, capsys):
    cache = store(tmp_path)
    cache.fill(Needs(logits=True), lambda n: None)
    before = contents(tmp_path)
    part = next(part for part in Store(cache.folder).new_parts() if cache.keys[cache.plan[1][0]] in part.keys)
    path = part.path / ("manifest.json" if damage == "manifest" else "signals.safetensors")
    data = path.read_bytes()
    at = 1 if damage == "header" else -1
    path.write_bytes(data[:-1] if damage == "cut" else data[:at] + bytes([data[at] ^ 4]) + data[at:][1:])
    counted: list[int] = []
    store(tmp_path).fill(Needs(logits=True), counted.append)
    assert sum(counted) == len(cache.plan[1])
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
    rows = fits.encoded(40)
    others = [store(tmp_path, model=fits.model(seed=1)), store(tmp_path, precision="bf16"), store(tmp_path, dtype="fp16")]
    assert len({base.key, *(other.key for other in others)}) == 4
    assert store(tmp_path / "elsewhere").key == base.key
    # Of one teacher: the examples that differ, and no others. It does not read the labels: what it says of a text serves
    # every task on it.
    changed = store(tmp_path, encoded=changed_text(rows))
    assert changed.key == base.key and np.flatnonzero(changed.keys != base.keys).tolist() == [0]
    assert (store(tmp_path, encoded=changed_label(rows)).keys == base.keys).all()


def test_which_tokens_are_asked_about_is_part_of_an_example(tmp_path: Path):
    rows = fits.encoded(40, kind="tokens")
    labels = rows.labels.copy()  # type: ignore[union-attr]
    asked = np.flatnonzero(labels != -100)
    keys = store(tmp_path, "tokens", encoded=rows).keys
    for tag, differ in ((1 - labels[asked[0]], []), (-100, [0])):
        labels[asked[0]] = tag
        other = store(tmp_path, "tokens", encoded=dataclasses.replace(rows, labels=labels))
        assert np.flatnonzero(other.keys != keys).tolist() == differ


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


def some(rows: Encoded, chosen: Sequence[int]) -> Encoded:
    """Some of the rows, in this order; one may come twice."""
    parts = [rows.input_ids[rows.offsets[i] : rows.offsets[i + 1]] for i in chosen]
    types = None
    if rows.token_type_ids is not None:
        types = np.concatenate([rows.token_type_ids[rows.offsets[i] : rows.offsets[i + 1]] for i in chosen])
    assert rows.labels is not None
    return Encoded(
        ids=[rows.ids[i] for i in chosen], input_ids=np.concatenate(parts), token_type_ids=types,
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in parts])]), labels=rows.labels[list(chosen)],
    )  # fmt: skip


def test_a_part_of_the_rows_another_order_and_one_row_more_reuse_what_is_there(tmp_path: Path):
    rows = fits.encoded(60)
    needs = Needs(logits=True, hidden=(2,))

    def asked(chosen: Sequence[int]) -> int:
        """On how many examples the teacher was run; what it says is what the live one says."""
        counted: list[int] = []
        cache = store(tmp_path, encoded=some(rows, chosen))
        cache.fill(needs, counted.append)
        live = LiveTeacher(cache.model, rows, needs, "fp32", lambda n: None).signals(chosen)
        said = CachedTeacher(cache, needs).signals(range(len(chosen)))
        torch.testing.assert_close(said.logits, live.logits, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(said.hidden[2], live.hidden[2], rtol=1e-5, atol=1e-6)
        return sum(counted)

    assert asked(range(40)) == 40
    assert asked(range(10, 30)) == 0
    assert asked(list(reversed(range(40)))) == 0
    assert asked([39, 50, 3]) == 1
    assert asked([7, 7, 51, 51, 7]) == 1
    assert asked(range(60)) == 18
    before = contents(tmp_path)
    assert len(before) == 2 * 60
    assert asked(range(60)) == 0 and contents(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "precision", "threads"),
    [
        pytest.param(*each, marks=[] if each in (("classification", "fp32", 2), ("tokens", "bf16", 1)) else pytest.mark.slow)
        for each in itertools.product(("classification", "tokens"), ("fp32", "bf16"), (1, 2))
    ],
)
def test_what_is_stored_of_an_example_does_not_depend_on_its_company(kind: str, precision: str, threads: int, tmp_path: Path):
    """Nor on how often the pass began anew: runs on other rows of the same teacher could otherwise change each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows, needs = fits.encoded(60, kind=kind), Needs(logits=True, feature="head_input", hidden=(1, 2), qkv=(2,))
        store(tmp_path / "whole", kind, encoded=rows, precision=precision).fill(needs, lambda n: None)
        expected = contents(tmp_path / "whole")
        if kind == "classification":
            for start in (0, 1, 7, 30, 50):  # a few rows, then more of them
                store(tmp_path / "grown", encoded=some(rows, range(start, 60, 1 + 50 // (start + 1))), precision=precision).fill(
                    needs, lambda n: None
                )
        store(tmp_path / "grown", kind, encoded=rows, precision=precision).fill(needs, lambda n: None)
        assert contents(tmp_path / "grown") == expected
    finally:
        torch.set_num_threads(before)


WORKER = """
import sys, time
from pathlib import Path
import fits, torch
from understudy.base import progress
from understudy.cache import SignalCache
from understudy.cache import signals as cache_module
from understudy.models.model import digest
from understudy.models.needs import Needs
progress.quiet = True
torch.set_num_threads(1)
cache_module.PART, cache_module._WAIT = 12, 0.02
cache_module.TOKENS["cpu"] = 90
model = fits.model()
cache = SignalCache(Path(sys.argv[1]), model=model, digest=digest(model.net), encoded=fits.encoded(300), precision="fp32")
say = lambda word: print(word, flush=True)
say("ready")
sys.stdin.readline()
def slowly(number):  # so that all of them have something to do, and time to die
    say(number)
    time.sleep(0.01)
cache.fill(Needs(logits=True, hidden=(1,)), slowly)
say("done")
"""


@pytest.mark.parametrize(("workers", "kills"), [pytest.param(2, 0, marks=pytest.mark.slow), (4, 2)])
def test_processes_fill_a_store_together_and_each_example_is_in_it_once(workers: int, kills: int, tmp_path: Path):
    needs = Needs(logits=True, hidden=(1,))
    store(tmp_path / "alone", encoded=fits.encoded(300)).fill(needs, lambda n: None)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "together")], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(workers)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes[:kills]:  # in the middle of a part
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.kill()
    ran = []
    for process in processes:
        out, _ = process.communicate(timeout=200)
        ran.append(sum(int(word) for word in out.split() if word != "done"))
        assert process.returncode == (-9 if process in processes[:kills] else 0)
        assert "done" in out.split() or process in processes[:kills]
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")  # which also says: once
    unique = len(set(store(tmp_path, encoded=fits.encoded(300)).keys.tolist()))
    by_the_killed = unique - sum(ran[kills:])  # whole parts, which they finished before
    assert all(number > 0 for number in ran[kills:])
    assert by_the_killed >= 0 and by_the_killed % 12 == 0 and (kills or by_the_killed == 0)
    assert not list((tmp_path / "together").glob("*/claims/*"))
