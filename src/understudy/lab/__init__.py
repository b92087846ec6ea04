"""Durable steps: a method calls them as if nothing could go wrong, and a killed run continues where it was.

Every step owns `steps/<name>/` and is keyed by what went into it. Same key and finished: loaded. Same key, unfinished:
continued. Same name, another key: an error that says what differs. Steps that do not depend on the method (the
fine-tuned teacher, its outputs, what it predicts) are shared between runs: they live under $UNDERSTUDY_HOME, by key.

    lab.py         Lab: the doors a method uses
    models.py      the checkpoint, the teacher, the student before training
    encodings.py   examples in the tokens of a model
    fits.py        one fit: its parts, its key, how its weights are judged
    teaching.py    what a teacher says, from disk or live
    steps.py       opening, finishing and loading a step
    keys.py        what names a step and where it lies
    together.py    one fit of several sub-networks
    stages.py      distillation in stages: the student, the loss and the cost of each
    candidates.py  what a search for architectures tries
    adapting.py    what is frozen before a fit, and what becomes of an adapted student
    pruning.py     the pruned student: importance, sparsity or budget, the cut
    saved.py       arrays and predictions on disk
    bare.py        models without outputs: what they can learn, how they are scored
    replay.py      repeating the end of a fit as a proof
"""

from understudy.lab.keys import difference, step_folder, tokenizer_digest
from understudy.lab.lab import Lab
from understudy.lab.models import Source, copy_of

__all__ = ["Lab", "Source", "copy_of", "difference", "step_folder", "tokenizer_digest"]
