"""The one door to the disk: whole or not at all, checked on reading, one process at a time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from understudy.base import disk
from understudy.base.errors import ResourceError, VerifyError


@pytest.fixture(autouse=True)
def no_fault() -> Iterator[None]:
    yield
    disk.fault = None


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked process; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def operations(work: Callable[[], None]) -> list[str]:
    """The fault points some work passes."""
    seen: list[str] = []
    disk.fault = lambda name, path: seen.append(name)
    work()
    disk.fault = None
    return seen


def failing(at: int, do: Callable[[], None]) -> None:
    """Do something at the fault point of this number."""
    count = -1

    def hook(name: str, path: Path) -> None:
        nonlocal count
        count += 1
        if count == at:
            do()

    disk.fault = hook


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def io_error() -> None:
    raise OSError(5, "Input/output error")


def commit(folder: Path, text: str) -> None:
    with disk.commit_dir(folder) as temporary:
        disk.write_text(temporary / "one.txt", text)
        disk.write_json(disk.make_dir(temporary / "deep") / "two.json", {"text": text})


def content(folder: Path) -> str | None:
    """What a reader gets: the text of an intact folder, None where there is none."""
    if not folder.exists():
        return None
    assert disk.problems(folder) == []
    return (folder / "one.txt").read_text()


def test_files_appear_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "file.txt"
    disk.write_text(path, "old")
    points = operations(lambda: disk.write_text(tmp_path / "other.txt", "x"))
    assert {"before-write", "after-write", "before-rename", "after-rename", "before-sync"} <= set(points)
    for at in range(len(points)):
        failing(at, kill_me)
        assert in_child(lambda: disk.write_text(path, "new")) == -signal.SIGKILL
        disk.fault = None
        assert path.read_text() in ("old", "new")
        disk.write_text(path, "old")
        failing(at, io_error)
        with pytest.raises(ResourceError, match="Input/output error"):
            disk.write_text(path, "new")
        disk.fault = None
        assert path.read_text() in ("old", "new")
        disk.write_text(path, "old")
    disk.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.txt", "other.txt"]


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_commit_leaves_all_or_nothing(there: bool, tmp_path: Path):
    points = operations(lambda: commit(tmp_path / "probe", "x"))
    if there:
        points = operations(lambda: commit(tmp_path / "probe", "x"))
    for at in range(len(points)):
        folder = tmp_path / f"run-{at}" / "kept"
        if there:
            commit(folder, "old")
        failing(at, kill_me)
        assert in_child(lambda folder=folder: commit(folder, "new")) == -signal.SIGKILL
        disk.fault = None
        assert content(folder) in ("old", "new", None)
        commit(folder, "again")
        assert content(folder) == "again"
        assert [p.name for p in folder.parent.iterdir()] == ["kept"]


@pytest.mark.parametrize("there", [False, True])
def test_a_failing_commit_keeps_what_was_there(there: bool, tmp_path: Path):
    if there:
        commit(tmp_path / "probe", "x")
    points = operations(lambda: commit(tmp_path / "probe", "x"))
    for at in range(len(points)):
        folder = tmp_path / f"run-{at}" / "kept"
        if there:
            commit(folder, "old")
        failing(at, io_error)
        with pytest.raises(ResourceError, match="Nothing that was saved is damaged"):
            commit(folder, "new")
        disk.fault = None
        assert content(folder) in (("old", "new") if there else (None, "new"))
        commit(folder, "again")
        assert [p.name for p in folder.parent.iterdir()] == ["kept"]


def test_an_error_of_ours_inside_a_commit_leaves_nothing(tmp_path: Path):
    commit(tmp_path / "kept", "old")
    with pytest.raises(KeyError), disk.commit_dir(tmp_path / "kept") as temporary:
        disk.write_text(temporary / "one.txt", "new")
        raise KeyError("x")
    assert content(tmp_path / "kept") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "The disk is full"),
        (OSError(122, "Disk quota exceeded"), "The disk is full"),
        (RuntimeError('I/O error: No space left on device (os error 28)'), "The disk is full"),
        (RuntimeError("Error while serializing: IoError(Custom { kind: StorageFull })"), "The disk is full"),
        (OSError(30, "Read-only file system"), "cannot be written"),
        (OSError(5, "Input/output error"), "Writing .* failed"),
    ],
)
def test_errors_of_the_disk_in_words(error: Exception, words: str, tmp_path: Path):
    with pytest.raises(ResourceError, match=words) as caught, disk.commit_dir(tmp_path / "kept"):
        raise error
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "zero", "delete", "extra", "manifest", "no manifest"])
def test_problems_names_what_is_wrong(damage: str, tmp_path: Path):
    folder = tmp_path / "kept"
    commit(folder, "some text")
    path = folder / "deep" / "two.json"
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif damage in ("cut", "grow"):
        path.write_bytes(data[:-1] if damage == "cut" else data + b"x")
    elif damage == "zero":
        path.write_bytes(bytes(len(data)))
    elif damage == "delete":
        path.unlink()
    elif damage == "extra":
        path = folder / "extra.txt"
        path.write_text("x")
    elif damage == "manifest":
        path = folder / disk.MANIFEST
        path.write_text(path.read_text()[:-5])
    else:
        path = folder / disk.MANIFEST
        path.unlink()
    (found,) = disk.problems(folder)
    assert str(path) in found


@pytest.mark.parametrize("text", ["[]", '{"files": 3}', '{"files": {"a": 3}}', "null", "\xff", '{"files": {"a": {}}}'])
def test_a_manifest_of_another_shape_is_a_problem_not_a_crash(text: str, tmp_path: Path):
    commit(tmp_path / "kept", "x")
    (tmp_path / "kept" / disk.MANIFEST).write_bytes(text.encode("latin-1"))
    assert disk.problems(tmp_path / "kept")


def test_every_bit_of_a_manifest_counts(tmp_path: Path):
    commit(tmp_path / "kept", "x")
    path = tmp_path / "kept" / disk.MANIFEST
    whole = path.read_bytes()
    for bit in range(0, 8 * (len(whole) - 1), 3):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert disk.problems(tmp_path / "kept"), (bit, data)


def test_latest_valid_skips_and_says(tmp_path: Path):
    assert disk.latest_valid(tmp_path / "nowhere", "step-") == (None, [])
    for number in (1, 2, 10):
        commit(tmp_path / f"step-{number:08d}", str(number))
    (tmp_path / "step-00000010" / "one.txt").write_text("damaged")
    (tmp_path / ".tmp-1-step-00000011").mkdir()
    found, skipped = disk.latest_valid(tmp_path, "step-")
    assert found == tmp_path / "step-00000002"
    assert len(skipped) == 1 and "step-00000010/one.txt" in skipped[0]
    found, skipped = disk.latest_valid(tmp_path, "step-", also=lambda path: ["lost"] if path.name[-1] == "2" else [])
    assert found == tmp_path / "step-00000001" and skipped[1] == "lost"


def test_sweep_leaves_the_living_alone(tmp_path: Path):
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    for pid in (dead, os.getppid()):
        (tmp_path / f".tmp-{pid}-folder").mkdir()
        (tmp_path / f".tmp-{pid}-file").write_text("x")
    (tmp_path / "kept").write_text("x")
    disk.sweep(tmp_path)
    left = {f".tmp-{os.getppid()}-folder", f".tmp-{os.getppid()}-file", "kept"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_json_round_trip_and_damage(tmp_path: Path):
    value = {"ä": [1, 2.5, None], "b": {"c": "\u2028"}}
    disk.write_json(tmp_path / "a.json", value)
    assert disk.read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError):
        disk.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert disk.read_json(tmp_path / "a.json") == value
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(VerifyError, match=r"a\.json is damaged"):
        disk.read_json(tmp_path / "a.json")


def test_logs_grow_by_lines_and_are_cut_to_a_length(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    for line in ("one", "two", "three"):
        disk.append_line(log, line)
    assert log.read_text() == "one\ntwo\nthree\n"
    disk.truncate(log, 8)
    assert log.read_text() == "one\ntwo\n"


def test_temporary_names_of_another_container_are_left_alone(tmp_path: Path, monkeypatch):
    """The number of a process there is another process's here, or nobody's."""
    here = disk._temporary(tmp_path / "one")
    monkeypatch.setattr(disk, "_place", lambda: "elsewhere")
    there, old = disk._temporary(tmp_path / "one"), disk._temporary(tmp_path / "old")
    monkeypatch.undo()
    assert here != there
    for path in (there, old):
        path.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    disk.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [there]


def test_remove_files_folders_and_nothing(tmp_path: Path):
    commit(tmp_path / "kept", "x")
    disk.write_text(tmp_path / "file", "x")
    for name in ("kept", "file", "nothing"):
        disk.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
