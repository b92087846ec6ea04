"""The command keeps the memory of its tensors, in the process it was started in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from understudy.base import memory

FAULTS = """
import resource, torch
from understudy.base.memory import keep_memory
print(keep_memory())
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): return [torch.ones(4_000_000) for _ in range(8)]
for _ in range(10): step()
begun = faults()
for _ in range(10): step()
print(faults() - begun)
"""


def run(script: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "LD_PRELOAD")}
    command = [sys.executable, *(["-"] if stdin else ["-c", script])]
    return subprocess.run(command, input=stdin, env=env | variables, capture_output=True, text=True)


def counted(**variables: str) -> tuple[bool, int]:
    agreed, faults = run(FAULTS, OMP_NUM_THREADS="1", **variables).stdout.split()
    return agreed == "True", int(faults)


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="the C library is not glibc"
)
def test_pages_of_large_tensors_are_used_again():
    agreed, faults = counted()
    assert agreed and faults < 1000


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is not glibc")
def test_what_the_user_told_the_c_library_stays():
    agreed, faults = counted(GLIBC_TUNABLES="glibc.malloc.mmap_threshold=131072")  # each tensor in pages of its own
    assert not agreed and faults > 100_000


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: None, raising=False)
    assert memory.keep_memory() is False


def test_a_script_from_stdin_may_call_the_command():
    """A process that started itself again would find its standard input read already, and end with 0 having done nothing."""
    script = "import sys\nsys.argv[1:] = ['init', 'automm']\nfrom understudy.__main__ import main\nmain()\n"
    done = run("", stdin=script)
    assert done.returncode == 0, done.stderr
    assert "method:" in done.stdout
