"""Durable steps: what a run does is cut into steps that are made once, sealed, and found again.

Every step owns `steps/<name>/` of its run and is keyed by what went into it. Same key and finished: read. Same key,
unfinished: continued. Same name, another key: an error that says what differs. A step that does not depend on the method
is shared between runs: its content lies under $UNDERSTUDY_HOME, by key. Nothing here knows what a step computes.
"""

from understudy.steps.names import difference, key_of, read_mark, safe, step_folder
from understudy.steps.step import DONE, Step, exchanged, kept_by, open_step, read_done

__all__ = [
    "DONE", "Step", "difference", "exchanged", "kept_by", "key_of", "open_step", "read_done", "read_mark", "safe", "step_folder",
]  # fmt: skip
