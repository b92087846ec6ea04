"""The lab: what methods work with. They are written as if nothing could go wrong, and a killed run continues where it stopped.

    lab.py         Lab: the models a method starts from, and what finished ones predict
    bench.py       Bench, below it: rows, the teacher's signals, fits and choices as durable steps
    fits.py        one fit: its parts, its key, what it leaves on disk
    encodings.py   examples in the tokens of a model
    layers.py      which layers a student keeps
    vocabulary.py  the tokens a student keeps
    pruning.py     the pruned student: importance, sparsity or budget, the cut
    adapting.py    what is frozen before a fit, and what becomes of an adapted student
    stages.py      distillation in stages: the student, the loss and the cost of each
    candidates.py  what a search for architectures tries
    saved.py       arrays and predictions on disk
    replay.py      repeating the end of a fit as a proof
"""

from understudy.lab.encodings import tokenizer_digest
from understudy.lab.fits import Source, copy_of
from understudy.lab.lab import Lab

__all__ = ["Lab", "Source", "copy_of", "tokenizer_digest"]
