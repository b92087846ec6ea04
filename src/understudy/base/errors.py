"""Every error a user can meet, with the exit code it ends the process with.

A message is one or two sentences: what is wrong, where (file, row, key), and what to do about it.
Anything that is not one of these is our own bug and exits with 1.
"""

from __future__ import annotations


class UnderstudyError(Exception):
    """Base of all expected errors. `exit_code` is what the command line returns."""

    exit_code = 1


class RecipeError(UnderstudyError):
    """The command or the recipe is wrong: unknown key, wrong type, impossible combination."""

    exit_code = 2


class DataError(UnderstudyError):
    """A data file or a model's labels do not fit: ragged row, unknown label, missing column, wrong encoding."""

    exit_code = 3


class SafetyError(UnderstudyError):
    """Refused for safety: pickles, remote code, paths that leave their folder."""

    exit_code = 4


class DivergedError(UnderstudyError):
    """A loss or gradient became NaN or infinite; the weights were not touched."""

    exit_code = 5


class ResourceError(UnderstudyError):
    """Disk or memory ran out, or a folder cannot be written. What was committed is intact."""

    exit_code = 6


class VerifyError(UnderstudyError):
    """A checksum or a replay does not match what was recorded."""

    exit_code = 7


class Interrupted(UnderstudyError):
    """SIGINT (130) or SIGTERM (143), raised after a checkpoint was committed."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
