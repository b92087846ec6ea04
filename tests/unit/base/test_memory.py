"""A program starts itself again, once, with memory that is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.base import memory

SCRIPT = """
import os, sys
print("begun", os.getpid())
sys.stdout.flush()
from understudy.base.memory import keep_memory
keep_memory()
print(sys.argv[1:], sys.warnoptions, os.environ.get("GLIBC_TUNABLES"))
"""

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE_PAGES = _SETTING.read_text() if _SETTING.exists() else ""

needs_glibc = pytest.mark.skipif(not memory._has_glibc(), reason="the C library is not glibc")


def run(folder: Path, tunables: str | None) -> list[str]:
    script = folder / "program.py"
    script.write_text(SCRIPT)
    env = {name: value for name, value in os.environ.items() if name != memory.VARIABLE}
    if tunables is not None:
        env[memory.VARIABLE] = tunables
    command = [sys.executable, "-W", "ignore", str(script), "a b", "--x=1"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


@needs_glibc
def test_it_begins_again_with_the_same_arguments_and_number(tmp_path: Path):
    first, again, last = run(tmp_path, None)
    assert first == again and first.startswith("begun ")
    assert last == f"['a b', '--x=1'] ['ignore'] {memory.KEEP}"


@pytest.mark.parametrize("tunables", ["", "glibc.malloc.tcache_count=7"])
def test_what_was_said_before_stays(tmp_path: Path, tunables: str):
    _, last = run(tmp_path, tunables)
    assert last == f"['a b', '--x=1'] ['ignore'] {tunables}"


def test_without_glibc_or_a_way_to_start_again_it_goes_on(monkeypatch):
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: None, raising=False)
    memory.keep_memory()
    assert memory.VARIABLE not in os.environ
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)

    tried = []

    def refuse(program, arguments):
        tried.append(arguments)
        raise OSError

    monkeypatch.setattr(os, "execv", refuse)
    memory.keep_memory()
    assert len(tried) == 1 and memory.VARIABLE not in os.environ


@needs_glibc
@pytest.mark.skipif("[never]" in LARGE_PAGES or not LARGE_PAGES, reason="this system has no large pages")
def test_the_tunables_are_known_to_this_c_library():
    """A misspelt one is ignored in silence: the pages of large tensors must really be fewer."""
    script = (
        "import resource, torch\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "torch.ones(4_000_000); begun = faults()\n"
        "for _ in range(20): torch.ones(4_000_000)\n"
        "print(faults() - begun)"
    )

    def counted(tunables: str) -> int:
        env = {**os.environ, memory.VARIABLE: tunables, "OMP_NUM_THREADS": "1"}
        env.pop("LD_PRELOAD", None)
        return int(subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout)

    assert counted(memory.KEEP) < counted("") / 4
