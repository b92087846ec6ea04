"""One arm with one seed, in a process of its own: `python -m understudy.compare.one FOLDER RUN PARENT`.

FOLDER holds `recipe.yaml` and gets `outcome.json`; RUN becomes an ordinary run. A process of its own, so that its memory can
be measured, a crash ends this arm alone, and the next arm starts with clean memory.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import Interrupted, UnderstudyError
from understudy.base.lock import DAY, lock

OUTCOME = "outcome.json"


def main(folder: Path, run: Path, parent: int) -> int:
    """Start or continue the run, and write down how it ended; returns the exit code."""
    # A comparison that was killed cannot pass a signal on: its runs would train on beside those of the next start.
    threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
    before = _previous(folder)
    began = time.monotonic()
    code, reason = 0, ""
    try:
        from understudy.recipe.load import load_recipe
        from understudy.run import train

        with lock(run, wait_seconds=DAY):
            pass  # a run that a killed comparison left behind is stopped first
        train(load_recipe(folder / "recipe.yaml"), run)
    except Interrupted as error:
        return error.exit_code
    except UnderstudyError as error:
        code, reason = error.exit_code, str(error)
    except MemoryError:
        code, reason = 6, "The machine ran out of memory."
    except Exception as error:
        code, reason = 1, f"This is a bug in understudy ({type(error).__name__}: {error}); see {folder / 'crash.txt'}."
        disk.write_text(folder / "crash.txt", traceback.format_exc())
    finally:
        about = {
            "code": code,
            "reason": reason,
            "ended": time.time(),
            "seconds": before.get("seconds", 0.0) + time.monotonic() - began,
            "peak_memory_mb": max(before.get("peak_memory_mb", 0.0), peak_memory_mb()),
        }
        disk.write_json(folder / OUTCOME, about)
    return code


def peak_memory_mb() -> float:
    """The peak memory of this process, in 10^6 bytes."""
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _previous(folder: Path) -> dict[str, Any]:
    path = folder / OUTCOME
    return disk.read_json(path) if path.exists() else {}


def _stop_with(parent: int) -> None:
    """Have this process receive SIGTERM as soon as its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
