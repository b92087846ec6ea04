"""What may interrupt training: a signal, exhausted memory, NaN or infinity. Each ends with a message, and no work is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

import torch

from understudy.base.errors import Interrupted
from understudy.base.progress import say


class StopSignals:
    """Turns SIGTERM, SIGINT and SIGUSR1 into a request that the loop sees between two steps.

    A second signal ends the process at once; at most one checkpoint interval is lost then.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned, it also takes

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        say("Stopping: this step is finished and saved first. Once more stops at once.")

    def interruption(self, saved: str) -> Interrupted:
        code = 130 if self.received == signal.SIGINT else 143
        return Interrupted(f"Interrupted; {saved} Repeat the command to continue.", exit_code=code)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
