"""What a student learns from its teacher: a weighted sum of named terms.

    weighted.py      Objective, Term, Counts: the sum and its bookkeeping
    terms.py         every loss of `losses/` as a term
    vocabulary.py    what a recipe may say of each term, and `build`: settings and two models become an Objective
    projections.py   the small trainable maps from the student's width to the teacher's
    gather.py        pairwise terms over several processes

The vocabulary is read with every recipe and needs no torch; the rest is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.objective.projections import FrozenHead, Projection, projection
    from understudy.objective.weighted import Counts, Objective, Seen, Term

__all__ = ["Counts", "FrozenHead", "Objective", "Projection", "Seen", "Term", "projection"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = "projections" if "roject" in name or name == "FrozenHead" else "weighted"
    return getattr(import_module(f"{__name__}.{where}"), name)
