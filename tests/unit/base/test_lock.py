"""One process at a time in a folder, and a store that nobody else decides over."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from understudy.base import disk
from understudy.base.errors import ResourceError, SafetyError
from understudy.base.home import home
from understudy.base.lock import lock

HOLD = """
import sys
from pathlib import Path
from understudy.base.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(folder: Path, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """Holds the lock of a folder until the block ends."""
    command = [*prefix, sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ResourceError, match=match), lock(folder):
        pass


def test_a_lock_keeps_others_out_and_goes_away(tmp_path: Path):
    with another_process(tmp_path) as other:
        refused(tmp_path, f"in use by process {other.pid} on ")
    with lock(tmp_path):
        refused(tmp_path, f"in use by process {os.getpid()} on ")
    assert (tmp_path / ".lock").read_bytes() == b""
    with lock(tmp_path):
        pass


def test_a_killed_process_holds_nothing_even_before_it_is_buried(tmp_path: Path):
    with another_process(tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has asked for it, as without an init
        with lock(tmp_path):
            pass


def _namespaces() -> tuple[str, ...] | None:
    command = ("unshare", "--pid", "--fork", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        return None
    return command


def test_process_numbers_of_another_container_mean_nothing(tmp_path: Path):
    """Same host name, same boot; but the number of the process over there is nobody's here."""
    command = _namespaces()
    if command is None:
        pytest.skip("namespaces of processes cannot be made here")
    with another_process(tmp_path, *command):
        refused(tmp_path, "in use by process 1 on ")


def test_waiting_is_told_at_once_and_only_once(tmp_path: Path, capsys):
    with another_process(tmp_path) as other:
        begun = time.monotonic()
        with pytest.raises(ResourceError, match="in use by"), lock(tmp_path, wait_seconds=1.0):
            pass
        assert time.monotonic() - begun >= 1.0
        assert capsys.readouterr().err.splitlines() == [
            f"Waiting for process {other.pid} on {os.uname().nodename}, which is at work in {tmp_path}."
        ]
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        with lock(tmp_path, wait_seconds=60):
            assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"{", b'{"pid": 7, "host": "gone", "boot": "x", "started": "1"}', b'{"pid": 1e999}', b"[" * 100_000],
    ids=["empty", "not text", "torn", "another host", "a number without end", "deep"],
)
def test_what_a_lock_file_says_locks_nothing(content: bytes, tmp_path: Path):
    (tmp_path / ".lock").write_bytes(content)
    with lock(tmp_path):
        (tmp_path / ".lock").write_bytes(content)  # and while it is held, it is at most no good as a name
        refused(tmp_path, "in use by another process")


@pytest.mark.parametrize("make", [os.mkdir, lambda path: os.symlink("elsewhere", path)], ids=["folder", "link"])
def test_something_else_in_its_place_is_named(make: Callable[[Path], None], tmp_path: Path):
    make(tmp_path / ".lock")
    refused(tmp_path, r"\.lock failed: ")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch):
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    refused(tmp_path, "Function not implemented")


def test_of_many_one_gets_it(tmp_path: Path):
    """Each of eight processes works in the folder for a moment; none ever meets another there."""

    def work() -> None:
        for _ in range(5):
            with lock(tmp_path, wait_seconds=60):
                handle = os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL)
                os.close(handle)
                time.sleep(0.002)
                (tmp_path / "inside").unlink()

    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            try:
                work()
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 8


def test_a_folder_that_cannot_be_written_is_used_without_a_lock(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root, permissions would not do
    with lock(tmp_path):
        assert not (tmp_path / ".lock").exists()


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "deep" / "store"))
    return tmp_path / "deep" / "store"


def test_the_store_is_made_for_its_owner_alone(store: Path):
    before = os.umask(0)
    try:
        disk.make_dir(home() / "steps" / "key")
    finally:
        os.umask(before)
    assert store.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("room", ["", "steps", "signals"])
def test_a_store_that_everybody_may_write_to_is_refused(room: str, store: Path):
    (store / room).mkdir(parents=True)
    (store / room).chmod(0o757)
    with pytest.raises(SafetyError, match=r"may write to .*UNDERSTUDY_HOME"):
        home()
    (store / room).chmod(0o755)
    assert home() == store


def test_that_others_decide_is_said_once(store: Path, capsys, monkeypatch):
    store.mkdir(parents=True)
    store.chmod(0o770)
    assert home() == home() == store
    assert capsys.readouterr().err.count("group") == 1
    monkeypatch.setenv("UNDERSTUDY_HOME", str(store.parent / "theirs"))
    (store.parent / "theirs").mkdir(mode=0o755)
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    home()
    assert "belongs to user" in capsys.readouterr().err or (store.parent / "theirs").stat().st_uid == 0


def test_a_store_that_cannot_be_written_is_named(store: Path):
    said = str(disk.explain(OSError(errno.EROFS, "Read-only file system"), store / "signals" / "x"))
    assert "UNDERSTUDY_HOME" in said and "--out" not in said
    assert "--out" in str(disk.explain(OSError(errno.EROFS, "Read-only file system"), store.parent / "run"))


def test_without_a_home_folder_the_way_out_is_said(monkeypatch):
    monkeypatch.delenv("UNDERSTUDY_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    with pytest.raises(ResourceError, match="set UNDERSTUDY_HOME"):
        home()
    assert disk.make_dir(Path(os.getcwd())).is_dir()  # whatever lies elsewhere needs none
