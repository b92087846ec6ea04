"""What is the student? Pure functions from a model to a smaller one.

    keep_layers.py   some of the teacher's layers        fresh.py   an architecture of its own
    share.py         layers that are used again
    importance.py    what each head and neuron matters   allocation.py   which of them stay
    sparsify.py      a pruned student, cut or in place   nested.py       several of them in one set of weights
    vocabulary.py    fewer tokens
    head.py          another head on the same encoder

A student from a named checkpoint needs no function: it is `models.load.load_model`.
"""

from understudy.students.fresh import fresh
from understudy.students.keep_layers import chosen_layers, keep_layers
from understudy.students.share import share, unroll

__all__ = ["chosen_layers", "fresh", "keep_layers", "share", "unroll"]
