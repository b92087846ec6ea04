"""What a student learns from its teacher: a weighted sum of named terms.

weighted.py      Objective, Term, Counts: the sum and its bookkeeping
terms.py         the vocabulary: every loss of `losses/` as a term
automm.py        AutoMM's six terms, and the optional ones, from a recipe
peakd.py         Pea-KD's terms, from a recipe                ptp.py   the classes its student is pre-trained on
minidisc.py      the terms of MiniDisc's and MaxiDisc's stages, from a recipe
kdnas.py         KD-NAS's hidden states, from a recipe
projections.py   the small trainable maps from the student's width to the teacher's
gather.py        pairwise terms over several processes
"""

from understudy.objective.projections import FrozenHead, Projection, projection
from understudy.objective.weighted import Counts, Objective, Seen, Term

__all__ = ["Counts", "FrozenHead", "Objective", "Projection", "Seen", "Term", "projection"]
