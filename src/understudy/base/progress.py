"""What a person sees while work goes on: bars with time left on a terminal, plain lines otherwise. All on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_LINE_EVERY = 15.0
"""Seconds between plain lines when stderr is not a terminal."""

quiet = False
"""Set by processes that must not speak (other ranks, tests)."""


def say(text: str) -> None:
    """One line for the person who waits."""
    if not quiet:
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Without terminal control characters: whatever is shown may hold labels and texts of unknown origin."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def duration(seconds: float) -> str:
    """
    >>> duration(5), duration(75), duration(3700)
    ('5 s', '1 min 15 s', '1 h 02 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Counts up to `total`; a context manager. `done` is where a continued piece of work starts."""

    def __init__(self, total: int, label: str, *, done: int = 0) -> None:
        self.total, self.label, self.done = total, label, done
        self._start_done = done
        self._extra = ""
        self._bar = None

    def __enter__(self) -> Progress:
        self._started = self._last = time.monotonic()
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description:<22}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, note="")
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()
        elif error is None and self.done > self._start_done:
            self._line()

    def advance(self, n: int = 1) -> None:
        self.done += n
        if self._bar:
            self._bar.update(self._task, completed=self.done)
        elif time.monotonic() - self._last >= _LINE_EVERY and self.done < self.total:
            self._line()

    def note(self, text: str) -> None:
        """A few words behind the bar: the loss, the score."""
        self._extra = printable(text)
        if self._bar:
            self._bar.update(self._task, note=self._extra)

    def _line(self) -> None:
        self._last = time.monotonic()
        spent = self._last - self._started
        advanced = self.done - self._start_done
        left = spent / advanced * (self.total - self.done) if advanced else 0.0
        tail = f"about {duration(left)} left" if self.done < self.total else f"took {duration(spent)}"
        say(f"{self.label}: {self.done}/{self.total}, {tail}{'  ' + self._extra if self._extra else ''}")


def progress(total: int, label: str, *, done: int = 0) -> Progress:
    """
    >>> with progress(2, "encoding") as bar:
    ...     bar.advance(2)
    """
    return Progress(total, label, done=done)
